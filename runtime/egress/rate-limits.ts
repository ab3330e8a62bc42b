/**
 * What rate-limit bindings count, for all instances of the node together. A window begins with a key's first call and slides
 * in two halves: the one before counts by the part of it that still lies within the last period. So a key never has much
 * more than its limit in any period, for three numbers a key. Calls that are refused are not counted: whoever goes on
 * calling gets in again when the window has moved.
 *
 * Keys are bounded. Where there is no room, the binding's own key that was not used for longest is forgotten, so that a
 * flood of keys at one binding costs no other its counts; to forget is to be permissive.
 */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { RATE_LIMIT_HEADERS } from '../pool/rate-limit-call.ts'
import { SERVICE_HEADERS } from '../pool/inner-door.ts'

export interface RateLimitCall {
  readonly namespaceId: string
  readonly key: string
  readonly limit: number
  readonly periodS: number
}

/** What a request asks of the limits; `undefined` where it asks nothing or what nobody can make out. */
export function readRateLimitCall({ headers, url = '' }: IncomingMessage): RateLimitCall | undefined {
  const text = headers[RATE_LIMIT_HEADERS.limit]
  // A call of another function, or for static files, goes there, whatever else it says.
  const isElsewhere = [SERVICE_HEADERS.service, SERVICE_HEADERS.assetsOf].some(
    (name) => headers[name] !== undefined,
  )
  if (typeof text !== 'string' || isElsewhere) return undefined
  const [, namespaceId, limit, periodS] = /^(\S{1,1000}) (\d{1,10}) (\d{1,3})$/.exec(text) ?? []
  if (namespaceId === undefined) return undefined
  return { namespaceId, limit: Number(limit), periodS: Number(periodS), key: url }
}

interface Count {
  windowStartMs: number
  previous: number
  current: number
}

/** A key longer than this is kept as its digest. */
const KEY_LENGTH_MAX = 64

export class RateLimits {
  readonly #keysMax: number
  /** By namespace and period, and by key; in order of their last use. */
  readonly #countsByWindow = new Map<string, Map<string, Count>>()
  #size = 0

  constructor(keysMax: number) {
    this.#keysMax = keysMax
  }

  /** Keys that are counted. */
  get size(): number {
    return this.#size
  }

  /** Whether the call is within its limit; then it counts. */
  take(call: RateLimitCall, nowMs: number): boolean {
    const periodMs = call.periodS * 1_000
    const count = this.#countOf(call, nowMs)
    const windows = Math.floor((nowMs - count.windowStartMs) / periodMs)
    if (windows >= 1) {
      count.previous = windows === 1 ? count.current : 0
      count.current = 0
      count.windowStartMs = windows === 1 ? count.windowStartMs + periodMs : nowMs
    }
    const weight = 1 - (nowMs - count.windowStartMs) / periodMs
    if (Math.floor(count.previous * weight) + count.current >= call.limit) return false
    count.current += 1
    return true
  }

  #countOf({ namespaceId, key, periodS }: RateLimitCall, nowMs: number): Count {
    const window = `${periodS} ${namespaceId}`
    const shortKey = key.length <= KEY_LENGTH_MAX ? key : createHash('sha256').update(key).digest('base64')
    let counts = this.#countsByWindow.get(window)
    let count = counts?.get(shortKey)
    if (count === undefined) {
      if (counts !== undefined) this.#forgetExpired(window, counts, nowMs - 2_000 * periodS)
      if (this.#size >= this.#keysMax) this.#forgetOldest(window)
      count = { windowStartMs: nowMs, previous: 0, current: 0 }
      this.#size += 1
    } else counts?.delete(shortKey)
    counts = this.#countsByWindow.get(window) ?? new Map<string, Count>()
    this.#countsByWindow.set(window, counts.set(shortKey, count))
    return count
  }

  /** Each new key clears away two old ones at most: no call has to wait for all of them. */
  #forgetExpired(window: string, counts: Map<string, Count>, expiredMs: number): void {
    let left = 2
    for (const [key, { windowStartMs }] of counts) {
      if (windowStartMs > expiredMs || left === 0) return
      this.#forget(window, counts, key)
      left -= 1
    }
  }

  #forgetOldest(window: string): void {
    const own = this.#countsByWindow.get(window)
    const [other] = this.#countsByWindow
    const [from, counts] = own === undefined ? (other ?? []) : [window, own]
    if (from === undefined || counts === undefined) return
    const [oldest] = counts.keys()
    if (oldest !== undefined) this.#forget(from, counts, oldest)
  }

  #forget(window: string, counts: Map<string, Count>, key: string): void {
    counts.delete(key)
    this.#size -= 1
    if (counts.size === 0) this.#countsByWindow.delete(window)
  }
}
