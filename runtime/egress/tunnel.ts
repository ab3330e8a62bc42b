import { request as httpRequest, ServerResponse, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { pipeline, type Duplex } from 'node:stream'
import { type IsolaError } from '../../sdk/model/errors.ts'
import { answerError } from './answer.ts'
import type { EgressLimits } from './egress-limits.ts'
import { responseHeaders } from './headers.ts'

export interface TunnelOptions {
  readonly request: IncomingMessage
  /** The instance's side, and what was read of it beyond the head. */
  readonly socket: Duplex
  readonly head: Buffer
  readonly connect: (options: {
    readonly secure: boolean
    readonly allowHalfOpen: boolean
  }) => Promise<Socket>
  /** What went wrong, as one of our errors. */
  readonly toError: (error: unknown) => IsolaError
  readonly limits: EgressLimits
  readonly onError: (error: IsolaError) => void
}

/** CONNECT: bytes both ways, each direction ending by itself. Never throws. */
export async function tunnelTcp(options: TunnelOptions): Promise<void> {
  const { socket, head } = options
  const upstream = await open(options, { secure: false, allowHalfOpen: true })
  if (upstream === undefined) return
  socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
  if (head.length > 0) upstream.write(head)
  join(socket, upstream)
}

/** A WebSocket handshake, passed on; a server that does not switch is answered for as for any request. */
export async function tunnelWebSocket(
  options: TunnelOptions & {
    readonly path: string
    readonly secure: boolean
    /** Those of the connection come to them. */
    readonly headers: readonly string[]
    /** Fields of the answer as they go to the function. @default all but those of the connection */
    readonly headersBack?: (raw: readonly string[]) => string[]
  },
): Promise<void> {
  const { request, socket, head, path, secure, limits, toError, onError } = options
  const { headersBack = responseHeaders } = options
  const upstream = await open(options, { secure, allowHalfOpen: false })
  if (upstream === undefined) return
  const outgoing = httpRequest({
    createConnection: () => upstream,
    path,
    maxHeaderSize: limits.headBytesMax,
    headers: [...options.headers, 'Connection', 'Upgrade', 'Upgrade', 'websocket'],
  })
  let response: ServerResponse | undefined
  outgoing.on('upgrade', (answer, _socket, answerHead) => {
    const fields = ['Connection', 'Upgrade', 'Upgrade', 'websocket', ...headersBack(answer.rawHeaders)]
    let text = `HTTP/1.1 101 ${answer.statusMessage ?? ''}\r\n`
    for (let index = 0; index < fields.length; index += 2)
      text += `${fields[index]}: ${fields[index + 1]}\r\n`
    socket.write(`${text}\r\n`, 'latin1')
    if (answerHead.length > 0) socket.write(answerHead)
    if (head.length > 0) upstream.write(head)
    join(socket, upstream)
  })
  outgoing.on('response', (answer) => {
    response = responseOn(request, socket)
    try {
      response.writeHead(answer.statusCode ?? 502, answer.statusMessage ?? '', headersBack(answer.rawHeaders))
    } catch (error) {
      answer.destroy(error as Error)
      return
    }
    pipeline(answer, response, () => upstream.destroy())
  })
  outgoing.on('error', (error) => {
    const failure = toError(error)
    onError(failure)
    answerError((response ??= responseOn(request, socket)), failure)
  })
  socket.once('close', () => upstream.destroy())
  outgoing.end()
}

/** A response on a socket that the HTTP server has handed over; the socket ends with it. */
export function responseOn(request: IncomingMessage, socket: Duplex): ServerResponse {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.sendDate = false
  response.assignSocket(socket as Socket)
  response.on('finish', () => {
    response.detachSocket(socket as Socket)
    socket.end()
  })
  return response
}

/** Dials for a tunnel; `undefined` when that failed and was answered, or nobody waits any more. */
async function open(
  { request, socket, connect, toError, limits, onError }: TunnelOptions,
  way: { secure: boolean; allowHalfOpen: boolean },
): Promise<Socket | undefined> {
  const { tunnelIdleTimeoutMs } = limits
  try {
    const upstream = await connect(way)
    upstream.setTimeout(tunnelIdleTimeoutMs, () => {
      upstream.destroy(new Error(`no byte moved in ${tunnelIdleTimeoutMs} ms`))
    })
    if (!socket.destroyed) return upstream
    upstream.destroy()
  } catch (error) {
    const failure = toError(error)
    onError(failure)
    answerError(responseOn(request, socket), failure)
  }
  return undefined
}

function join(near: Duplex, far: Duplex): void {
  near.pipe(far)
  far.pipe(near)
  endWith(near, far)
  endWith(far, near)
}

/** When `one` is gone, `other` goes too, but not before it has delivered what `one` sent to its end. */
function endWith(one: Duplex, other: Duplex): void {
  one.on('error', () => one.destroy())
  one.on('close', () => {
    if (one.readableEnded && !other.writableFinished) other.once('finish', () => other.destroy())
    else other.destroy()
  })
}
