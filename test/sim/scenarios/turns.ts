import { DEFAULT_POLICY } from '../../../sdk/model/policy.ts'
import type { Random } from '../random.ts'
import type { Scenario, SimulatedFunction } from '../scenario.ts'
import { RESERVE_MIB, STEADY_BEHAVIOUR } from './pieces.ts'

/** More busy functions than places: all that they can do is to take turns. */
export function turnsScenario(seed: number, random: Random): Scenario {
  const places = random.whole(1, 4)
  const weightMax = random.pick([1, 2])
  const functions = Array.from({ length: places + random.whole(1, 4) }, (_, index): SimulatedFunction => ({
    name: `f${index}`,
    policy: {
      ...DEFAULT_POLICY,
      concurrency: random.pick([1, 2, 10]),
      queue: 100,
      queueTimeoutMs: 60_000,
      idleMs: random.pick([1_000, 10_000]),
      weight: random.whole(1, weightMax),
    },
    memoryMib: 64,
    reserveMib: RESERVE_MIB,
    arrivals: { type: 'poisson', perS: random.between(10, 30) },
    behaviour: { ...STEADY_BEHAVIOUR, waitMs: [50, random.between(100, 500)] },
  }))
  return {
    seed,
    family: 'turns',
    durationMs: 40_000,
    budget: { memoryMib: places * RESERVE_MIB, cpus: 8 },
    startsAtOnceMax: 4,
    fullPerStart: 0,
    functions,
    changes: [],
  }
}
