/**
 * What the router refused, or what became of a function, as AWS's callers see it. The line that matters: a client of
 * AWS's sends 429 and 5xx again by itself. So these are given only where the function has not run; where it may have, the
 * answer is 200 with `X-Amz-Function-Error`, as it is for a function that failed by itself.
 */
import { ERRORS, type ErrorBody, type ErrorCode } from '../../sdk/model/errors.ts'
import { ApiError } from './api-error.ts'

/** The function, or its start, failed: what the payload of a 200 says. */
export interface FunctionFailure {
  readonly errorType: string
  readonly errorMessage: string
}

const FAILURE_TYPE: Partial<Record<ErrorCode, string>> = {
  start_failed: 'Runtime.InitError',
  crash_loop: 'Runtime.InitError',
  instance_crashed: 'Runtime.ExitError',
  function_failed: 'Runtime.ExitError',
  function_threw: 'Runtime.ExitError',
  cpu_limit_exceeded: 'Runtime.ExitError',
  memory_limit_exceeded: 'Runtime.OutOfMemory',
  function_timeout: 'Sandbox.Timedout',
  response_timeout: 'Sandbox.Timedout',
  wall_limit_exceeded: 'Sandbox.Timedout',
  invalid_response: 'Runtime.TruncatedResponse',
  response_too_large: 'Function.ResponseSizeTooLarge',
}

const THROTTLE_REASON: Partial<Record<ErrorCode, string>> = {
  rate_limited: 'FunctionInvocationRateLimitExceeded',
  quota_exceeded: 'ReservedFunctionConcurrentInvocationLimitExceeded',
  queue_full: 'ConcurrentInvocationLimitExceeded',
  queue_timeout: 'ConcurrentInvocationLimitExceeded',
  node_full: 'ConcurrentInvocationLimitExceeded',
  too_many_connections: 'ConcurrentInvocationLimitExceeded',
}

/** Throws an `ApiError` where the function has not run. */
export function functionFailure(error: ErrorBody['error'], requestId: string): FunctionFailure {
  const { code, message } = error
  const type = FAILURE_TYPE[code]
  if (type !== undefined) {
    return { errorType: type, errorMessage: `RequestId: ${requestId} Error: ${message}` }
  }
  const kind: { readonly status: number; readonly retryAfterS?: number } = ERRORS[code]
  const retry = kind.retryAfterS === undefined ? {} : { retryAfterS: kind.retryAfterS }
  const reason = THROTTLE_REASON[code]
  if (reason !== undefined) {
    throw new ApiError('TooManyRequestsException', `Rate Exceeded. ${message}`, { reason, ...retry })
  }
  if (code === 'bad_request') throw new ApiError('InvalidRequestContentException', message)
  if (code === 'body_too_large') throw new ApiError('RequestTooLargeException', message)
  if (code === 'function_not_found' || code === 'version_not_found' || code === 'no_deployment') {
    throw new ApiError('ResourceNotFoundException', message)
  }
  throw new ApiError('ServiceException', `${message} (${code})`, retry)
}

/** Throttled by `PutFunctionConcurrency` with 0. */
export function throttledToNothing(): ApiError {
  return new ApiError('TooManyRequestsException', 'Rate Exceeded.', {
    reason: 'ReservedFunctionConcurrentInvocationLimitExceeded',
    retryAfterS: 1,
  })
}
