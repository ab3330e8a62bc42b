/**
 * When requests come. An arrival process says, given the time of one request, when the next comes; `Infinity`: never.
 * All are pure but for the randomness they are given, and may keep state of their own (`makeArrivals` per run).
 */
import type { Random } from './random.ts'

export type ArrivalPattern =
  | { readonly type: 'none' }
  /** Independent of each other, so many a second on average. */
  | { readonly type: 'poisson'; readonly perS: number }
  /** Exactly evenly spaced. */
  | { readonly type: 'even'; readonly perS: number; readonly phaseMs: number }
  /** Bursts of Poisson arrivals between silences; both last exponentially long, or heavy-tailed with `tail`. */
  | {
      readonly type: 'on-off'
      readonly perS: number
      readonly onMs: number
      readonly offMs: number
      readonly tail?: number
    }
  /** Poisson with another rate in each phase; silent after the last. */
  | {
      readonly type: 'steps'
      readonly phases: readonly { readonly untilMs: number; readonly perS: number }[]
    }
  /** Poisson with a rate that swings like a day around its mean: 0 at night, twice the mean at noon. */
  | { readonly type: 'daily'; readonly perS: number; readonly dayMs: number; readonly phaseMs: number }
  /** Like cron: at fixed times, `count` requests, each within the jitter. */
  | {
      readonly type: 'periodic'
      readonly everyMs: number
      readonly phaseMs: number
      readonly jitterMs: number
      readonly count: number
    }

export interface Arrivals {
  /** Time of the first request after `nowMs`; called with the time of the last one. */
  nextMs(nowMs: number): number
}

export function makeArrivals(pattern: ArrivalPattern, random: Random): Arrivals {
  switch (pattern.type) {
    case 'none':
      return { nextMs: () => Number.POSITIVE_INFINITY }
    case 'poisson':
      return { nextMs: (nowMs) => nowMs + random.exponential(1_000 / pattern.perS) }
    case 'even': {
      const stepMs = 1_000 / pattern.perS
      let count = 0
      return { nextMs: () => pattern.phaseMs + stepMs * count++ }
    }
    case 'on-off':
      return onOff(pattern, random)
    case 'steps':
      return steps(pattern, random)
    case 'daily':
      return daily(pattern, random)
    case 'periodic':
      return periodic(pattern, random)
    default:
      return pattern satisfies never
  }
}

function onOff(pattern: Extract<ArrivalPattern, { type: 'on-off' }>, random: Random): Arrivals {
  const { perS, onMs, offMs, tail } = pattern
  const length = (meanMs: number): number =>
    tail === undefined ? random.exponential(meanMs) : random.pareto(meanMs / 3, tail)
  let onUntilMs = random.chance(onMs / (onMs + offMs)) ? length(onMs) : 0
  return {
    nextMs: (nowMs) => {
      const nextMs = nowMs + random.exponential(1_000 / perS)
      if (nextMs <= onUntilMs) return nextMs
      const onFromMs = Math.max(nowMs, onUntilMs) + length(offMs)
      onUntilMs = onFromMs + length(onMs)
      return onFromMs
    },
  }
}

function steps(pattern: Extract<ArrivalPattern, { type: 'steps' }>, random: Random): Arrivals {
  return {
    nextMs: (nowMs) => {
      let fromMs = nowMs
      for (const { untilMs, perS } of pattern.phases) {
        if (fromMs >= untilMs) continue
        const nextMs = perS > 0 ? fromMs + random.exponential(1_000 / perS) : Number.POSITIVE_INFINITY
        if (nextMs < untilMs) return nextMs
        // The process has no memory, so the rest of the wait is drawn anew at the next phase's rate.
        fromMs = untilMs
      }
      return Number.POSITIVE_INFINITY
    },
  }
}

/** By thinning: candidates at the peak rate, each taken with the share that the rate has of the peak. */
function daily(pattern: Extract<ArrivalPattern, { type: 'daily' }>, random: Random): Arrivals {
  const { perS, dayMs, phaseMs } = pattern
  return {
    nextMs: (nowMs) => {
      let atMs = nowMs
      do atMs += random.exponential(500 / perS)
      while (!random.chance((1 - Math.cos((2 * Math.PI * (atMs + phaseMs)) / dayMs)) / 2))
      return atMs
    },
  }
}

function periodic(pattern: Extract<ArrivalPattern, { type: 'periodic' }>, random: Random): Arrivals {
  const { everyMs, phaseMs, jitterMs, count } = pattern
  let turn = 0
  let pendingMs: number[] = []
  return {
    nextMs: () => {
      if (pendingMs.length === 0) {
        const atMs = phaseMs + everyMs * turn++
        pendingMs = Array.from({ length: count }, () => atMs + random.between(0, jitterMs)).sort(
          (a, b) => b - a,
        )
      }
      return pendingMs.pop() ?? Number.POSITIVE_INFINITY
    },
  }
}

/** Rates of `count` items that sum to `total`, the k-th in proportion to k^-exponent. */
export function zipfRates(options: {
  readonly count: number
  readonly total: number
  readonly exponent: number
}): number[] {
  const weights = Array.from({ length: options.count }, (_, index) => (index + 1) ** -options.exponent)
  const sum = weights.reduce((total, weight) => total + weight, 0)
  return weights.map((weight) => (weight / sum) * options.total)
}
