import { checkPolicy } from '../../../sdk/model/policy.ts'
import type { Random } from '../random.ts'
import type { Scenario, SimulatedFunction } from '../scenario.ts'
import { randomBehaviour, randomPolicy, RESERVE_MIB } from './pieces.ts'

/** Requests for a while, then none for so long that everything but minimums must be gone. */
export function quietScenario(seed: number, random: Random): Scenario {
  const busyMs = random.between(3_000, 15_000)
  const functions = Array.from({ length: random.whole(1, 5) }, (_, index): SimulatedFunction => {
    const idleMs = random.pick([1_000, 3_000, 10_000, 30_000])
    return {
      name: `f${index}`,
      policy: checkPolicy({ ...randomPolicy(random), idleMs, pauseMs: random.pick([0, 100, 900]) }),
      memoryMib: 64,
      reserveMib: RESERVE_MIB,
      arrivals: { type: 'steps', phases: [{ untilMs: busyMs, perS: random.logUniform(0.5, 15) }] },
      behaviour: randomBehaviour(random),
    }
  })
  return {
    seed,
    family: 'quiet',
    durationMs: busyMs + 60_000,
    budget: { memoryMib: 1_000, cpus: random.pick([1, 2, 4]) },
    startsAtOnceMax: 4,
    fullPerStart: 0,
    functions,
    changes: [],
  }
}
