/**
 * The client's side of an exchange: one response, whether the connection lives on behind it, and whether the client
 * reads it. node:http does the bytes, in the order of the requests.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { RouterLimits } from '../../sdk/model/limits.ts'
import type { Client } from '../client.ts'
import { answerError, type ErrorAnswer } from '../error-answer.ts'
import { linger, lingerAfterLastResponse } from '../linger.ts'
import type { ResponseHead } from './response-head.ts'

export interface ClientAnswerOptions {
  readonly client: Client
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly limits: RouterLimits
  /** Of the request; `undefined` with a body: chunked. */
  readonly hasBody: boolean
  readonly contentLength: number | undefined
  /** A WebSocket handshake: node:http has handed the connection over. */
  readonly isHandshake: boolean
}

export class ClientAnswer {
  /** 0 until there is one. */
  status = 0
  /** Since when the client has not read what there is for it. */
  stuckSinceMs: number | undefined
  readonly #options: ClientAnswerOptions
  readonly #response: ServerResponse
  /** The client was told that this response is the last on its connection: node:http ends it. */
  #saidClose = false

  constructor(options: ClientAnswerOptions) {
    this.#options = options
    this.#response = options.response
  }

  /** The request has been read to the end. */
  get isReceived(): boolean {
    return !this.#options.hasBody || this.#options.request.complete
  }

  get begun(): boolean {
    return this.#response.headersSent
  }

  get ended(): boolean {
    return this.#response.writableEnded
  }

  /** All of it has left. */
  get sent(): boolean {
    return this.#response.writableFinished
  }

  /** Not behind the response to a request that came before. */
  get isItsTurn(): boolean {
    return this.#response.socket !== null
  }

  askForBody(): void {
    this.#response.writeContinue()
  }

  /** False where the head is none that may be sent: nothing has been. */
  writeHead(head: ResponseHead, options: { readonly draining: boolean }): boolean {
    const close = this.#closes(options.draining)
    if (close) head.headers.push('connection', 'close')
    try {
      this.#response.writeHead(head.status, head.reason, head.headers)
    } catch {
      return false
    }
    this.status = head.status
    if (close) this.#close()
    return true
  }

  flushHead(): void {
    this.#response.flushHeaders()
  }

  write(part: Buffer): boolean {
    return this.#response.write(part)
  }

  end(body?: string | Buffer): void {
    if (typeof body === 'string') this.#response.end(body, 'latin1')
    else this.#response.end(body)
  }

  /** `close`: what follows on the connection is not to be read. */
  error(answer: ErrorAnswer, options: { readonly draining: boolean; readonly close: boolean }): void {
    const close = options.close || this.#closes(options.draining)
    if (close) this.#close()
    this.status = answerError(this.#response, answer, { close, inner: this.#options.client.inner })
  }

  /** The client sees a response that is not whole: the only way left to say so once its head is sent. */
  breakOff(): void {
    this.#response.destroy()
  }

  /** The client has stopped reading; `onDrain` once it has read what there is. */
  awaitDrain(nowMs: number, onDrain: () => void): void {
    this.stuckSinceMs = nowMs
    const { isHandshake, client } = this.#options
    const stream = isHandshake ? client.socket : this.#response
    stream.once('drain', () => {
      this.stuckSinceMs = undefined
      onDrain()
    })
  }

  /** True if all that was written has left; else `onSent` is called when it has. */
  flush(nowMs: number, onSent: () => void): boolean {
    const response = this.#response
    const { isHandshake, client } = this.#options
    if (isHandshake) response.once('finish', () => client.socket.destroySoon())
    if (response.writableLength === 0 || response.writableFinished) return true
    this.stuckSinceMs = nowMs
    response.once('finish', onSent)
    return false
  }

  /** The connection is a tunnel now. */
  detach(): void {
    this.status = 101
    this.#response.detachSocket(this.#options.client.socket)
  }

  /** The last response on a connection behind which nothing more can be read. */
  closeAfter(): void {
    if (this.#saidClose) return
    const { client, limits } = this.#options
    this.#response.once('close', () => linger(client.socket, limits.lingerMs))
  }

  #closes(draining: boolean): boolean {
    const { client, isHandshake, contentLength, limits } = this.#options
    if (draining || client.closing || isHandshake) return true
    if (this.isReceived) return false
    // The rest of a short body is read and dropped; waiting for the rest of a long one is worse than a new connection.
    return contentLength === undefined || contentLength > limits.heldBodyBytesMax
  }

  #close(): void {
    const { client, limits } = this.#options
    this.#saidClose = true
    client.closing = true
    if (!this.isReceived) lingerAfterLastResponse(client.socket, limits.lingerMs)
  }
}
