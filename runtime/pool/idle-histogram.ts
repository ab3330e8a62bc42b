/**
 * How long an idle function is kept warm, by the history of its own idle times: the hybrid histogram policy of
 * "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020, §4.2). Idle times go into one-minute bins over four hours.
 * The shortest 5 % say when an instance may be needed again at the earliest, the longest 1 % until when: between the
 * two it is warm, before and after it is not. Where the histogram says nothing (too few idle times, bins that are all
 * alike, most idle times beyond the range) a fixed time holds.
 *
 * Not taken over: the forecast by ARIMA for functions that are called less than every four hours (a cold start costs
 * 15 ms here, a model per function more), and a fixed time as long as the range: ten minutes is what the paper found
 * with providers, and what memory on a small node allows.
 */
const IDLE_BIN_MS = 60_000
const IDLE_BINS = 240
export const IDLE_FALLBACK_MS = 600_000

const HEAD_PERCENT = 5
const TAIL_PERCENT = 99
/** The windows are wider by it on both sides. */
const MARGIN = 0.1
/** Coefficient of variation of the bins' counts: below it the bins are all alike. */
const VARIATION_MIN = 2
/** With fewer, any bin would look like a pattern. */
const SAMPLES_MIN = 5
const OUT_OF_RANGE_SHARE_MAX = 0.5
/** Beyond so many all counts are halved: what a function did long ago fades. */
const SAMPLES_MAX = 10_000

export interface IdleWindows {
  /** From the last request until an instance is to be warm again; 0: it never left. */
  readonly preWarmMs: number
  /** From there on (or from the last request) it is kept so long. */
  readonly keepAliveMs: number
  readonly basis: 'history' | 'fallback'
}

/** As plain JSON: `[bin, count]` of the bins that are not empty. */
export interface IdleHistogramJson {
  readonly bins: readonly (readonly [number, number])[]
  readonly outOfRange: number
}

const FALLBACK: IdleWindows = { preWarmMs: 0, keepAliveMs: IDLE_FALLBACK_MS, basis: 'fallback' }

export class IdleHistogram {
  readonly #counts = new Uint32Array(IDLE_BINS)
  #samples = 0
  #outOfRange = 0
  /** Counts are whole numbers, so mean and variance come exactly from two sums, one step per idle time. */
  #sumOfSquares = 0

  /** Undefined for what is no such JSON. */
  static fromJson(json: unknown): IdleHistogram | undefined {
    const { bins, outOfRange } = (json ?? {}) as Partial<Record<keyof IdleHistogramJson, unknown>>
    if (!Array.isArray(bins) || bins.length > IDLE_BINS || !isCount(outOfRange)) return undefined
    const histogram = new IdleHistogram()
    for (const entry of bins as unknown[]) {
      const [bin, count] = Array.isArray(entry) ? (entry as unknown[]) : []
      if (!isCount(bin) || bin >= IDLE_BINS || !isCount(count)) return undefined
      histogram.#add(bin, count - histogram.#counts[bin]!)
    }
    histogram.#outOfRange = outOfRange
    return histogram
  }

  toJson(): IdleHistogramJson {
    const bins: [number, number][] = []
    for (const [bin, count] of this.#counts.entries()) if (count > 0) bins.push([bin, count])
    return { bins, outOfRange: this.#outOfRange }
  }

  /** From the end of the last request to the arrival of the next. */
  record(idleMs: number): void {
    const bin = Math.floor(Math.max(0, idleMs) / IDLE_BIN_MS)
    if (bin < IDLE_BINS) this.#add(bin, 1)
    else this.#outOfRange++
    if (this.#samples + this.#outOfRange > SAMPLES_MAX) this.#halve()
  }

  windows(): IdleWindows {
    const all = this.#samples + this.#outOfRange
    if (this.#samples < SAMPLES_MIN || this.#outOfRange > all * OUT_OF_RANGE_SHARE_MAX) return FALLBACK
    if (this.#variation() < VARIATION_MIN) return FALLBACK
    const head = this.#binAt(HEAD_PERCENT)
    const tail = this.#binAt(TAIL_PERCENT)
    const preWarmMs = Math.round(head * IDLE_BIN_MS * (1 - MARGIN))
    const untilMs = Math.round((tail + 1) * IDLE_BIN_MS * (1 + MARGIN))
    return { preWarmMs, keepAliveMs: untilMs - preWarmMs, basis: 'history' }
  }

  /** Bin that holds the idle time with so many percent of all below it. */
  #binAt(percent: number): number {
    const rank = Math.max(1, Math.ceil((this.#samples * percent) / 100))
    let sum = 0
    for (let bin = 0; bin < IDLE_BINS; bin++) {
      sum += this.#counts[bin]!
      if (sum >= rank) return bin
    }
    return IDLE_BINS - 1
  }

  #variation(): number {
    const mean = this.#samples / IDLE_BINS
    return Math.sqrt(Math.max(0, this.#sumOfSquares / IDLE_BINS - mean * mean)) / mean
  }

  #add(bin: number, more: number): void {
    const before = this.#counts[bin]!
    this.#counts[bin] = before + more
    this.#samples += more
    this.#sumOfSquares += (before + more) ** 2 - before ** 2
  }

  #halve(): void {
    for (let bin = 0; bin < IDLE_BINS; bin++) {
      const count = this.#counts[bin]!
      this.#add(bin, Math.floor(count / 2) - count)
    }
    this.#outOfRange = Math.floor(this.#outOfRange / 2)
  }
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= SAMPLES_MAX
}
