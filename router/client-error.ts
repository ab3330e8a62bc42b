/**
 * What node:http could not read as a request: answered once, and the connection ends. Responses that are still under
 * way on it come first: an error written into the midst of them would be taken for one of them.
 */
import type { Socket } from 'node:net'
import type { ErrorCode } from '../sdk/model/errors.ts'
import type { RouterLimits } from '../sdk/model/limits.ts'
import { clientOf } from './client.ts'
import { errorAnswerBytes } from './error-answer.ts'
import { linger } from './linger.ts'
import { makeRequestId } from './request-id.ts'

type ClientErrorCode =
  | 'bad_request'
  | 'request_timeout'
  | 'body_too_large'
  | 'headers_too_large'
  | 'uri_too_long'

/** Returns what was answered where no request had been read; a request in progress accounts for itself. */
export function onClientError(
  error: NodeJS.ErrnoException & { rawPacket?: Buffer },
  socket: Socket,
  limits: RouterLimits,
): ErrorCode | undefined {
  const client = clientOf(socket)
  if (client === undefined || error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return undefined
  }
  // node:http repeats itself with everything that still arrives.
  if (client.closing) return undefined
  client.closing = true
  // Nothing was ever asked: a connection opened in advance, which needs no answer.
  if (socket.bytesRead === 0) {
    socket.destroy()
    return undefined
  }
  const { code, message } = explain(error, socket, limits)
  const last = client.live.at(-1)
  if (last === undefined) {
    socket.write(errorAnswerBytes({ code, message, requestId: makeRequestId() }), 'latin1')
    linger(socket, limits.lingerMs)
    return code
  }
  if (!last.isReceived) {
    last.onRequestBroken(
      code === 'headers_too_large' || code === 'uri_too_long' ? 'bad_request' : code,
      message,
    )
  }
  // Else a request behind the ones in progress is malformed: their responses say "close", and that is the end of it.
  return undefined
}

function explain(
  error: NodeJS.ErrnoException & { rawPacket?: Buffer; reason?: string },
  socket: Socket,
  limits: RouterLimits,
): { code: ClientErrorCode & ErrorCode; message: string } {
  switch (error.code) {
    case 'HPE_HEADER_OVERFLOW': {
      const first = error.rawPacket
      const isRequestLine =
        first !== undefined && socket.bytesRead <= first.length && !hasLine(first, limits.urlBytesMax)
      if (isRequestLine)
        return {
          code: 'uri_too_long',
          message: `the request's URL has more than ${limits.urlBytesMax} bytes`,
        }
      return {
        code: 'headers_too_large',
        message: `the request's headers have more than ${limits.headerBytesMax} bytes`,
      }
    }
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return { code: 'body_too_large', message: 'the chunk extensions of the request body are too long' }
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return {
        code: 'request_timeout',
        message: `the request's head took longer than ${limits.headersTimeoutMs} ms`,
      }
    default:
      return {
        code: 'bad_request',
        message: `the request is not valid HTTP/1.1: ${error.reason ?? error.message}`,
      }
  }
}

/** Whether the first line ends within the bound (and the bytes of method and version). */
function hasLine(packet: Buffer, charsMax: number): boolean {
  const end = packet.indexOf(10)
  return end !== -1 && end <= charsMax + 64
}
