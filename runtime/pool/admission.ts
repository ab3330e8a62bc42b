/**
 * Which requests of one function are let in on this node at all, whatever its instances do: a rate (token bucket) and
 * a quota of requests that are in flight or wait. One per function, shared by its versions, and kept when the policy
 * changes: who has used up its tokens does not get new ones by being changed.
 *
 * It knows no clock and has no timer: tokens are counted when a request asks for one. A function without rate and
 * quota, the usual one, pays for a comparison and a count.
 */
import assert from 'node:assert'
import type { Policy } from '../../sdk/model/policy.ts'
import type { Refusal } from './pool.ts'

export class Admission {
  readonly #functionName: string
  #policy: Policy
  #isBounded = false
  /** Most tokens there can be. */
  #capacity = 0
  #tokens = 0
  /** Up to when tokens have been counted. */
  #countedAtMs = -Infinity
  #present = 0

  constructor(functionName: string, policy: Policy) {
    this.#functionName = functionName
    this.#policy = policy
    this.policy = policy
  }

  get policy(): Policy {
    return this.#policy
  }

  /** In force with the next request; what is let in already stays. */
  set policy(policy: Policy) {
    const before = this.#capacity
    this.#policy = policy
    this.#isBounded = policy.ratePerS > 0 || policy.quota > 0
    this.#capacity = policy.ratePerS === 0 ? 0 : Math.max(1, policy.burst || policy.ratePerS)
    // A function that had no rate has not used anything of it.
    this.#tokens = before === 0 ? this.#capacity : Math.min(this.#tokens, this.#capacity)
  }

  /** Requests that were let in and have not left. */
  get present(): number {
    return this.#present
  }

  /** Lets a request in, or says why not. Balance each that was let in with `leave`. */
  enter(nowMs: number): Refusal | undefined {
    if (this.#isBounded) {
      const refusal = this.#check(nowMs)
      if (refusal !== undefined) return refusal
    }
    this.#present++
    return undefined
  }

  leave(): void {
    assert(this.#present > 0, 'a request left twice')
    this.#present--
  }

  #check(nowMs: number): Refusal | undefined {
    const { quota, ratePerS } = this.#policy
    // Before the rate: who is refused takes no token.
    if (quota > 0 && this.#present >= quota) {
      return {
        code: 'quota_exceeded',
        message: `${this.#present} requests of function "${this.#functionName}" are in flight or waiting on this node: its quota is ${quota}`,
      }
    }
    if (ratePerS === 0) return undefined
    const earned = ((nowMs - this.#countedAtMs) * ratePerS) / 1_000
    // Not below 0: two callers may read their clocks in one order and ask in the other.
    if (earned > 0) {
      this.#tokens = Math.min(this.#capacity, this.#tokens + earned)
      this.#countedAtMs = nowMs
    }
    if (this.#tokens >= 1) {
      this.#tokens--
      return undefined
    }
    return {
      code: 'rate_limited',
      message: `function "${this.#functionName}" takes ${rateText(ratePerS)} (burst ${this.#capacity}) and has had them: send fewer, or raise its rate`,
      retryAfterS: Math.max(1, Math.ceil((1 - this.#tokens) / ratePerS)),
    }
  }
}

/** In the unit in which it is a number to read: 0.0028 a second are 10 an hour. */
function rateText(ratePerS: number): string {
  if (ratePerS >= 1) return `${ratePerS} requests a second`
  const perMin = ratePerS * 60
  return perMin >= 1 ? `${round(perMin)} requests a minute` : `${round(perMin * 60)} requests an hour`
}

function round(value: number): number {
  return Math.round(value * 1_000) / 1_000
}
