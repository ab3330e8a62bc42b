/** Policies, behaviours and arrivals drawn at random: what most scenarios are made of. */
import { checkPolicy, DEFAULT_POLICY, type Policy } from '../../../sdk/model/policy.ts'
import type { ArrivalPattern } from '../arrivals.ts'
import type { Random } from '../random.ts'
import type { Behaviour } from '../scenario.ts'

/** Of most isolates. */
export const RESERVE_MIB = 12

export const STEADY_BEHAVIOUR: Behaviour = {
  startMs: [10, 25],
  waitMs: [5, 50],
  cpuMs: [0.5, 1.5],
  memoryMib: RESERVE_MIB,
  growthMibPerRequest: 0,
  crashPerRequest: 0,
  waitUntil: 0,
  waitUntilMs: [0, 0],
}

export function randomPolicy(random: Random): Policy {
  const max = random.pick([0, 0, 1, 2, 4, 8, 20])
  const min = random.chance(0.25) ? random.whole(1, max === 0 ? 2 : Math.min(max, 3)) : 0
  const idleMs = random.pick<number | 'auto'>([1_000, 2_000, 5_000, 10_000, 60_000, 'auto'])
  const ratePerS = random.chance(0.1) ? random.whole(1, 30) : 0
  return checkPolicy({
    ...DEFAULT_POLICY,
    min,
    max,
    idleMs,
    concurrency: random.pick([1, 1, 2, 5, 10, 50]),
    queue: random.pick([0, 5, 50, 1_000]),
    queueTimeoutMs: random.pick([200, 1_000, 5_000, 10_000]),
    pauseMs: random.chance(0.4) ? random.pick([100, 500, idleMs === 1_000 ? 900 : 1_500]) : 0,
    ratePerS,
    burst: ratePerS > 0 && random.chance(0.5) ? ratePerS * 2 : 0,
    quota: random.chance(0.1) ? random.whole(Math.max(3, min), 60) : 0,
    weight: random.pick([1, 1, 1, 2, 5, 10]),
  })
}

export function randomBehaviour(random: Random): Behaviour {
  const waitMs = random.logUniform(1, 800)
  const cpuMs = random.logUniform(0.2, 30)
  return {
    startMs: [random.between(5, 15), random.between(15, 60)],
    waitMs: [waitMs / 4, waitMs * 2],
    cpuMs: [cpuMs / 2, cpuMs * 2],
    memoryMib: random.between(8, 16),
    growthMibPerRequest: random.chance(0.15) ? random.logUniform(0.005, 1) : 0,
    crashPerRequest: random.chance(0.15) ? random.logUniform(0.000_5, 0.1) : 0,
    waitUntil: random.chance(0.3) ? random.between(0.01, 0.3) : 0,
    waitUntilMs: [10, random.logUniform(50, 10_000)],
  }
}

/** Around `perS` requests a second, while it is on. */
export function randomArrivals(random: Random, perS: number, durationMs: number): ArrivalPattern {
  switch (random.whole(0, 6)) {
    case 0:
      return { type: 'even', perS, phaseMs: random.between(0, 1_000) }
    case 1:
      return {
        type: 'on-off',
        perS: perS * 4,
        onMs: random.between(500, 5_000),
        offMs: random.between(2_000, 20_000),
      }
    case 2: {
      const peakMs = random.between(0.2, 0.5) * durationMs
      const peak = random.pick([0, 5, 20])
      return {
        type: 'steps',
        phases: [
          { untilMs: peakMs, perS },
          { untilMs: peakMs + random.between(2_000, 10_000), perS: perS * peak },
          { untilMs: durationMs * random.between(0.7, 1.2), perS: perS * random.pick([0, 1]) },
        ],
      }
    }
    case 3:
      return {
        type: 'daily',
        perS,
        dayMs: durationMs / random.whole(1, 3),
        phaseMs: random.between(0, durationMs),
      }
    case 4:
      return {
        type: 'periodic',
        everyMs: random.between(2_000, 15_000),
        phaseMs: random.between(0, 5_000),
        jitterMs: random.pick([0, 50, 1_000]),
        count: Math.ceil(perS * 3),
      }
    default:
      return { type: 'poisson', perS }
  }
}
