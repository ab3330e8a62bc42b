/** Runs one scenario under all checkers. The first broken property ends the run. */
import { CHECKERS } from './checkers/all.ts'
import type { MakeChecker } from './checkers/checker.ts'
import { formatFact, type Fact } from './facts.ts'
import type { Scenario } from './scenario.ts'
import { SimulatedNode, type NodeParts } from './simulated-node.ts'

export interface Violation {
  readonly property: string
  readonly message: string
  readonly atMs: number
}

export interface RunOptions {
  readonly parts?: Partial<NodeParts>
  /** By property. @default all */
  readonly checkers?: Readonly<Record<string, MakeChecker>>
  onFact?(fact: Fact, nowMs: number): void
}

class Broken extends Error {}

export function runScenario(scenario: Scenario, options: RunOptions = {}): Violation | undefined {
  const { onFact } = options
  const node = new SimulatedNode(scenario, {
    ...(options.parts !== undefined && { parts: options.parts }),
    observe: (fact, nowMs) => {
      onFact?.(fact, nowMs)
      for (const { checker } of checkers) checker.onFact?.(fact, nowMs)
    },
  })
  let violation: Violation | undefined
  const checkers = Object.entries(options.checkers ?? CHECKERS).map(([property, make]) => ({
    checker: make(node, (message) => {
      violation = { property, message, atMs: node.world.nowMs }
      throw new Broken(message)
    }),
  }))
  try {
    node.run(() => {
      for (const { checker } of checkers) checker.everySecond?.(node.world.nowMs)
    })
    for (const { checker } of checkers) checker.atEnd?.(node.world.nowMs)
  } catch (error) {
    if (error instanceof Broken) return violation
    // An assertion of the production code.
    return { property: 'no fault', message: (error as Error).stack ?? String(error), atMs: node.world.nowMs }
  }
  return undefined
}

/** The violation with the last lines of what led to it, of the same run played again. */
export function describeViolation(
  scenario: Scenario,
  violation: Violation,
  options: RunOptions & { readonly linesMax: number },
): string {
  const lines: string[] = []
  runScenario(scenario, {
    ...options,
    onFact: (fact, nowMs) => {
      lines.push(formatFact(fact, nowMs))
      if (lines.length > 2 * options.linesMax) lines.splice(0, options.linesMax)
    },
  })
  return [
    `seed ${scenario.seed} (${scenario.family}) breaks "${violation.property}" at ${(violation.atMs / 1_000).toFixed(3)} s: ${violation.message}`,
    ...lines.slice(-options.linesMax),
    `again: node test/sim/main.ts ${scenario.seed}`,
  ].join('\n')
}
