import { CloudflareError, knownError } from './api-error.ts'

/** Of a list: wrangler asks for pages as long as it says that there are more. */
export interface ResultInfo {
  readonly page?: number
  readonly per_page?: number
  readonly count?: number
  readonly total_count?: number
  /** Absent or empty: there is no more. */
  readonly cursor?: string
}

/** A result with what goes beside it in the envelope. */
export class Enveloped {
  readonly result: unknown
  readonly status: number
  readonly resultInfo: ResultInfo | undefined

  constructor(result: unknown, options: { readonly status?: number; readonly resultInfo?: ResultInfo } = {}) {
    this.result = result
    this.status = options.status ?? 200
    this.resultInfo = options.resultInfo
  }
}

/** The whole of a list as its only page. */
export function wholeList(items: readonly unknown[]): Enveloped {
  const count = items.length
  return new Enveloped(items, {
    resultInfo: { page: 1, per_page: Math.max(count, 1), count, total_count: count },
  })
}

/** What an endpoint returned, as Cloudflare wraps it. A `Response` goes as it is. */
export function successResponse(value: unknown): Response {
  if (value instanceof Response) return value
  const { result, status, resultInfo } = value instanceof Enveloped ? value : new Enveloped(value)
  return Response.json(
    {
      success: true,
      errors: [],
      messages: [],
      result: result ?? null,
      ...(resultInfo !== undefined && { result_info: resultInfo }),
    },
    { status },
  )
}

export function errorResponse(error: unknown, requestId: string): Response {
  const known =
    knownError(error) ??
    new CloudflareError('fault', `something failed inside the node: look for request ${requestId} in its log`)
  const { code, message, status, meta, retryAfterS } = known
  return Response.json(
    {
      success: false,
      errors: [{ code, message, ...(meta !== undefined && { meta }) }],
      messages: [],
      result: null,
    },
    { status, ...(retryAfterS !== undefined && { headers: { 'retry-after': String(retryAfterS) } }) },
  )
}
