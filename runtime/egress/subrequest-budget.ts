/**
 * How many requests an instance may send out. The limit is per request of the function, and the proxy sees instances:
 * which request a fetch belongs to, only the isolate knows, and the isolate is not asked. So the budget is of the
 * instance: since it was last at rest, `limit` times the requests that were started on it. Requests that run at the same
 * time share their budgets; and what `waitUntil` sends once the instance is reported at rest has one budget more.
 *
 * The router's reports come a tenth of a second late, so a request beyond what they allow is not refused but held until
 * later reports are in: an honest burst has only outrun them. Where nobody reports (no agent, or one that is stuck) all
 * is let through: functions go on without an agent, and a count that cannot be known must not fail them.
 */
export interface SubrequestBudgetOptions {
  /** Per request, in force now. */
  readonly limit: () => number
  readonly holdMs: number
  readonly holdReportsMax: number
  readonly nowMs: () => number
  /** An agent is there to pass reports on. */
  readonly isWatched: boolean
  /** No request has been started on the instance yet. */
  readonly isNew: boolean
}

/** A request that waits to be let through or refused. */
export interface HeldSubrequest {
  readonly decide: (allowed: boolean) => void
  readonly heldAtMs: number
  /** Reports heard before it was held. */
  readonly reports: number
}

export class SubrequestBudget {
  readonly #options: SubrequestBudgetOptions
  /** In the order they came. */
  readonly #held = new Set<HeldSubrequest>()
  #timer: NodeJS.Timeout | undefined
  #made = 0
  /** `undefined`: the instance was at work before this agent told of it. */
  #startedAtRest: number | undefined
  #started = 0
  #inFlight = 0
  #isReported = false
  #reports = 0
  #isWatched: boolean

  constructor(options: SubrequestBudgetOptions) {
    this.#options = options
    this.#isWatched = options.isWatched
    this.#startedAtRest = options.isNew ? 0 : undefined
  }

  /** Sent since the instance was last at rest. */
  get made(): number {
    return this.#made
  }

  /** Requests that share the budget. */
  get sharing(): number {
    return Math.max(1, this.#started - (this.#startedAtRest ?? this.#started))
  }

  /** Counts one more in, if the reports so far allow it; `later` reports may, `never` says that none will. */
  take(): 'taken' | 'later' | 'never' {
    if (!this.#isWatched) return 'taken'
    const limit = this.#options.limit()
    if (this.#made < limit * this.sharing) {
      this.#made += 1
      return 'taken'
    }
    return limit === 0 ? 'never' : 'later'
  }

  /** For one that came too early: `decide` is called once, unless it is given up before. */
  hold(decide: (allowed: boolean) => void): HeldSubrequest {
    const held = { decide, heldAtMs: this.#options.nowMs(), reports: this.#reports }
    this.#held.add(held)
    this.#timer ??= setTimeout(() => this.#onTimeout(), this.#options.holdMs)
    return held
  }

  giveUp(held: HeldSubrequest): void {
    this.#held.delete(held)
  }

  /** What the router says of this instance. Told again, it changes nothing. */
  report({ started, inFlight }: { readonly started: number; readonly inFlight: number }): void {
    const isSame = this.#isReported && started === this.#started && inFlight === this.#inFlight
    if (isSame) return
    // Another router counts from its own beginning; and of one that was at work before, only what runs now is known.
    const isOther = started < this.#started || this.#startedAtRest === undefined
    this.#isReported = true
    this.#started = started
    this.#inFlight = inFlight
    if (!isOther && inFlight > 0) return
    this.#startedAtRest = started - inFlight
    this.#made = 0
  }

  /** After each message of the router's, whether it named this instance or not. */
  heard(): void {
    this.#isWatched = true
    this.#reports += 1
    if (this.#held.size > 0) this.#settle()
  }

  /** Nothing of what an earlier agent said is held against the function: it may have missed reports. */
  watch(isWatched: boolean): void {
    this.#isWatched = isWatched
    this.#isReported = false
    this.#startedAtRest = undefined
    this.#started = 0
    this.#inFlight = 0
    this.#made = 0
    this.#settle()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#held.clear()
  }

  #settle(): void {
    for (const held of this.#held) {
      const isAllowed = this.take() === 'taken'
      // Those behind it have heard no more than it has.
      if (!isAllowed && this.#reports - held.reports < this.#options.holdReportsMax) break
      this.#held.delete(held)
      held.decide(isAllowed)
    }
    if (this.#held.size > 0) return
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /**
   * Too few reports came. Of an instance at rest none are sent, so what it still sends is beyond its budget. Of one at
   * work they are: whoever should pass them on does not, and nothing is held until they come again.
   */
  #onTimeout(): void {
    const { holdMs, nowMs } = this.#options
    this.#timer = undefined
    const isAtRest = this.#isReported && this.#inFlight === 0
    for (const held of this.#held) {
      const leftMs = held.heldAtMs + holdMs - nowMs()
      // A timer may fire a little early.
      if (leftMs > 1) {
        this.#timer = setTimeout(() => this.#onTimeout(), leftMs)
        return
      }
      this.#held.delete(held)
      if (!isAtRest) this.#isWatched = false
      held.decide(!isAtRest)
    }
  }
}
