/**
 * How far the sums that one process tells have been counted. The sums only grow while the process lives, and each
 * message tells them whole: what is new is the difference from what was counted last, however many messages were lost
 * or heard twice in between.
 *
 * Entries of what is gone are forgotten in time, or the cursor would grow with every deploy: later than the process
 * forgets them itself, so that what comes back begins at zero on both sides.
 */
import { USAGE_LIMITS } from '../../sdk/model/limits.ts'
import type { UsageCursor } from '../registry/usage-store.ts'

interface Entry {
  readonly values: readonly number[]
  /** Not live since then. */
  goneSinceMs: number | undefined
}

export interface MeterCursorOptions {
  readonly stored: UsageCursor | undefined
  /** The stored cursor cannot be read: what the first message names is taken for counted. */
  readonly isLost: boolean
  /** Whether more is to be expected of it. */
  isLive(name: string): boolean
  /** Whether the process has not forgotten it, although it is not live. @default never */
  isHeld?(name: string): boolean
  /** A sum that went back began anew; otherwise it was misread. */
  readonly mayRestart: boolean
}

export class MeterCursor {
  readonly #isLive: (name: string) => boolean
  readonly #isHeld: (name: string) => boolean
  readonly #mayRestart: boolean
  #epoch: string | undefined
  #incomplete: boolean
  #isLost: boolean
  #entryByName = new Map<string, Entry>()

  constructor({ stored, isLost, isLive, isHeld, mayRestart }: MeterCursorOptions) {
    this.#isLive = isLive
    this.#isHeld = (name) => isLive(name) || isHeld?.(name) === true
    this.#mayRestart = mayRestart
    this.#isLost = isLost
    this.#epoch = stored?.epoch
    this.#incomplete = stored?.incomplete ?? false
    for (const [name, values] of Object.entries(stored?.counted ?? {}))
      this.#entryByName.set(name, { values, goneSinceMs: undefined })
  }

  /** Calls back with what each sum grew by, where one did. True where a process before this one is over. */
  advance(
    message: {
      readonly epoch: string
      readonly sums: readonly { readonly name: string; readonly values: readonly number[] }[]
    },
    onGrowth: (name: string, growth: readonly number[]) => void,
  ): boolean {
    const isNext = this.#epoch !== undefined && message.epoch !== this.#epoch
    if (message.epoch !== this.#epoch) {
      this.#epoch = message.epoch
      this.#incomplete = false
      this.#entryByName = new Map()
    }
    for (const { name, values } of message.sums) {
      const entry = this.#entryByName.get(name)
      const isBehind = values.some((value, index) => value < (entry?.values[index] ?? 0))
      if (isBehind && !this.#mayRestart) continue
      const wasCounted = this.#isLost || (this.#incomplete && entry === undefined && !this.#isLive(name))
      const growth = wasCounted ? values.map(() => 0) : isBehind ? values : growthOf(entry?.values, values)
      this.#entryByName.set(name, { values, goneSinceMs: undefined })
      if (growth.some((value) => value > 0)) onGrowth(name, growth)
    }
    this.#isLost = false
    return isNext
  }

  /** To be called now and then, with a clock that nobody sets. */
  forgetGone(nowMs: number): void {
    for (const [name, entry] of this.#entryByName) {
      if (this.#isHeld(name)) {
        entry.goneSinceMs = undefined
        continue
      }
      entry.goneSinceMs ??= nowMs
      if (nowMs - entry.goneSinceMs < USAGE_LIMITS.goneCountersKeptMs) continue
      this.#entryByName.delete(name)
      this.#incomplete = true
    }
  }

  forget(name: string): void {
    this.#entryByName.delete(name)
  }

  get names(): Iterable<string> {
    return this.#entryByName.keys()
  }

  /** `undefined` before the first message. */
  toStored(): UsageCursor | undefined {
    if (this.#epoch === undefined) return undefined
    return {
      epoch: this.#epoch,
      ...(this.#incomplete && { incomplete: true }),
      counted: Object.fromEntries([...this.#entryByName].map(([name, { values }]) => [name, values])),
    }
  }
}

function growthOf(counted: readonly number[] | undefined, values: readonly number[]): readonly number[] {
  return values.map((value, index) => value - (counted?.[index] ?? 0))
}
