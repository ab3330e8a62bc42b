/**
 * What a try came to. A function that failed is tried again, and each try counts. A refusal is no try: the function did
 * not run because of others, so the event waits as long as it may. What can never succeed is given up at once.
 */
import { isIsolaError, type ErrorCode } from '../../sdk/model/errors.ts'
import { ASYNC_LIMITS } from '../../sdk/model/limits.ts'

export interface TryAnswer {
  readonly status: number
  /** Where the function did not answer. */
  readonly error: ErrorCode | undefined
  /** Where the function failed by its own words. */
  readonly functionError: string | undefined
  readonly retryAfterS: number | undefined
  /** The beginning of it, `ASYNC_LIMITS.answerBytesMax` at most. */
  readonly body: string
}

export type Verdict =
  | { readonly type: 'done' }
  | { readonly type: 'failed' | 'hopeless'; readonly reason: string; readonly answer: string | undefined }
  | { readonly type: 'refused'; readonly reason: string; readonly retryAfterMs: number }

/** The function ran, or does not even start by its own fault. */
const FAILURES = new Set<ErrorCode>([
  'start_failed',
  'crash_loop',
  'function_threw',
  'cpu_limit_exceeded',
  'memory_limit_exceeded',
  'function_failed',
  'function_timeout',
  'instance_crashed',
  'invalid_response',
  'response_timeout',
  'wall_limit_exceeded',
  'response_too_large',
])

/** Would be answered so again. */
const HOPELESS = new Set<ErrorCode>([
  'function_not_found',
  'version_not_found',
  'bad_request',
  'body_too_large',
  'headers_too_large',
  'method_not_allowed',
])

export function judgeAnswer(answer: TryAnswer): Verdict {
  const { status, error, functionError, body } = answer
  if (functionError !== undefined) {
    return { type: 'failed', reason: bounded(ownWords(body) ?? functionError), answer: body }
  }
  if (error === undefined) {
    if (status >= 200 && status < 300) return { type: 'done' }
    return { type: 'failed', reason: `the function answered with status ${status}`, answer: body }
  }
  const reason = bounded(`${error}: ${routerWords(body) ?? `status ${status}`}`)
  if (HOPELESS.has(error)) return { type: 'hopeless', reason, answer: undefined }
  if (FAILURES.has(error)) return { type: 'failed', reason, answer: undefined }
  return { type: 'refused', reason, retryAfterMs: (answer.retryAfterS ?? 0) * 1_000 }
}

/** No answer came at all. Whether the function ran nobody knows: it is tried again. */
export function judgeError(error: unknown): Verdict {
  const reason = isIsolaError(error) ? `${error.code}: ${error.message}` : String(error)
  return { type: 'refused', reason: bounded(reason), retryAfterMs: 0 }
}

function bounded(text: string): string {
  const { reasonCharsMax } = ASYNC_LIMITS
  return text.length > reasonCharsMax ? `${text.slice(0, reasonCharsMax - 1)}…` : text
}

/** `errorType: errorMessage` of an error document, as runtimes write it. */
function ownWords(body: string): string | undefined {
  const { errorType, errorMessage } = objectIn(body)
  const words = [errorType, errorMessage].filter((word) => typeof word === 'string' && word !== '')
  return words.length === 0 ? undefined : words.join(': ')
}

function routerWords(body: string): string | undefined {
  const { error } = objectIn(body)
  const message =
    typeof error === 'object' && error !== null && 'message' in error ? error.message : undefined
  return typeof message === 'string' ? message : undefined
}

function objectIn(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // Cut off, or no JSON at all: it is kept as it is, and says nothing more.
  }
  return {}
}
