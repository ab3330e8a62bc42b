import { DEFAULT_POLICY } from '../../../sdk/model/policy.ts'
import type { Random } from '../random.ts'
import type { Scenario, SimulatedFunction } from '../scenario.ts'
import { RESERVE_MIB, STEADY_BEHAVIOUR } from './pieces.ts'

/** Neighbours with a steady load that fits in their share, and one function at a hundred times of it. */
export function floodScenario(seed: number, random: Random): Scenario {
  const neighbours = random.whole(1, 3)
  const places = random.whole(3, 5) * (neighbours + 1)
  const floodFromMs = random.pick([0, 5_000])
  const victims = Array.from({ length: neighbours }, (_, index): SimulatedFunction => ({
    name: `neighbour${index}`,
    policy: { ...DEFAULT_POLICY, max: 100, concurrency: 2, idleMs: 10_000, weight: random.pick([1, 1, 3]) },
    memoryMib: 64,
    reserveMib: RESERVE_MIB,
    arrivals: { type: 'poisson', perS: random.between(1, 4) },
    behaviour: { ...STEADY_BEHAVIOUR, waitMs: [50, 150], cpuMs: [0.1, 0.1] },
  }))
  const perS = random.between(1, 4) * 100
  const flood: SimulatedFunction = {
    name: 'flood',
    policy: {
      ...DEFAULT_POLICY,
      max: 100,
      concurrency: 2,
      queue: 100,
      queueTimeoutMs: 2_000,
      idleMs: 10_000,
    },
    memoryMib: 64,
    reserveMib: RESERVE_MIB,
    arrivals: {
      type: 'steps',
      phases: [
        { untilMs: floodFromMs, perS: perS / 100 },
        { untilMs: 20_000, perS },
      ],
    },
    behaviour: { ...STEADY_BEHAVIOUR, waitMs: [100, 400], cpuMs: [0.1, 0.1] },
  }
  return {
    seed,
    family: 'flood',
    durationMs: 22_000,
    budget: { memoryMib: places * RESERVE_MIB, cpus: 16 },
    startsAtOnceMax: random.pick([2, 4]),
    fullPerStart: 0,
    functions: [flood, ...victims],
    changes: [],
  }
}
