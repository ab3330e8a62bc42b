import type { IncomingMessage, ServerResponse } from 'node:http'
import { ERRORS, type ErrorBody, type ErrorCode } from '../../sdk/model/errors.ts'
import { INSTANCE_HEADERS } from '../pool/driver.ts'

interface DoorFailure {
  readonly code: ErrorCode
  readonly message: string
}

/** In the form of the router's own errors, of which the client cannot tell it. */
export function sendFailure(
  response: ServerResponse,
  { code, message }: DoorFailure,
  { routerId, requestId }: { readonly routerId: string; readonly requestId?: string },
): void {
  if (response.destroyed || response.headersSent) return
  const content: ErrorBody = { error: { code, message, requestId: routerId } }
  const body = Buffer.from(`${JSON.stringify(content)}\n`)
  const headers = [
    'content-type',
    'application/json; charset=utf-8',
    'content-length',
    String(body.length),
    'cache-control',
    'no-store',
    'x-isola-error',
    code,
    INSTANCE_HEADERS.error,
    code,
  ]
  if (requestId !== undefined) headers.push('x-amzn-requestid', requestId)
  response.writeHead(ERRORS[code].status, headers)
  response.end(body)
}

/** Of a request that the function was not given. */
export function answerFailure(
  response: ServerResponse,
  request: IncomingMessage,
  failure: DoorFailure,
): void {
  const routerId = request.headers[INSTANCE_HEADERS.requestId]
  sendFailure(response, failure, { routerId: typeof routerId === 'string' ? routerId : '' })
}
