/** In words, what is answered in a function's place. Where it is for a limit: whose, and both values. */
import type { RouterLimits } from '../../sdk/model/limits.ts'
import type { Refusal } from '../../runtime/pool/pool.ts'
import type { ServedVersion } from '../served-version.ts'

/** `bytes`: of the body, where its length is known before it has come. */
export function bodyTooLarge(
  { limits, served }: { readonly limits: RouterLimits; readonly served: ServedVersion | undefined },
  bytes: number | undefined,
): Refusal {
  const nodeMax = limits.requestBodyBytesMax
  const functionMax = served?.limits.requestBytes ?? Infinity
  const has = bytes === undefined ? `more than ${Math.min(nodeMax, functionMax)}` : String(bytes)
  const whose =
    served !== undefined && functionMax < nodeMax
      ? `the limit of function "${served.functionName}" is ${functionMax}`
      : `this node's limit is ${nodeMax}`
  return { code: 'body_too_large', message: `the request body has ${has} bytes: ${whose}` }
}

/** `bytes`: of the body, where its length is known. */
export function responseTooLarge(
  { functionName, limits }: ServedVersion,
  bytes: number | undefined,
): Refusal {
  const max = limits.responseBytes
  return {
    code: 'response_too_large',
    message: `the response of function "${functionName}" has ${bytes ?? `more than ${max}`} bytes: its limit is ${max}`,
  }
}

export function wallLimitExceeded(
  { functionName, limits }: ServedVersion,
  elapsed: { readonly ms: number; readonly isQueued: boolean },
): Refusal {
  const where = elapsed.isQueued ? 'was still waiting for an instance' : 'had not ended its response'
  return {
    code: 'wall_limit_exceeded',
    message: `the function "${functionName}" is over its wall time limit of ${limits.wallMs} ms: it ${where} ${Math.round(elapsed.ms)} ms after the request`,
  }
}

export function invalidResponse(functionName: string, why: string): Refusal {
  return {
    code: 'invalid_response',
    message: `the function "${functionName}" sent an invalid response: ${why}`,
  }
}

export function noAnswerWithin(functionName: string, timeoutMs: number): Refusal {
  return {
    code: 'response_timeout',
    message: `the function "${functionName}" did not begin to answer within ${timeoutMs} ms`,
  }
}

export function notConnectedWithin(functionName: string, timeoutMs: number): Refusal {
  return {
    code: 'response_timeout',
    message: `the function "${functionName}" took no connection within ${timeoutMs} ms`,
  }
}

export function notTakenIn(functionName: string, attempts: number): Refusal {
  return {
    code: 'instance_crashed',
    message: `no instance of the function "${functionName}" took the request in ${attempts} attempts`,
  }
}

export function brokenOff(functionName: string): Refusal {
  return {
    code: 'instance_crashed',
    message: `the instance of the function "${functionName}" closed the connection without a whole response`,
  }
}

export function threw(functionName: string): Refusal {
  return {
    code: 'function_threw',
    message: `the function "${functionName}" threw an exception: its log has the stack`,
  }
}
