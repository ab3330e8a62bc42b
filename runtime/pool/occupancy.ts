/**
 * How many requests of a version were present (in flight or waiting), as a mean over time. Exact, not sampled: the
 * integral of a count is the sum of its requests' ends less the sum of their beginnings, both clipped to the interval,
 * so each request adds two numbers that its log line has read from the clock anyway, and one that came and went between
 * two reports counts for as long as it was there.
 */
export class Occupancy {
  #present = 0
  #sinceMs: number
  /** Of the interval since `sinceMs`, as if all who are present had left at its begin. */
  #areaMs = 0

  constructor(nowMs: number) {
    this.#sinceMs = nowMs
  }

  enter(nowMs: number): void {
    this.#present++
    this.#areaMs -= nowMs - this.#sinceMs
  }

  leave(nowMs: number): void {
    this.#present--
    this.#areaMs += nowMs - this.#sinceMs
  }

  /** The mean since the last call; the next one begins now. */
  take(nowMs: number): number {
    const spanMs = nowMs - this.#sinceMs
    const areaMs = this.#areaMs + this.#present * spanMs
    this.#sinceMs = nowMs
    this.#areaMs = 0
    // What the sum of many differences leaves behind may be a hair below nothing.
    return spanMs <= 0 ? this.#present : Math.max(0, areaMs / spanMs)
  }
}
