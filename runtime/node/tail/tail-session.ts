/**
 * One who watches a function. Its client may be slow: what it has not taken is bounded by its connection's buffer; beyond
 * that events are dropped, one message says so when that begins, and one when it is over.
 */
import { TAIL_LIMITS } from '../../../sdk/model/limits.ts'
import type { TailFilter } from '../../../wrangler-compat/api/ports.ts'
import type { ServerSocket } from './server-socket.ts'
import { passes, type Watcher } from './tail-filter.ts'
import type { Traced } from './trace-assembly.ts'
import { noticeEvent } from './trace-event.ts'

export interface TailSessionOptions {
  readonly id: string
  readonly functionName: string
  readonly filter: TailFilter
  readonly expiresAtMs: number
}

export class Session {
  readonly id: string
  readonly functionName: string
  readonly expiresAtMs: number
  readonly #filter: TailFilter
  #connection: { readonly socket: ServerSocket; readonly watcher: Watcher } | undefined
  /** Wants also what the filter keeps from it. */
  #debug = false
  #dropped = 0

  constructor({ id, functionName, filter, expiresAtMs }: TailSessionOptions) {
    this.id = id
    this.functionName = functionName
    this.expiresAtMs = expiresAtMs
    this.#filter = filter
  }

  get isConnected(): boolean {
    return this.#connection !== undefined
  }

  connect(socket: ServerSocket, watcher: Watcher): void {
    this.#connection = { socket, watcher }
  }

  /** `text`: the event as JSON. */
  send(traced: Traced, text: () => string): void {
    if (this.#connection === undefined) return
    const { socket, watcher } = this.#connection
    if (!passes(this.#filter, traced, watcher) && !this.#debug) return
    if (socket.bufferedBytes > TAIL_LIMITS.bufferedBytesMax) this.onDropped(1)
    else socket.send(text())
  }

  onDropped(count: number): void {
    const isFirst = this.#dropped === 0
    this.#dropped += count
    if (!isFirst) return
    this.#notify(
      'overload',
      'isola drops events of this tail: they come faster than they can be told or taken. Use --sampling-rate or another filter',
    )
  }

  /** What was buffered has left, or some time has passed without a drop. */
  onRelief(): void {
    const buffered = this.#connection?.socket.bufferedBytes ?? 0
    if (this.#dropped === 0 || buffered > TAIL_LIMITS.bufferedBytesMax / 2) return
    this.#notify('overload-stop', `this tail is complete again; ${this.#dropped} events were dropped`)
    this.#dropped = 0
  }

  onText(text: string): void {
    try {
      const message = JSON.parse(text) as { readonly debug?: unknown } | null
      if (typeof message?.debug === 'boolean') this.#debug = message.debug
    } catch {
      // Nothing else is asked for in this protocol, and nothing is answered.
    }
  }

  end(code: number, reason: string): void {
    this.#connection?.socket.close(code, reason)
    this.#connection = undefined
  }

  #notify(type: 'overload' | 'overload-stop', message: string): void {
    this.#connection?.socket.send(JSON.stringify(noticeEvent(this.functionName, { type, message })))
  }
}
