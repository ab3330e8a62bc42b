/**
 * One request from its head to the last byte of its response: where it is, and who must hear when it ends. Whatever
 * happens (an answer, an error, a client or an instance that goes away, a time that is over), it ends once, in
 * `#finish`, gives its slot back once, in `#releaseSlot`, and leaves its function's bounds once, in `#letGo`.
 * `resend.ts` says when it may be sent again.
 */
import { ERRORS, type ErrorCode } from '../../sdk/model/errors.ts'
import { TAIL_HEADER } from '../../runtime/pool/inner-door.ts'
import type { PooledInstance, Refusal } from '../../runtime/pool/pool.ts'
import type { FileSource } from '../assets/file-stream.ts'
import type { Client, LiveRequest } from '../client.ts'
import { Presence } from '../presence.ts'
import type { RequestHead } from '../request-head.ts'
import type { ServedVersion } from '../served-version.ts'
import { ClientAnswer } from './client-answer.ts'
import type { InstanceConnection, ResponseReader } from './connection.ts'
import type { ExchangeOptions, ExchangePorts } from './exchange-ports.ts'
import type { Mourner } from './instance-link.ts'
import {
  bodyTooLarge,
  brokenOff,
  invalidResponse,
  noAnswerWithin,
  notConnectedWithin,
  notTakenIn,
  responseTooLarge,
  threw,
  wallLimitExceeded,
} from './refusals.ts'
import { RequestCourse } from './request-course.ts'
import { RequestBody } from './request-body.ts'
import { canResend } from './resend.ts'
import { sendRequest } from './send-request.ts'
import type { ResponseHead } from './response-head.ts'
import { ESTABLISHED, switchingText, type TunnelEnd } from './tunnel.ts'

/** `bereft`: its connection broke, and the reason may still come. `flushing`: only the client has yet to read. */
type State = 'placing' | 'queued' | 'waiting' | 'bereft' | 'responding' | 'tunnel' | 'flushing' | 'done'

export class Exchange implements LiveRequest, ResponseReader, Mourner {
  readonly head: RequestHead
  readonly #ports: ExchangePorts
  readonly #client: Client
  readonly #answer: ClientAnswer
  readonly #tunnel: TunnelEnd | undefined
  readonly body: RequestBody | undefined
  readonly #presence = new Presence()
  readonly #course = new RequestCourse()
  #state: State = 'placing'
  /** The version that was chosen. */
  #served: ServedVersion | undefined
  #leaveQueue: (() => void) | undefined
  #instance: PooledInstance | undefined
  #connection: InstanceConnection | undefined
  /** What is read of it, where a static file answers. */
  #file: FileSource | undefined
  #headArrived = false
  #attempts = 0
  /** When the instance was given that has it; 0: none. */
  #causeTimer: NodeJS.Timeout | undefined

  constructor(options: ExchangeOptions) {
    const { head, request, ports } = options
    this.head = head
    this.#ports = ports
    this.#client = options.client
    this.#tunnel = options.tunnel
    const hasBody = head.chunked || (head.contentLength ?? 0) > 0
    if (hasBody) {
      const onTooLarge = (): void =>
        this.refuse(bodyTooLarge({ limits: ports.limits, served: this.#served }, undefined), { close: true })
      this.body = new RequestBody({
        request,
        contentLength: head.contentLength,
        limits: ports.limits,
        onTooLarge,
      })
    }
    const { client, response } = options
    this.#answer = new ClientAnswer({
      client,
      request,
      response,
      limits: ports.limits,
      hasBody,
      contentLength: head.contentLength,
      isHandshake: options.tunnel !== undefined,
    })
    client.live.push(this)
  }

  get isHead(): boolean {
    return this.head.method === 'HEAD'
  }

  get wantsTunnel(): boolean {
    return this.#tunnel !== undefined
  }

  get isInner(): boolean {
    return this.#client.inner
  }

  get isOver(): boolean {
    return this.#state === 'done' || this.#state === 'flushing'
  }

  get isReceived(): boolean {
    return this.#answer.isReceived
  }

  get #functionName(): string {
    return this.#served?.functionName ?? ''
  }

