/** The first response of a paused instance at the client, beside one of a warm instance and of none, taking turns. */
import { sourceOf, startBenchNode, type BenchNode } from './bench-node.ts'
import { firstAnswer } from './first-answer.ts'
import { formatNumber, type BenchOptions, type Report } from './report.ts'
import { quantile } from './statistics.ts'

/** A function for each rung of the ladder: policies that bring an instance there and keep it. */
const RUNGS = [
  { name: 'warm', policy: { min: 1 } },
  { name: 'paused', policy: { min: 1, pauseMs: 100 } },
  { name: 'cold', policy: { idleMs: 100 } },
] as const

type Rung = (typeof RUNGS)[number]

export async function run(options: BenchOptions): Promise<Report> {
  const samples = options.quick ? 3 : 40
  const bench = await startBenchNode()
  try {
    for (const { name, policy } of RUNGS) {
      await bench.deploy(name, sourceOf(name))
      await bench.client.setPolicy(name, policy)
    }
    const taken = new Map<Rung, number[]>(RUNGS.map((rung) => [rung, []]))
    for (let sample = 0; sample < samples; sample++) {
      options.progress(`${sample + 1} of ${samples}`)
      for (const rung of RUNGS) taken.get(rung)!.push(await sampleOf(bench, rung))
    }
    const row = (rung: Rung): string[] => [
      rung.name,
      ...[0, 0.5, 0.99].map((share) => formatNumber(quantile(taken.get(rung)!, share))),
    ]
    return {
      conditions: [
        ...bench.conditions,
        `${samples} requests a row, taking turns; before each, the node's own status says that the instance is ${RUNGS.map(({ name }) => name).join(' / ')}`,
        'ms from the first byte sent over an open connection to the first byte of the response',
      ],
      tables: [
        {
          title: 'First response',
          columns: ['instance', 'best ms', 'p50 ms', 'p99 ms'],
          rows: RUNGS.map(row),
        },
      ],
      marks: [
        {
          promise: 'resume from pause, p50',
          measured: quantile(taken.get(RUNGS[1])!, 0.5),
          limit: 5,
          unit: 'ms',
        },
      ],
    }
  } finally {
    await bench.stop()
  }
}

async function sampleOf(bench: BenchNode, { name }: Rung): Promise<number> {
  await bench.waitFor(`${name} is ${name}, and blanks wait`, (processes) => {
    const states = processes.filter((each) => each.function === name).map(({ state }) => state)
    if (processes.filter(({ role }) => role === 'blank').length < 2) return false
    if (name === 'cold') return states.length === 0
    return states.length === 1 && states[0] === (name === 'warm' ? 'running' : 'paused')
  })
  const answer = await firstAnswer(bench.where, `${name}.localhost`)
  if (answer.status !== 200) throw new Error(`${name} answered ${answer.text}`)
  return answer.ms
}
