import { ERRORS, isIsolaError, type ErrorBody, type ErrorCode } from '../../sdk/model/errors.ts'

/** The one shape of every error of the control API. What is not ours to show becomes `internal`, with its id. */
export function errorResponse(error: unknown, requestId: string): Response {
  const known = isIsolaError(error)
  const code: ErrorCode = known ? error.code : 'internal'
  const message = known
    ? error.message
    : `something failed inside the node: look for request ${requestId} in its log`
  const kind: { readonly status: number; readonly retryAfterS?: number } = ERRORS[code]
  const details = known ? error.details : undefined
  const body: ErrorBody = { error: { code, message, requestId, ...(details && { details }) } }
  const headers = new Headers({ 'content-type': 'application/json' })
  if (kind.retryAfterS !== undefined) headers.set('retry-after', String(kind.retryAfterS))
  if (code === 'unauthorized') headers.set('www-authenticate', 'Bearer')
  const allow = code === 'method_not_allowed' ? details?.['allow'] : undefined
  if (typeof allow === 'string') headers.set('allow', allow)
  return new Response(JSON.stringify(body), { status: kind.status, headers })
}