  /** The version that shall answer is known; again when it is placed anew. */
  assign(served: ServedVersion): void {
    this.#served = served
    if (this.body !== undefined)
      this.body.bytesMax = Math.min(this.#ports.limits.requestBodyBytesMax, served.limits.requestBytes)
  }

  /** Into the bounds of its function, once: not again when it is placed anew. */
  enter(served: ServedVersion): Refusal | undefined {
    return this.#presence.enter(served, this.#presence.isEmpty ? this.#course.startMs : performance.now())
  }

  /** The same of one that no instance will have to do with. */
  admit(served: ServedVersion): Refusal | undefined {
    return this.#presence.admit(served, performance.now())
  }

  enqueue(): void {
    this.#state = 'queued'
    const waiter = {
      onSlot: (instance: PooledInstance) => this.start(instance),
      onRefusal: (refusal: Refusal) => this.refuse(refusal),
      onClosed: () => {
        this.#state = 'placing'
        this.#ports.place(this)
      },
    }
    const waiting = this.#served!.pool.wait(waiter, performance.now())
    if ('refusal' in waiting) this.refuse(waiting.refusal)
    else this.#leaveQueue = waiting.leave
  }

  /** Sends the request to the instance, of which it has a slot. */
  start(instance: PooledInstance): void {
    const hasWaited = this.#state === 'queued'
    this.#leaveQueue = undefined
    this.#instance = instance
    this.#course.instanceId = instance.id
    this.#state = 'waiting'
    this.#attempts++
    this.#course.placedMs = performance.now()
    if (this.#course.firstPlacedMs === 0) this.#course.firstPlacedMs = this.#course.placedMs
    if (instance.cold) {
      instance.cold = false
      // One that was started for a minimum or a schedule is there before anybody waits.
      this.#course.cold = hasWaited
    }
    if (this.head.expectsContinue && this.#course.firstPlacedMs === this.#course.placedMs)
      this.#answer.askForBody()
    const connection = this.#ports.links.of(instance).connectionFor(this.head)
    this.#connection = connection
    connection.begin(this)
    this.#headArrived = false
    sendRequest(connection, this, this.#served!.tailed ? TAILED_LINE : '')
  }

  /** Answers with an error of the router. `close`: what follows on the connection is not to be read. */
  refuse(refusal: Refusal, options: { readonly close: boolean } = { close: false }): void {
    if (this.#state === 'done' || this.#state === 'flushing') return
    this.#course.error = refusal.code
    const nowMs = this.#letGo()
    if (this.#answer.begun) {
      this.#answer.breakOff()
      this.#finish(nowMs)
      return
    }
    const answer = { ...refusal, requestId: this.head.requestId }
    this.#answer.error(answer, { draining: this.#ports.draining, ...options })
    this.#flush(nowMs)
  }

  /** A static file answers in an instance's place, by `onResponse`, or by `onHead` and what follows as `source` reads it. */
  beginFile(source?: FileSource): void {
    this.#file = source
    this.#course.firstPlacedMs = this.#course.startMs
  }

  // From the instance.

  onHeadArrived(): void {
    this.#headArrived = true
  }

  onResponse(head: ResponseHead, body: string | Buffer): void {
    this.#connection = undefined
    if (head.error !== undefined && this.#failAs(head.error)) return
    // Nothing is in the way of those without a body.
    if (this.#isTooLarge(body.length, body.length)) return
    if (this.isHead || head.status === 304) {
      if (head.contentLength !== undefined) head.headers.push('content-length', String(head.contentLength))
    } else if (head.status !== 204) head.headers.push('content-length', String(body.length))
    if (!this.#writeHead(head)) return
    this.#course.responseBytes = body.length
    this.#answer.end(body)
    this.#flush(this.#letGo())
  }

  onHead(head: ResponseHead, bodyBytes: number): void {
    if (head.error !== undefined && this.#failAs(head.error)) return
    if (this.#isTooLarge(head.contentLength ?? bodyBytes, head.contentLength)) return
    if (head.contentLength !== undefined) head.headers.push('content-length', String(head.contentLength))
    if (!this.#writeHead(head)) return
    this.#state = 'responding'
    // An event stream may send its head long before its first event.
    if (bodyBytes === 0) this.#answer.flushHead()
  }

  onBody(part: Buffer): void {
    if (this.#state === 'tunnel') {
      if (!this.#tunnel!.write(part)) this.#pauseInstance()
      return
    }
    if (this.#state !== 'responding') return
    const bytes = this.#course.responseBytes + part.length
    if (bytes > this.#served!.limits.responseBytes) {
      this.refuse(responseTooLarge(this.#served!, undefined))
      return
    }
    this.#course.responseBytes = bytes
    if (!this.#answer.write(part)) this.#pauseInstance()
  }

  onEnd(): void {
    this.#connection = undefined
    if (this.#state !== 'responding') return
    this.#answer.end()
    this.#flush(this.#letGo())
  }

  onTunnel(head: ResponseHead, rest: Buffer): void {
    const own = { 'x-request-id': this.head.requestId, 'x-isola-version': this.#served!.versionId }
    const text = this.head.rpc ? ESTABLISHED : switchingText(head, own)
    if (text === undefined) {
      this.onInvalid('it accepts a WebSocket without Sec-WebSocket-Accept')
      return
    }
    this.#state = 'tunnel'
    this.#answer.detach()
    this.#tunnel!.open({ text, rest, instance: this.#connection!.socket })
  }

  onInvalid(why: string): void {
    this.#connection = undefined
    this.refuse(invalidResponse(this.#functionName, why))
  }

  onLost(code: string | undefined): void {
    const connection = this.#connection!
    this.#connection = undefined
    this.body?.detach()
    if (this.#state === 'tunnel') {
      this.#tunnel!.end()
      this.#finish(this.#letGo())
      return
    }
    if (this.#state !== 'waiting') {
      this.#failWithCause()
      return
    }
    const instance = this.#instance!
    if (!connection.connected && code === 'EAGAIN') {
      this.#retryLater()
      return
    }
    if (!connection.connected && (code === 'ECONNREFUSED' || code === 'ENOENT')) {
      this.#ports.onUnreachable(instance, `no connection to instance ${instance.id}: ${code}`)
    }
    if (canResend({ code, connected: connection.connected, body: this.body, headArrived: this.#headArrived }))
      this.#retry()
    else if (instance.gone !== undefined) this.#failWithCause()
    else {
      this.#state = 'bereft'
      this.#ports.links.of(instance).mourn(this)
      this.#waitForCause()
    }
  }

  onInstanceGone(): void {
    if (this.#state === 'bereft') this.#failWithCause()
    // The connection is still open: it will say whether the request was read, or even bring the response.
    else if (this.#state === 'waiting') this.#waitForCause()
  }

  // From the client.

  onClientGone(): void {
    if (this.#state === 'done') return
    const isOver = this.#state === 'flushing' || this.#state === 'tunnel'
    this.#finish(this.#letGo(), { aborted: !isOver || (this.#state === 'flushing' && !this.#answer.sent) })
  }

  onRequestBroken(code: 'bad_request' | 'request_timeout' | 'body_too_large', message: string): void {
    this.refuse({ code, message }, { close: true })
  }

  expire(nowMs: number, elapsedMs: number): void {
    const { body } = this
    const { limits } = this.#ports
    if (this.#isOverWallTime(nowMs)) return
    // Behind a pipelined request it is not yet this response's turn; a WebSocket may rest as long as it likes.
    if (!this.#answer.isItsTurn) return
    const { stuckSinceMs } = this.#answer
    if (stuckSinceMs !== undefined) {
      if (nowMs - stuckSinceMs > limits.socketIdleTimeoutMs) this.#client.socket.destroy()
      return
    }
    if (body !== undefined && !this.#answer.ended && body.isLate(elapsedMs)) {
      this.onRequestBroken('request_timeout', 'the body of the request took too long to arrive')
      return
    }
    if (this.#state !== 'waiting') return
    const sinceMs =
      body === undefined || body.ended
        ? Math.max(this.#course.placedMs, body?.endedAtMs ?? 0)
        : body.stuckSinceMs
    const firstByteMs = this.#served?.limits.firstByteMs ?? limits.responseTimeoutMs
    if (sinceMs === undefined || nowMs - sinceMs <= firstByteMs) return
    this.refuse(noAnswerWithin(this.#functionName, firstByteMs))
  }

  // Limits of the function.

  /** A WebSocket may stay; a response that is only to be read by its client is not the function's any more. */
  #isOverWallTime(nowMs: number): boolean {
    const served = this.#served
    const ms = nowMs - this.#course.startMs
    if (served === undefined || ms <= served.limits.wallMs) return false
    if (this.#state === 'tunnel' || this.#state === 'flushing' || this.#file !== undefined) return false
    this.refuse(wallLimitExceeded(served, { ms, isQueued: this.#state === 'queued' }))
    return true
  }

  /** `bytes`: that it has at least. */
  #isTooLarge(bytes: number, length: number | undefined): boolean {
    const served = this.#served!
    if (bytes <= served.limits.responseBytes) return false
    this.refuse(responseTooLarge(served, length))
    return true
  }

  // Ends.

  #retry(): void {
    if (this.#attempts >= this.#ports.limits.attemptsMax) {
      this.refuse(notTakenIn(this.#functionName, this.#attempts))
      return
    }
    this.#unplace()
    this.#ports.place(this)
  }

  /** The instance has more connections to accept than its backlog holds: nobody's fault yet. */
  #retryLater(): void {
    const { connectTimeoutMs } = this.#ports.limits
    if (performance.now() - this.#course.firstPlacedMs > connectTimeoutMs) {
      this.refuse(notConnectedWithin(this.#functionName, connectTimeoutMs))
      return
    }
    this.#attempts--
    this.#unplace()
    setTimeout(() => {
      if (this.#state === 'placing') this.#retry()
    }, RETRY_MS)
  }

  #unplace(): void {
    this.#state = 'placing'
    this.#course.placedMs = 0
    this.#releaseSlot()
  }

  #waitForCause(): void {
    this.#causeTimer ??= setTimeout(() => this.#failWithCause(), this.#ports.limits.causeWaitMs)
  }

  #failWithCause(): void {
    this.refuse(this.#instance?.gone ?? brokenOff(this.#functionName))
  }

  /** An error that the instance's runtime names: instead of an answer, or beside one that says it already. */
  #failAs(error: string): boolean {
    if (error !== 'function_threw') {
      if (Object.hasOwn(ERRORS, error)) this.#course.error = error as ErrorCode
      return false
    }
    this.refuse(threw(this.#functionName))
    return true
  }

  #writeHead(head: ResponseHead): boolean {
    head.headers.push('x-request-id', this.head.requestId, 'x-isola-version', this.#served!.versionId)
    if (this.#answer.writeHead(head, { draining: this.#ports.draining })) return true
    // The response may have ended, and its connection be idle again: it is not to be trusted.
    if (this.#instance !== undefined) this.#ports.links.of(this.#instance).closeIdle()
    this.refuse(invalidResponse(this.#functionName, 'a header has characters that no header may have'))
    return false
  }

  #pauseInstance(): void {
    if (this.#answer.stuckSinceMs !== undefined) return
    const connection = this.#connection
    const source = this.#file ?? connection?.socket
    source?.pause()
    this.#answer.awaitDrain(performance.now(), () => {
      // By now the connection may serve another request.
      if (this.#connection === connection) source?.resume()
    })
  }

  /** Everything that the exchange holds but the client. Returns when that was. */
  #letGo(): number {
    const nowMs = performance.now()
    this.#leaveQueue?.()
    this.#leaveQueue = undefined
    this.#connection?.abandon()
    this.#connection = undefined
    this.#file?.abandon()
    this.body?.drop()
    this.#releaseSlot()
    this.#presence.leave(nowMs)
    return nowMs
  }

  #releaseSlot(): void {
    // The cause was of this instance; a request that goes to another has nothing to do with it any more.
    if (this.#causeTimer !== undefined) {
      clearTimeout(this.#causeTimer)
      this.#causeTimer = undefined
    }
    const instance = this.#instance
    if (instance === undefined) return
    this.#instance = undefined
    if (this.#state === 'bereft') this.#ports.links.of(instance).leave(this)
    this.#served!.pool.release(instance)
  }

  /** The response is written; ends once the client has it. */
  #flush(nowMs: number): void {
    this.#state = 'flushing'
    if (this.#answer.flush(nowMs, () => this.#finish(performance.now()))) this.#finish(nowMs)
  }

  #finish(nowMs: number, options: { readonly aborted: boolean } = { aborted: false }): void {
    if (this.#state === 'done') return
    this.#state = 'done'
    this.#file?.onFinish()
    const { live } = this.#client
    if (live.length === 1) live.pop()
    else live.splice(live.indexOf(this), 1)
    // What came behind this request could not be read: nothing more will be answered here.
    if (this.#client.closing && live.length === 0) this.#answer.closeAfter()
    const served = this.#served
    const record = this.#course.record(this.head, {
      functionName: this.#functionName,
      versionId: served === undefined ? '' : served.versionId,
      requestBytes: this.body === undefined ? 0 : this.body.bytes,
      status: this.#answer.status,
      clientAborted: options.aborted,
      nowMs,
    })
    this.#ports.onFinish(record, served, this.head)
  }
}

const RETRY_MS = 10
const TAILED_LINE = `${TAIL_HEADER.name}: ${TAIL_HEADER.lines}\r\n`
