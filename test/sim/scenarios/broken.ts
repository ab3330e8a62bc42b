import { DEFAULT_POLICY } from '../../../sdk/model/policy.ts'
import type { Random } from '../random.ts'
import type { Scenario, SimulatedFunction } from '../scenario.ts'
import { randomPolicy, RESERVE_MIB, STEADY_BEHAVIOUR } from './pieces.ts'

/** One function cannot start, or crashes as soon as it has; later it is healed. Another beside it works. */
export function brokenScenario(seed: number, random: Random): Scenario {
  const fromMs = random.chance(0.5) ? 0 : random.between(2_000, 10_000)
  const untilMs = fromMs + random.logUniform(2_000, 40_000)
  const policy = randomPolicy(random)
  const functions: SimulatedFunction[] = [
    {
      name: 'broken',
      // What is under test is that it comes back: its own limits are not to stand in the way.
      policy: {
        ...policy,
        ratePerS: 0,
        burst: 0,
        quota: 0,
        queue: 50,
        min: random.chance(0.3) ? policy.min : 0,
      },
      memoryMib: 64,
      reserveMib: RESERVE_MIB,
      arrivals: { type: 'poisson', perS: random.logUniform(2, 20) },
      behaviour: {
        ...STEADY_BEHAVIOUR,
        broken: { fromMs, untilMs, how: random.pick(['start', 'crash']) },
      },
    },
    {
      name: 'sound',
      policy: { ...DEFAULT_POLICY, concurrency: random.pick([1, 10]), idleMs: 5_000 },
      memoryMib: 64,
      reserveMib: RESERVE_MIB,
      arrivals: { type: 'poisson', perS: random.logUniform(0.2, 5) },
      behaviour: STEADY_BEHAVIOUR,
    },
  ]
  return {
    seed,
    family: 'broken',
    // The wait of a row of faults is never longer than a minute, and no longer than what has passed since the first.
    durationMs: untilMs + Math.min(60_000, 1.2 * (untilMs - fromMs)) + 8_000,
    budget: { memoryMib: 800, cpus: 4 },
    startsAtOnceMax: 4,
    fullPerStart: 0,
    functions,
    changes: [],
  }
}
