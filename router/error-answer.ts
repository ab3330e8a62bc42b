import { STATUS_CODES, type ServerResponse } from 'node:http'
import { ERRORS, type ErrorBody, type ErrorCode } from '../sdk/model/errors.ts'
import { INNER_DOOR_HEADERS } from '../runtime/pool/inner-door.ts'

/** What the router itself answers where no function could. */
export interface ErrorAnswer {
  readonly code: ErrorCode
  readonly message: string
  readonly requestId: string
  /** @default that of the table of errors */
  readonly retryAfterS?: number
}

/** The response's head must not have been sent. Returns the status. */
export function answerError(
  response: ServerResponse,
  answer: ErrorAnswer,
  options: { readonly close: boolean; readonly inner: boolean },
): number {
  const { status, body, headers } = compose(answer)
  // `x-isola-error` may be a function's own words; this one is said by processes of the node alone.
  if (options.inner) headers.push(INNER_DOOR_HEADERS.error, answer.code)
  if (options.close) headers.push('connection', 'close')
  // With its reason: one that node:http has refused before would still be there.
  response.writeHead(status, STATUS_CODES[status], headers)
  response.end(body)
  return status
}

/** The same as bytes, for a connection on which no request could be read. The connection ends with it. */
export function errorAnswerBytes(answer: ErrorAnswer): string {
  const { status, body, headers } = compose(answer)
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status]!}\r\ndate: ${new Date().toUTCString()}\r\n`
  for (let index = 0; index < headers.length; index += 2)
    text += `${headers[index]!}: ${headers[index + 1]!}\r\n`
  return `${text}connection: close\r\n\r\n${body}`
}

function compose({ code, message, requestId, retryAfterS }: ErrorAnswer): {
  status: number
  body: string
  headers: string[]
} {
  const kind: { readonly status: number; readonly retryAfterS?: number } = ERRORS[code]
  const content: ErrorBody = { error: { code, message, requestId } }
  const body = `${JSON.stringify(content)}\n`
  const headers = [
    'content-type',
    'application/json; charset=utf-8',
    'content-length',
    String(Buffer.byteLength(body)),
    'cache-control',
    'no-store',
    'x-content-type-options',
    'nosniff',
    'x-request-id',
    requestId,
    'x-isola-error',
    code,
  ]
  const wait = retryAfterS ?? kind.retryAfterS
  if (wait !== undefined) headers.push('retry-after', String(wait))
  if (kind.status === 405) headers.push('allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS')
  return { status: kind.status, body, headers }
}
