/**
 * One request from its head to the last byte of its response: where it is, and who must hear when it ends. Whatever
 * happens (an answer, an error, a client or an instance that goes away, a time that is over), it ends once, in
 * `#finish`, and gives its slot back once, in `#releaseSlot`. `resend.ts` says when it may be sent again.
 */
import type { RouterLimits } from '../../sdk/model/limits.ts'
import type { ErrorCode } from '../../sdk/model/errors.ts'
import type { InstancePool, PooledInstance, Refusal } from '../../runtime/pool/pool.ts'
import type { Client, LiveRequest } from '../client.ts'
import type { RequestHead } from '../request-head.ts'
import { ClientAnswer } from './client-answer.ts'
import type { InstanceConnection, ResponseReader } from './connection.ts'
import type { ExchangeOptions, ExchangePorts } from './exchange-ports.ts'
import type { Mourner } from './instance-link.ts'
import { RequestBody, uncork } from './request-body.ts'
import { canResend } from './resend.ts'
import type { ResponseHead } from './response-head.ts'
import { switchingText, type TunnelEnd } from './tunnel.ts'

/** `bereft`: its connection broke, and the reason may still come. `flushing`: only the client has yet to read. */
type State = 'placing' | 'queued' | 'waiting' | 'bereft' | 'responding' | 'tunnel' | 'flushing' | 'done'

export class Exchange implements LiveRequest, ResponseReader, Mourner {
  readonly head: RequestHead
  /** Of the function and version that were chosen; empty where there was none. */
  functionName = ''
  versionId = ''
  readonly #ports: ExchangePorts
  readonly #client: Client
  readonly #answer: ClientAnswer
  readonly #tunnel: TunnelEnd | undefined
  readonly #body: RequestBody | undefined
  readonly #startMs = performance.now()
  #state: State = 'placing'
  #leaveQueue: (() => void) | undefined
  #pool: InstancePool | undefined
  #instance: PooledInstance | undefined
  #instanceId: string | undefined
  #connection: InstanceConnection | undefined
  #headArrived = false
  #attempts = 0
  #placedMs = 0
  #firstPlacedMs = 0
  #cold = false
  #error: ErrorCode | undefined
  #causeTimer: NodeJS.Timeout | undefined

