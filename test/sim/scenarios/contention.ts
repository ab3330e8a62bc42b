import { DEFAULT_POLICY } from '../../../sdk/model/policy.ts'
import type { Random } from '../random.ts'
import type { Scenario, SimulatedFunction } from '../scenario.ts'
import { RESERVE_MIB, STEADY_BEHAVIOUR } from './pieces.ts'

/** Each function alone could fill the node, and wants to from the first second to the last. */
export function contentionScenario(seed: number, random: Random): Scenario {
  const places = random.whole(4, 16)
  const serviceMs = random.pick([50, 100, 400])
  const functions = Array.from({ length: random.whole(2, 3) }, (_, index): SimulatedFunction => ({
    name: `f${index}`,
    policy: {
      ...DEFAULT_POLICY,
      max: 100,
      concurrency: 1,
      queue: 20,
      queueTimeoutMs: 5_000,
      idleMs: 10_000,
      weight: random.pick([1, 1, 2, 3, 5]),
    },
    memoryMib: 64,
    reserveMib: RESERVE_MIB,
    // Half as much again as all places together could serve.
    arrivals: { type: 'poisson', perS: (1.5 * places * 1_000) / serviceMs },
    behaviour: { ...STEADY_BEHAVIOUR, waitMs: [serviceMs * 0.8, serviceMs * 1.2], cpuMs: [0.1, 0.1] },
  }))
  return {
    seed,
    family: 'contention',
    durationMs: 20_000,
    budget: { memoryMib: places * RESERVE_MIB + random.between(0, RESERVE_MIB - 1), cpus: 16 },
    startsAtOnceMax: random.pick([2, 4, 8]),
    fullPerStart: 0,
    functions,
    changes: [],
  }
}
