/**
 * Requests that reach a router before its first snapshot. It listens first, because the agent must know the port, and a
 * visitor of that moment would be told that no function answers. They wait until it knows its routes.
 */
import type { RouterLimits } from '../sdk/model/limits.ts'
import type { Refusal } from '../runtime/pool/pool.ts'
import type { Exchange } from './forward/exchange.ts'

export class EarlyRequests {
  readonly #limits: RouterLimits
  #held: { readonly exchange: Exchange; readonly untilMs: number }[] = []

  constructor(limits: RouterLimits) {
    this.#limits = limits
  }

  /** A refusal where too many wait already. */
  hold(exchange: Exchange, nowMs: number): Refusal | undefined {
    if (this.#held.length >= this.#limits.waitingRequestsMax) return refusal('too many requests wait for it')
    this.#held.push({ exchange, untilMs: nowMs + this.#limits.firstSnapshotWaitMs })
    return undefined
  }

  /** Those that are still there, in the order in which they came. */
  take(): Exchange[] {
    const held = this.#held
    this.#held = []
    return held.map(({ exchange }) => exchange).filter((exchange) => !exchange.isOver)
  }

  expire(nowMs: number): void {
    while (this.#held[0] !== undefined && this.#held[0].untilMs <= nowMs) {
      const waited = `they did not come within ${this.#limits.firstSnapshotWaitMs} ms`
      this.#held.shift()?.exchange.refuse(refusal(waited))
    }
  }

  refuseAll(message: string): void {
    for (const exchange of this.take()) exchange.refuse({ code: 'draining', message })
  }
}

function refusal(why: string): Refusal {
  return {
    code: 'draining',
    message: `the router has just started and has no routes yet, and ${why}: try again`,
  }
}
