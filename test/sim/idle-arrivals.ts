/**
 * Requests of one function over days, drawn as "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020, §3) found them:
 * mean rates over eight orders of magnitude, most functions below one a minute; timers, chance, and bursts between
 * silences without a typical length.
 */
import { makeArrivals, type ArrivalPattern, type Arrivals } from './arrivals.ts'
import { Random } from './random.ts'

export const PATTERNS = ['timers', 'Poisson', 'daily swing', 'bursts'] as const

export interface FunctionArrivals {
  readonly pattern: (typeof PATTERNS)[number]
  /** The same ones every time. */
  requests(untilMs: number): Iterable<IdleRequest>
}

export interface IdleRequest {
  readonly atMs: number
  readonly durationMs: number
}

const MINUTE_MS = 60_000
const DAY_MS = 86_400_000
/** Share of functions whose mean rate, in requests a day, is at most so much. */
const RATE_QUANTILES: readonly (readonly [number, number])[] = [
  [0, 0.1],
  [0.45, 24],
  [0.81, 1_440],
  [1, 8_640_000],
]
const TIMERS_MIN = [1, 2, 5, 10, 15, 20, 30, 60, 120, 360, 720, 1_440]
/** A gap of a minute is what matters: beyond it more requests only take longer to run. */
const PER_S_MAX = 1
const DURATION_MEDIAN_MS = 600
const BURST_REQUESTS_MEAN = 8
const BURST_GAP_MS = 5_000
const SILENCE_SHAPE = 1.1

export function makeFunctionArrivals(random: Random): FunctionArrivals {
  const perDay = ratePerDay(random.next())
  const perS = Math.min(PER_S_MAX, (perDay * 1_000) / DAY_MS)
  const pattern = patternAt(random.next())
  const seed = random.whole(0, 0xffff_ffff)
  return {
    pattern,
    *requests(untilMs) {
      const own = new Random(seed)
      const arrivals = arrivalsOf(pattern, perS, own)
      for (let atMs = arrivals.nextMs(0); atMs < untilMs; atMs = arrivals.nextMs(atMs)) {
        yield { atMs, durationMs: DURATION_MEDIAN_MS * Math.exp(normal(own)) }
      }
    },
  }
}

function ratePerDay(share: number): number {
  for (let index = 1; index < RATE_QUANTILES.length; index++) {
    const [low, slow] = RATE_QUANTILES[index - 1]!
    const [high, fast] = RATE_QUANTILES[index]!
    if (share <= high) return slow * (fast / slow) ** ((share - low) / (high - low))
  }
  throw new Error(`${share} is no share`)
}

function patternAt(share: number): FunctionArrivals['pattern'] {
  if (share < 0.35) return 'timers'
  if (share < 0.55) return 'Poisson'
  return share < 0.7 ? 'daily swing' : 'bursts'
}

function arrivalsOf(pattern: FunctionArrivals['pattern'], perS: number, random: Random): Arrivals {
  const meanGapMs = 1_000 / perS
  if (pattern === 'bursts') return bursts(meanGapMs, random)
  return makeArrivals(arrivalPattern(pattern, perS, random), random)
}

function arrivalPattern(
  pattern: 'timers' | 'Poisson' | 'daily swing',
  perS: number,
  random: Random,
): ArrivalPattern {
  if (pattern === 'Poisson') return { type: 'poisson', perS }
  if (pattern === 'daily swing')
    return { type: 'daily', perS, dayMs: DAY_MS, phaseMs: random.between(0, DAY_MS) }
  // The timer that is nearest to the rate, and what it starts at a time where no timer is that fast.
  const gapMin = 1_000 / perS / MINUTE_MS
  const everyMin = TIMERS_MIN.reduce((best, minutes) =>
    Math.abs(Math.log(minutes / gapMin)) < Math.abs(Math.log(best / gapMin)) ? minutes : best,
  )
  const everyMs = everyMin * MINUTE_MS
  return {
    type: 'periodic',
    everyMs,
    phaseMs: random.between(0, everyMs),
    jitterMs: 1_000,
    count: Math.max(1, Math.round((perS * everyMs) / 1_000)),
  }
}

/** A geometric number of requests a few seconds apart, then a silence with a heavy tail. */
function bursts(meanGapMs: number, random: Random): Arrivals {
  const gapMs = Math.min(BURST_GAP_MS, meanGapMs / 2)
  const silenceMs = BURST_REQUESTS_MEAN * (meanGapMs - gapMs) + gapMs
  // Of a Pareto distribution the mean is low × shape / (shape − 1).
  const lowMs = (silenceMs * (SILENCE_SHAPE - 1)) / SILENCE_SHAPE
  let isFirst = true
  return {
    nextMs: (nowMs) => {
      if (isFirst) {
        isFirst = false
        return nowMs + random.next() * silenceMs
      }
      if (random.chance(1 - 1 / BURST_REQUESTS_MEAN)) return nowMs + random.exponential(gapMs)
      return nowMs + random.pareto(lowMs, SILENCE_SHAPE)
    },
  }
}

function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next())
}
