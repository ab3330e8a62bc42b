/**
 * Requests in flight or waiting of one version, remembered for a minute: sixty one-second buckets of level × time, so
 * that a mean over any window up to that is exact to the second whatever the rhythm of the reports. A version that is
 * younger than the window is averaged over its age: its first seconds are not diluted by a past that it did not have. Its
 * first second is: a moment is no trend.
 */
export const STABLE_WINDOW_MS = 60_000
export const PANIC_WINDOW_MS = 6_000

const BUCKET_MS = 1_000
/** One more than the window: its oldest second is counted in part. */
const BUCKETS = STABLE_WINDOW_MS / BUCKET_MS + 1

export class DemandWindow {
  /** Level × milliseconds, by second modulo `BUCKETS`. */
  readonly #areas = new Float64Array(BUCKETS)
  readonly #bornMs: number
  /** Up to here the areas are filled; after it the level holds. */
  #filledMs: number
  #level = 0

  constructor(nowMs: number) {
    this.#bornMs = nowMs
    this.#filledMs = nowMs
  }

  /** From now on so many. */
  step(level: number, nowMs: number): void {
    this.#fill(this.#level, nowMs)
    this.#level = level
  }

  /** Since the last word there were `mean` of them on average, and now `level`. */
  report(mean: number, level: number, nowMs: number): void {
    this.#fill(mean, nowMs)
    this.#level = level
  }

  mean(windowMs: number, nowMs: number): number {
    const fromMs = Math.max(nowMs - Math.min(windowMs, STABLE_WINDOW_MS), this.#bornMs)
    let area = this.#level * Math.max(0, nowMs - Math.max(fromMs, this.#filledMs))
    for (let startMs = floorToBucket(fromMs); startMs < this.#filledMs; startMs += BUCKET_MS) {
      // Of the oldest second only what lies inside, as if its requests had been spread evenly.
      const beginMs = Math.max(startMs, this.#bornMs)
      const endMs = Math.min(startMs + BUCKET_MS, this.#filledMs)
      const inside = endMs <= beginMs ? 0 : Math.max(0, endMs - Math.max(fromMs, beginMs)) / (endMs - beginMs)
      area += this.#areas[indexOf(startMs)]! * inside
    }
    return area / Math.max(BUCKET_MS, nowMs - fromMs)
  }

  #fill(level: number, untilMs: number): void {
    if (untilMs <= this.#filledMs) return
    let atMs = this.#filledMs
    if (untilMs - atMs >= BUCKETS * BUCKET_MS) {
      this.#areas.fill(0)
      atMs = floorToBucket(untilMs) - STABLE_WINDOW_MS
    }
    while (atMs < untilMs) {
      const startMs = floorToBucket(atMs)
      const index = indexOf(startMs)
      // Entered at its beginning: what the bucket held is a minute old.
      if (atMs === startMs) this.#areas[index] = 0
      const endMs = Math.min(startMs + BUCKET_MS, untilMs)
      this.#areas[index]! += level * (endMs - atMs)
      atMs = endMs
    }
    this.#filledMs = untilMs
  }
}

function floorToBucket(ms: number): number {
  return Math.floor(ms / BUCKET_MS) * BUCKET_MS
}

function indexOf(startMs: number): number {
  const index = (startMs / BUCKET_MS) % BUCKETS
  return index < 0 ? index + BUCKETS : index
}
