/**
 * `node test/sim/main.ts <seed>` plays a seed again and prints its timeline; `node test/sim/main.ts <first> <last>` runs
 * many and prints those that break a property.
 */
import { parseArgs } from 'node:util'
import { formatFact } from './facts.ts'
import { makeScenario } from './make-scenario.ts'
import { describeViolation, runScenario } from './run-scenario.ts'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { requests: { type: 'boolean', default: false }, lines: { type: 'string', default: '40' } },
})
const OF_REQUESTS = new Set(['arrived', 'queued', 'slot', 'released', 'finished'])
const [first, last] = positionals.map(Number)
if (first === undefined) {
  console.error('node test/sim/main.ts <seed> [--requests], or <first seed> <last seed> [--lines <count>]')
  process.exitCode = 2
} else if (last === undefined) {
  const scenario = makeScenario(first)
  const { functions, changes, ...rest } = scenario
  for (const part of [rest, ...functions, ...changes]) console.log(JSON.stringify(part))
  const violation = runScenario(scenario, {
    onFact: (fact, nowMs) => {
      if (values.requests || !OF_REQUESTS.has(fact.type)) console.log(formatFact(fact, nowMs))
    },
  })
  console.log(violation === undefined ? 'all properties hold' : violation)
} else {
  const costs = new Map<string, { runs: number; ms: number; broken: number }>()
  for (let seed = first; seed <= last; seed++) {
    const scenario = makeScenario(seed)
    const beganMs = performance.now()
    const violation = runScenario(scenario)
    const cost = costs.get(scenario.family) ?? { runs: 0, ms: 0, broken: 0 }
    costs.set(scenario.family, cost)
    cost.runs++
    cost.ms += performance.now() - beganMs
    if (violation === undefined) continue
    cost.broken++
    process.exitCode = 1
    console.log(describeViolation(scenario, violation, { linesMax: Number(values.lines) }))
  }
  for (const [family, { runs, ms, broken }] of costs)
    console.log(`${family}: ${runs} runs, ${(ms / runs).toFixed(1)} ms each, ${broken} broken`)
}
