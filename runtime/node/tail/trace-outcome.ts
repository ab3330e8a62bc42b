import { ERRORS, type ErrorCode } from '../../../sdk/model/errors.ts'
import type { LogLine, RequestSummary } from '../../../sdk/model/log-line.ts'
import type { TraceException, TraceOutcome } from './trace-event.ts'

const OUTCOMES: Partial<Record<ErrorCode, TraceOutcome>> = {
  function_threw: 'exception',
  cpu_limit_exceeded: 'exceededCpu',
  memory_limit_exceeded: 'exceededMemory',
}

export function outcomeOf(
  { clientAborted, error }: Pick<RequestSummary, 'clientAborted' | 'error'>,
  exceptions: number,
): TraceOutcome {
  if (clientAborted === true) return 'canceled'
  if (error === undefined) return exceptions > 0 ? 'exception' : 'ok'
  return isErrorCode(error) ? (OUTCOMES[error] ?? 'unknown') : 'unknown'
}

function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERRORS, text)
}

/** `TypeError: text` has a name and a text; what was thrown without a name is an `Error`. */
const NAMED = /^(?:Uncaught )?([A-Z][\w$]{0,99}): ([\s\S]*)$/

export function exceptionOf({ message, stack, time }: LogLine): TraceException {
  const [, name = 'Error', text = message] = NAMED.exec(message) ?? []
  // Clients print name and text in front of it.
  const frames = stack?.startsWith(`${message}\n`) === true ? stack.slice(message.length + 1) : stack
  return { name, message: text, ...(frames !== undefined && { stack: frames }), timestamp: Date.parse(time) }
}

/** For a request that isola ended: a client that only looks at exceptions must see why. `said`: of its instance's end. */
export function refusalException(error: string, said: string | undefined, timestamp: number): TraceException {
  return { name: 'Error', message: said === undefined ? error : `${error}: ${said}`, timestamp }
}
