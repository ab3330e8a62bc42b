import { LATENCY_BUCKETS_S, type Histogram } from '../sdk/model/router-metrics.ts'

const BOUNDS_MS = LATENCY_BUCKETS_S.map((bound) => bound * 1_000)
const SUM = BOUNDS_MS.length + 1

/** One array of numbers: counts, then the sum. To observe is a short loop (most requests are in the first buckets) and two additions. */
export class LatencyHistogram {
  readonly #cells = new Float64Array(SUM + 1)

  observe(ms: number): void {
    const cells = this.#cells
    let index = 0
    while (index < BOUNDS_MS.length && ms > BOUNDS_MS[index]!) index++
    cells[index]!++
    cells[SUM]! += ms
  }

  toJSON(): Histogram {
    return {
      counts: Array.from(this.#cells.subarray(0, SUM)),
      // As many digits as the clock has.
      sumS: Math.round(this.#cells[SUM]! * 1_000) / 1_000_000,
    }
  }
}
