import { DEFAULT_POLICY } from '../../../sdk/model/policy.ts'
import { zipfRates } from '../arrivals.ts'
import type { Random } from '../random.ts'
import type { Scenario } from '../scenario.ts'
import { RESERVE_MIB, STEADY_BEHAVIOUR } from './pieces.ts'

/** Thousands of functions, most of them quiet, on a node with room for some dozens. */
export function manyScenario(seed: number, random: Random): Scenario {
  const rates = zipfRates({ count: random.whole(1_000, 4_000), total: 40, exponent: 0.9 })
  return {
    seed,
    family: 'many',
    durationMs: 60_000,
    budget: { memoryMib: random.whole(50, 80) * RESERVE_MIB, cpus: 4 },
    startsAtOnceMax: 8,
    fullPerStart: 0,
    functions: rates.map((perS, index) => ({
      name: `f${index}`,
      policy: { ...DEFAULT_POLICY, max: 4, weight: index % 7 === 0 ? 2 : 1 },
      memoryMib: 64,
      reserveMib: RESERVE_MIB,
      arrivals: { type: 'poisson', perS },
      behaviour: STEADY_BEHAVIOUR,
    })),
    changes: [],
  }
}
