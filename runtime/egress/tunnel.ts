import { request as httpRequest, ServerResponse, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { pipeline, type Duplex } from 'node:stream'
import { type IsolaError } from '../../sdk/model/errors.ts'
import { answerError, asEgressError } from './answer.ts'
import { placeOf, type Destination } from './destination.ts'
import { dial, type DialContext } from './dial.ts'
import type { EgressLimits } from './egress-limits.ts'
import { requestHeaders, responseHeaders } from './headers.ts'

export interface TunnelOptions {
  readonly request: IncomingMessage
  /** The instance's side, and what was read of it beyond the head. */
  readonly socket: Duplex
  readonly head: Buffer
  readonly destination: Destination
  readonly dialContext: DialContext
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
  options: TunnelOptions & { readonly authority: string; readonly path: string },
): Promise<void> {
  const { request, socket, head, destination, authority, path, limits, onError } = options
  const upstream = await open(options, { secure: destination.secure, allowHalfOpen: false })
  if (upstream === undefined) return
  const outgoing = httpRequest({
    createConnection: () => upstream,
    path,
    maxHeaderSize: limits.headBytesMax,
    headers: [
      ...requestHeaders(request.rawHeaders, authority),
      'Connection',
      'Upgrade',
      'Upgrade',
      'websocket',
    ],
  })
  let response: ServerResponse | undefined
  outgoing.on('upgrade', (answer, _socket, answerHead) => {
    const fields = ['Connection', 'Upgrade', 'Upgrade', 'websocket', ...responseHeaders(answer.rawHeaders)]
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
      response.writeHead(
        answer.statusCode ?? 502,
        answer.statusMessage ?? '',
        responseHeaders(answer.rawHeaders),
      )
    } catch (error) {
      answer.destroy(error as Error)
      return
    }
    pipeline(answer, response, () => upstream.destroy())
  })
  outgoing.on('error', (error) => {
    const failure = asEgressError(error, placeOf(destination.hostname, destination.port))
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
  { request, socket, destination, dialContext, limits, onError }: TunnelOptions,
  { secure, allowHalfOpen }: { secure: boolean; allowHalfOpen: boolean },
): Promise<Socket | undefined> {
  const { hostname, port, trusted } = destination
  const tlsName = secure ? destination.tlsName : undefined
  const { tunnelIdleTimeoutMs } = limits
  try {
    const upstream = await dial({ hostname, port, tlsName, trusted, allowHalfOpen }, dialContext)
    upstream.setTimeout(tunnelIdleTimeoutMs, () => {
      upstream.destroy(new Error(`no byte moved in ${tunnelIdleTimeoutMs} ms`))
    })
    if (!socket.destroyed) return upstream
    upstream.destroy()
  } catch (error) {
    const failure = asEgressError(error, placeOf(hostname, port))
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
