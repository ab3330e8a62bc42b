import { STATUS_CODES, type ServerResponse } from 'node:http'
import { isIsolaError, type IsolaError } from '../../sdk/model/errors.ts'
import { INNER_DOOR_HEADERS } from '../pool/inner-door.ts'
import { failed } from './dial.ts'

/** Tells the proxy's own answers from those of the place that was asked; that of the inner door, no function can send. */
const ERROR_HEADER = 'x-isola-error'

/** Answers the function with an error of ours, or cuts an answer that has already begun. */
export function answerError(response: ServerResponse, error: IsolaError): void {
  if (response.destroyed) return
  if (response.headersSent) {
    response.destroy()
    return
  }
  const { code, message, details } = error
  const body = Buffer.from(JSON.stringify({ error: { code, message, ...(details && { details }) } }))
  response.writeHead(error.status, STATUS_CODES[error.status], [
    ['Content-Type', 'application/json'],
    ['Content-Length', String(body.length)],
    [ERROR_HEADER, code],
    [INNER_DOOR_HEADERS.error, code],
  ])
  response.end(body)
}

/** What went wrong as one of our errors: a stranger's becomes `egress_failed`. */
export function asEgressError(error: unknown, place: string): IsolaError {
  return isIsolaError(error) ? error : failed(place, error)
}
