import { DEFAULT_POLICY } from '../../../sdk/model/policy.ts'
import type { Random } from '../random.ts'
import type { Scenario, SimulatedFunction } from '../scenario.ts'
import { RESERVE_MIB, STEADY_BEHAVIOUR } from './pieces.ts'

/** A constant load for twelve minutes on a node with room. */
export function steadyScenario(seed: number, random: Random): Scenario {
  const functions = Array.from({ length: random.whole(1, 2) }, (_, index): SimulatedFunction => {
    // Chance arrivals at a concurrency of one are no steady load.
    const isEven = random.chance(0.5)
    const concurrency = isEven ? random.pick([1, 2, 5, 10]) : random.pick([5, 10, 20])
    const serviceMs = random.logUniform(50, 2_000)
    const instances = random.between(0.3, 5)
    const perS = Math.min(6, (instances * concurrency * 0.7 * 1_000) / serviceMs)
    return {
      name: `f${index}`,
      policy: { ...DEFAULT_POLICY, max: 20, concurrency, idleMs: 60_000, pauseMs: random.pick([0, 2_000]) },
      memoryMib: 64,
      reserveMib: RESERVE_MIB,
      arrivals: isEven ? { type: 'even', perS, phaseMs: 500 } : { type: 'poisson', perS },
      behaviour: { ...STEADY_BEHAVIOUR, waitMs: [serviceMs * 0.8, serviceMs * 1.2], cpuMs: [0.1, 0.5] },
    }
  })
  return {
    seed,
    family: 'steady',
    durationMs: 720_000,
    budget: { memoryMib: 2_000, cpus: 16 },
    startsAtOnceMax: 8,
    fullPerStart: 0,
    functions,
    changes: [],
  }
}
