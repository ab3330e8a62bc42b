/**
 * The body of a request on its way to the instance: bytes as they come, framed anew, at the pace of the slower side.
 * Its start is held until it is clear that the instance took it: an attempt that never reached an instance can then
 * be followed by another.
 */
import type { IncomingMessage } from 'node:http'
import type { RouterLimits } from '../../sdk/model/limits.ts'
import type { InstanceConnection } from './connection.ts'

export interface RequestBodyOptions {
  readonly request: IncomingMessage
  readonly contentLength: number | undefined
  readonly limits: RouterLimits
  onTooLarge(): void
}

export class RequestBody {
  /** The last byte has come from the client. */
  ended = false
  endedAtMs = 0
  /** Since when the instance has not taken what there is; `undefined` while it does. */
  stuckSinceMs: number | undefined
  /** Set anew when the function is known, whose limit may be lower. */
  bytesMax: number
  readonly #options: RequestBodyOptions
  readonly #isChunked: boolean
  #connection: InstanceConnection | undefined
  #held: Buffer[] | undefined = []
  #bytes = 0
  #waitMs = 0
  #listening = false

  constructor(options: RequestBodyOptions) {
    this.#options = options
    this.bytesMax = options.limits.requestBodyBytesMax
    this.#isChunked = options.contentLength === undefined
  }

  /** That have come. */
  get bytes(): number {
    return this.#bytes
  }

  /** All that came so far is held: another instance can be given it. */
  get canRestart(): boolean {
    return this.#held !== undefined
  }

  /** Writes what is held and then what comes. The head is to be written before, in a corked socket. */
  sendTo(connection: InstanceConnection): void {
    this.#connection = connection
    this.stuckSinceMs = undefined
    connection.socket.on('drain', this.#onDrain)
    for (const chunk of this.#held ?? []) this.#write(connection, chunk)
    if (this.ended) this.#finish(connection)
    const { request } = this.#options
    if (!this.#listening) {
      this.#listening = true
      request.on('data', this.#onData)
      request.on('end', this.#onEnd)
      // What is wrong is told by the connection; without a listener it would be thrown.
      request.on('error', () => undefined)
    } else request.resume()
  }

  /** Lets go of the connection; what comes waits for the next `sendTo` or `drop`. */
  detach(): void {
    this.#connection?.socket.removeListener('drain', this.#onDrain)
    this.#connection = undefined
    this.#options.request.pause()
  }

  /** Nobody wants the rest. */
  drop(): void {
    this.#connection?.socket.removeListener('drain', this.#onDrain)
    this.#connection = undefined
    this.#held = undefined
    const { request } = this.#options
    request.removeListener('data', this.#onData)
    if (!request.destroyed) request.resume()
  }

  /** True once the client has taken too long: a bound for the whole body that grows with what has come of it. */
  isLate(elapsedMs: number): boolean {
    if (this.ended || this.stuckSinceMs !== undefined || this.#connection === undefined) return false
    this.#waitMs += elapsedMs
    const { requestTimeoutMs, requestBodyBytesPerS } = this.#options.limits
    return this.#waitMs > requestTimeoutMs + (this.#bytes / requestBodyBytesPerS) * 1_000
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#bytes += chunk.length
    const { limits, request } = this.#options
    if (this.#bytes > this.bytesMax) {
      this.#options.onTooLarge()
      return
    }
    if (this.#held !== undefined) {
      if (this.#bytes > limits.heldBodyBytesMax) this.#held = undefined
      else this.#held.push(chunk)
    }
    if (this.#connection === undefined) request.pause()
    else this.#write(this.#connection, chunk)
  }

  readonly #onEnd = (): void => {
    this.ended = true
    this.endedAtMs = performance.now()
    if (this.#connection !== undefined) this.#finish(this.#connection)
  }

  readonly #onDrain = (): void => {
    this.stuckSinceMs = undefined
    this.#options.request.resume()
  }

  #write(connection: InstanceConnection, chunk: Buffer): void {
    const { socket } = connection
    if (this.#isChunked) {
      socket.cork()
      socket.write(`${chunk.length.toString(16)}\r\n`, 'latin1')
      socket.write(chunk)
      socket.write('\r\n', 'latin1')
      process.nextTick(uncork, socket)
    } else socket.write(chunk)
    if (socket.writableNeedDrain && this.stuckSinceMs === undefined) {
      this.stuckSinceMs = performance.now()
      this.#options.request.pause()
    }
  }

  #finish(connection: InstanceConnection): void {
    if (this.#isChunked) connection.socket.write('0\r\n\r\n', 'latin1')
    connection.requestWritten = true
  }
}

export function uncork(socket: { uncork(): void }): void {
  socket.uncork()
}
