/** A seed becomes a scenario: its kind first, so that every property is put to the test by many seeds. */
import { manyScenario } from './scenarios/many.ts'
import { brokenScenario } from './scenarios/broken.ts'
import { contentionScenario } from './scenarios/contention.ts'
import { floodScenario } from './scenarios/flood.ts'
import { mixedScenario } from './scenarios/mixed.ts'
import { quietScenario } from './scenarios/quiet.ts'
import { steadyScenario } from './scenarios/steady.ts'
import { turnsScenario } from './scenarios/turns.ts'
import { Random } from './random.ts'
import type { Scenario } from './scenario.ts'

type MakeScenario = (seed: number, random: Random) => Scenario

const MANY_EVERY = 1_000
/** Of a hundred seeds. */
const FAMILIES: readonly (readonly [number, MakeScenario])[] = [
  [47, (seed, random) => mixedScenario({ seed, random, tight: false })],
  [20, (seed, random) => mixedScenario({ seed, random, tight: true })],
  [10, brokenScenario],
  [7, quietScenario],
  [6, contentionScenario],
  [5, floodScenario],
  [3, turnsScenario],
  [2, steadyScenario],
]

export function makeScenario(seed: number): Scenario {
  const random = new Random(seed ^ 0x5ca1ab1e)
  if (seed % MANY_EVERY === 0) return manyScenario(seed, random)
  let left = random.next() * 100
  for (const [share, make] of FAMILIES) {
    left -= share
    if (left < 0) return make(seed, random)
  }
  throw new Error('the shares of the families sum to 100')
}