  constructor(options: ExchangeOptions) {
    const { head, request, ports } = options
    this.head = head
    this.#ports = ports
    this.#client = options.client
    this.#tunnel = options.tunnel
    const hasBody = head.chunked || (head.contentLength ?? 0) > 0
    if (hasBody) {
      const onTooLarge = (): void => this.onRequestBroken('body_too_large', tooLarge(ports.limits))
      this.#body = new RequestBody({
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

  get isReceived(): boolean {
    return this.#answer.isReceived
  }

  enqueue(pool: InstancePool): void {
    this.#state = 'queued'
    const waiter = {
      onSlot: (instance: PooledInstance) => this.start(pool, instance),
      onRefusal: (refusal: Refusal) => this.refuse(refusal),
      onClosed: () => {
        this.#state = 'placing'
        this.#ports.place(this)
      },
    }
    const waiting = pool.wait(waiter, performance.now())
    if ('refusal' in waiting) this.refuse(waiting.refusal)
    else this.#leaveQueue = waiting.leave
  }

  /** Sends the request to the instance, of which it has a slot. */
  start(pool: InstancePool, instance: PooledInstance): void {
    this.#leaveQueue = undefined
    this.#pool = pool
    this.#instance = instance
    this.#instanceId = instance.id
    this.#state = 'waiting'
    this.#attempts++
    this.#placedMs = performance.now()
    if (this.#firstPlacedMs === 0) this.#firstPlacedMs = this.#placedMs
    if (instance.cold) {
      instance.cold = false
      this.#cold = true
    }
    if (this.head.expectsContinue && this.#firstPlacedMs === this.#placedMs) this.#answer.askForBody()
    const connection = this.#ports.links.of(instance).connection()
    this.#connection = connection
    connection.begin(this)
    this.#send(connection)
  }

  #send(connection: InstanceConnection): void {
    const { socket } = connection
    const { text, contentLength } = this.head
    const body = this.#body
    if (body === undefined) {
      if (this.#tunnel !== undefined)
        socket.write(`${text}upgrade: websocket\r\nconnection: Upgrade\r\n\r\n`, 'latin1')
      else
        socket.write(
          contentLength === undefined ? `${text}\r\n` : `${text}content-length: 0\r\n\r\n`,
          'latin1',
        )
      connection.requestWritten = true
      return
    }
    const framing =
      contentLength === undefined ? 'transfer-encoding: chunked' : `content-length: ${contentLength}`
    this.#headArrived = false
    // Corked for one tick: a body that came with its head leaves with its head.
    socket.cork()
    socket.write(`${text}${framing}\r\n\r\n`, 'latin1', (error) => {
      if (error === null || error === undefined) this.#headArrived = true
    })
    body.sendTo(connection)
    process.nextTick(uncork, socket)
  }

  /** Answers with an error of the router. `close`: what follows on the connection is not to be read. */
  refuse(refusal: Refusal, options: { readonly close: boolean } = { close: false }): void {
    if (this.#state === 'done' || this.#state === 'flushing') return
    this.#error = refusal.code
    this.#letGo()
    if (this.#answer.begun) {
      this.#answer.breakOff()
      this.#finish()
      return
    }
    const { draining } = this.#ports
    this.#answer.error({ ...refusal, requestId: this.head.requestId }, { draining, close: options.close })
    this.#flush()
  }

  // From the instance.

  onResponse(head: ResponseHead, body: string | Buffer): void {
    this.#connection = undefined
    if (head.error !== undefined && this.#failAs(head.error)) return
    if (this.isHead || head.status === 304) {
      if (head.contentLength !== undefined) head.headers.push('content-length', String(head.contentLength))
    } else if (head.status !== 204) head.headers.push('content-length', String(body.length))
    if (!this.#writeHead(head)) return
    this.#answer.end(body)
    this.#letGo()
    this.#flush()
  }

  onHead(head: ResponseHead, bodyFollows: boolean): void {
    if (head.error !== undefined && this.#failAs(head.error)) return
    if (head.contentLength !== undefined) head.headers.push('content-length', String(head.contentLength))
    if (!this.#writeHead(head)) return
    this.#state = 'responding'
    // An event stream may send its head long before its first event.
    if (!bodyFollows) this.#answer.flushHead()
  }

  onBody(part: Buffer): void {
    const taken =
      this.#state === 'tunnel'
        ? this.#tunnel!.write(part)
        : this.#state !== 'responding' || this.#answer.write(part)
    if (!taken) this.#pauseInstance()
  }

  onEnd(): void {
    this.#connection = undefined
    if (this.#state !== 'responding') return
    this.#answer.end()
    this.#letGo()
    this.#flush()
  }

  onTunnel(head: ResponseHead, rest: Buffer): void {
    const text = switchingText(head, {
      'x-request-id': this.head.requestId,
      'x-isola-version': this.versionId,
    })
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
    this.refuse({
      code: 'invalid_response',
      message: `the function "${this.functionName}" sent an invalid response: ${why}`,
    })
  }

  onLost(code: string | undefined): void {
    const connection = this.#connection!
    this.#connection = undefined
    this.#body?.detach()
    if (this.#state === 'tunnel') {
      this.#tunnel!.end()
      this.#letGo()
      this.#finish()
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
    const { connected } = connection
    if (canResend({ code, connected, body: this.#body, headArrived: this.#headArrived })) this.#retry()
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
    this.#letGo()
    this.#finish({ aborted: !isOver || (this.#state === 'flushing' && !this.#answer.sent) })
  }

  onRequestBroken(code: 'bad_request' | 'request_timeout' | 'body_too_large', message: string): void {
    this.refuse({ code, message }, { close: true })
  }

  expire(nowMs: number, elapsedMs: number): void {
    const { limits } = this.#ports
    const body = this.#body
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
      body === undefined || body.ended ? Math.max(this.#placedMs, body?.endedAtMs ?? 0) : body.stuckSinceMs
    if (sinceMs === undefined || nowMs - sinceMs <= limits.responseTimeoutMs) return
    this.refuse({
      code: 'response_timeout',
      message: `the function "${this.functionName}" did not begin to answer within ${limits.responseTimeoutMs} ms`,
    })
  }

  // Ends.

  #retry(): void {
    if (this.#attempts >= this.#ports.limits.attemptsMax) {
      this.refuse({
        code: 'instance_crashed',
        message: `no instance of the function "${this.functionName}" took the request in ${this.#attempts} attempts`,
      })
      return
    }
    this.#state = 'placing'
    this.#releaseSlot()
    this.#ports.place(this)
  }

  /** The instance has more connections to accept than its backlog holds: nobody's fault yet. */
  #retryLater(): void {
    const { connectTimeoutMs } = this.#ports.limits
    if (performance.now() - this.#firstPlacedMs > connectTimeoutMs) {
      const message = `the function "${this.functionName}" took no connection within ${connectTimeoutMs} ms`
      this.refuse({ code: 'response_timeout', message })
      return
    }
    this.#attempts--
    this.#state = 'placing'
    this.#releaseSlot()
    setTimeout(() => {
      if (this.#state === 'placing') this.#retry()
    }, RETRY_MS)
  }

  #waitForCause(): void {
    this.#causeTimer ??= setTimeout(() => this.#failWithCause(), this.#ports.limits.causeWaitMs)
  }

  #failWithCause(): void {
    const cause = this.#instance?.gone ?? {
      code: 'instance_crashed' as const,
      message: `the instance of the function "${this.functionName}" closed the connection without a whole response`,
    }
    this.refuse({ code: cause.code, message: cause.message })
  }

  /** An error that the instance's runtime names instead of an answer. */
  #failAs(error: string): boolean {
    if (error !== 'function_threw') return false
    this.refuse({
      code: error,
      message: `the function "${this.functionName}" threw an exception: its log has the stack`,
    })
    return true
  }

  #writeHead(head: ResponseHead): boolean {
    const { headers } = head
    headers.push('x-request-id', this.head.requestId, 'x-isola-version', this.versionId)
    if (this.#answer.writeHead(head, { draining: this.#ports.draining })) return true
    // The response may have ended, and its connection be idle again: it is not to be trusted.
    this.#ports.links.of(this.#instance!).closeIdle()
    this.refuse({
      code: 'invalid_response',
      message: `the function "${this.functionName}" sent an invalid response: a header has characters that no header may have`,
    })
    return false
  }

  #pauseInstance(): void {
    if (this.#answer.stuckSinceMs !== undefined) return
    const connection = this.#connection
    connection?.socket.pause()
    this.#answer.awaitDrain(performance.now(), () => {
      // By now the connection may serve another request.
      if (this.#connection === connection) connection?.socket.resume()
    })
  }

  /** Everything that the exchange holds but the client. */
  #letGo(): void {
    this.#leaveQueue?.()
    this.#leaveQueue = undefined
    this.#connection?.abandon()
    this.#connection = undefined
    this.#body?.drop()
    this.#releaseSlot()
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
    this.#pool!.release(instance)
  }

  /** The response is written; ends once the client has it. */
  #flush(): void {
    this.#state = 'flushing'
    if (this.#answer.flush(performance.now(), () => this.#finish())) this.#finish()
  }

  #finish(options: { readonly aborted: boolean } = { aborted: false }): void {
    if (this.#state === 'done') return
    this.#state = 'done'
    const { live } = this.#client
    if (live.length === 1) live.pop()
    else live.splice(live.indexOf(this), 1)
    // What came behind this request could not be read: nothing more will be answered here.
    if (this.#client.closing && live.length === 0) this.#answer.closeAfter()
    const { head } = this
    const totalMs = performance.now() - this.#startMs
    this.#ports.onFinish({
      functionName: this.functionName,
      versionId: this.versionId,
      instanceId: this.#instanceId,
      requestId: head.requestId,
      endedAtMs: Date.now(),
      method: head.method,
      host: head.host ?? head.hostHeader,
      target: head.target,
      status: this.#answer.status === 0 ? CLIENT_CLOSED : this.#answer.status,
      totalMs,
      queueMs: this.#firstPlacedMs === 0 ? totalMs : this.#firstPlacedMs - this.#startMs,
      cold: this.#cold,
      error: this.#error,
      clientAborted: options.aborted,
    })
  }
}

/** In the log only, as nginx writes it: the client went before there was a status. */
const CLIENT_CLOSED = 499

const RETRY_MS = 10

function tooLarge({ requestBodyBytesMax }: RouterLimits): string {
  return `the request body has more than ${requestBodyBytesMax} bytes`
}
