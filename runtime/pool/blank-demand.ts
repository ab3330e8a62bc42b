/**
 * How many blanks should wait: as many as are claimed while their successors are being made. That is the rate of
 * starts over the last ten seconds times what a blank takes to be made, and what came at once on top of it.
 */
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'

/** From one claimed to the next one waiting, with the pauses that the driver makes between two. */
const REFILL_MS = 250
const MEMORY_MS = 10_000
const BUCKETS = MEMORY_MS / REFILL_MS
/** What one takes before it is measured. */
const BLANK_MIB = 10

export interface BlankBudget {
  /** Kept while nothing starts. */
  readonly base: number
  /** What the instances leave of the node's memory. */
  readonly freeMib: number
}

export class BlankDemand {
  readonly #starts = new Uint16Array(BUCKETS)
  #newest = 0
  #blankMib = BLANK_MIB

  onStart(nowMs: number): void {
    this.#turn(nowMs)
    this.#starts[this.#newest % BUCKETS]!++
  }

  /** What one takes, MiB. */
  get blankMib(): number {
    return this.#blankMib
  }

  onMeasured(blanksMib: number, count: number): void {
    if (blanksMib > 0 && count > 0) this.#blankMib = Math.max(BLANK_MIB / 2, blanksMib / count)
  }

  count({ base, freeMib }: BlankBudget, nowMs: number): number {
    this.#turn(nowMs)
    let sum = 0
    let burst = 0
    for (const starts of this.#starts) {
      sum += starts
      if (starts > burst) burst = starts
    }
    const ahead = Math.ceil((sum * REFILL_MS) / MEMORY_MS) + burst
    const fitting = Math.max(0, Math.floor(freeMib / this.#blankMib))
    return Math.min(Math.max(base, ahead), INSTANCE_LIMITS.blanksMax, fitting)
  }

  #turn(nowMs: number): void {
    const bucket = Math.floor(nowMs / REFILL_MS)
    if (bucket - this.#newest >= BUCKETS) this.#starts.fill(0)
    else for (let at = this.#newest + 1; at <= bucket; at++) this.#starts[at % BUCKETS] = 0
    if (bucket > this.#newest) this.#newest = bucket
  }
}
