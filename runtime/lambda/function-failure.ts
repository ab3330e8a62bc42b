/**
 * Why an invocation has no result, in the words that AWS uses, because callers and dashboards match on them. Who calls
 * over HTTP learns less: the function's own words are for its log, as a client is anybody.
 */
import type { ErrorCode } from '../../sdk/model/errors.ts'
import { CONTAINER_LIMITS, LAMBDA_LIMITS } from '../../sdk/model/limits.ts'
import type { EnvironmentEnd } from './wire.ts'

export interface FunctionFailure {
  readonly errorType: string
  /** In AWS's words. */
  readonly errorMessage: string
  /** The error document: what Invoke answers. */
  readonly document: Buffer
  /** What a client over HTTP is answered. */
  readonly code: ErrorCode
  readonly message: string
  /** The function said it itself, and has logged it. */
  readonly isOwn?: boolean
}

interface Subject {
  readonly functionName: string
  readonly requestId: string
}

export function timedOut(subject: Subject, timeoutMs: number): FunctionFailure {
  const after = `${(timeoutMs / 1000).toFixed(2)} seconds`
  return failure({
    errorType: 'Sandbox.Timedout',
    errorMessage: `RequestId: ${subject.requestId} Error: Task timed out after ${after}`,
    code: 'function_timeout',
    message: `the function "${subject.functionName}" timed out after ${after}: make it faster or raise its timeout`,
  })
}

/** Its container ended while it was at it. */
export function exited(
  subject: Subject & { readonly memoryMib: number },
  end: EnvironmentEnd,
): FunctionFailure {
  const words = exitWords(end)
  return failure({
    errorType: end.outOfMemory ? 'Runtime.OutOfMemory' : 'Runtime.ExitError',
    errorMessage: `RequestId: ${subject.requestId} Error: ${words}`,
    code: end.outOfMemory ? 'memory_limit_exceeded' : 'instance_crashed',
    message: end.outOfMemory
      ? `the instance of function "${subject.functionName}" reached its memory limit of ${subject.memoryMib} MiB and was ended: raise it`
      : `the instance of function "${subject.functionName}" ended before it answered: its log may say why`,
  })
}

export function exitWords(end: EnvironmentEnd): string {
  if (end.outOfMemory) return 'Runtime exited with error: signal: killed'
  if (end.signal !== undefined) {
    return `Runtime exited with error: signal: ${SIGNAL_WORDS[end.signal] ?? end.signal}`
  }
  if (end.exitCode === undefined || end.exitCode === 0) return 'Runtime exited without providing a reason'
  return `Runtime exited with error: exit status ${end.exitCode}`
}

/** As Go spells them, in which AWS's supervisor is written. */
const SIGNAL_WORDS: Readonly<Record<string, string>> = {
  SIGHUP: 'hangup',
  SIGINT: 'interrupt',
  SIGQUIT: 'quit',
  SIGILL: 'illegal instruction',
  SIGTRAP: 'trace/breakpoint trap',
  SIGABRT: 'aborted',
  SIGBUS: 'bus error',
  SIGFPE: 'floating point exception',
  SIGKILL: 'killed',
  SIGSEGV: 'segmentation fault',
  SIGPIPE: 'broken pipe',
  SIGALRM: 'alarm clock',
  SIGTERM: 'terminated',
  SIGXCPU: 'CPU time limit exceeded',
  SIGSYS: 'bad system call',
}

export function responseTooLarge({ functionName }: Subject): FunctionFailure {
  const max = CONTAINER_LIMITS.payloadBytesMax
  return failure({
    errorType: 'Function.ResponseSizeTooLarge',
    errorMessage: `Response payload size exceeded maximum allowed payload size (${max} bytes).`,
    code: 'response_too_large',
    message: `the response of function "${functionName}" has more than ${max} bytes: stream it, or answer with less`,
  })
}

/** The runtime's connection broke before the end of its response. */
export function truncated({ functionName }: Subject): FunctionFailure {
  return failure({
    errorType: 'Runtime.TruncatedResponse',
    errorMessage: 'The runtime closed its connection before the end of its response.',
    code: 'function_failed',
    message: `the function "${functionName}" broke its response off`,
  })
}

export function invalidResponseMode({ functionName }: Subject, mode: string): FunctionFailure {
  return failure({
    errorType: 'Runtime.InvalidResponseModeHeader',
    errorMessage: `Invalid response mode ${JSON.stringify(mode.slice(0, 100))}: only "streaming" is known.`,
    code: 'function_failed',
    message: `the function "${functionName}" sent a response of a mode that does not exist`,
  })
}

/** What it returned is no HTTP response. `why` goes on after "its response". */
export function malformed({ functionName }: Subject, why: string): FunctionFailure {
  return failure({
    errorType: 'Function.MalformedResponse',
    errorMessage: `Its result is no response of a Function URL: ${why}`,
    code: 'function_failed',
    message: `the function "${functionName}" returned what is no HTTP response: its log says why`,
  })
}

/** An error that the runtime reported. The document is what it sent, if that is one. */
export function reported(
  { functionName }: Subject,
  report: { readonly body: Buffer; readonly headerType: string | undefined },
): FunctionFailure {
  const { errorType, errorMessage, isDocument } = readErrorDocument(report.body, report.headerType)
  const document = isDocument ? report.body : documentOf(errorType, errorMessage)
  return {
    errorType,
    errorMessage,
    document,
    code: 'function_failed',
    message: `the function "${functionName}" failed: its log has the error`,
    isOwn: true,
  }
}

/** Extensions report theirs in a header alone, as a rule. */
export function extensionFailed({ functionName }: Subject, errorType: string, name: string): FunctionFailure {
  return failure({
    errorType,
    errorMessage: `Extension ${JSON.stringify(name)} failed.`,
    code: 'function_failed',
    message: `an extension of the function "${functionName}" failed: its log may say why`,
  })
}

export interface ErrorWords {
  readonly errorType: string
  readonly errorMessage: string
  /** Whether the body is an error document itself. */
  readonly isDocument: boolean
}

export function readErrorDocument(body: Buffer, headerType: string | undefined): ErrorWords {
  const fallback = cut(headerType ?? 'Runtime.Unknown', LAMBDA_LIMITS.errorTypeLengthMax)
  let document: unknown
  try {
    document = JSON.parse(body.toString('utf8'))
  } catch {
    return { errorType: fallback, errorMessage: '', isDocument: false }
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    return { errorType: fallback, errorMessage: '', isDocument: false }
  }
  const { errorType, errorMessage } = document as Record<string, unknown>
  const isNamed = typeof errorType === 'string' && errorType !== ''
  return {
    errorType: isNamed ? cut(errorType, LAMBDA_LIMITS.errorTypeLengthMax) : fallback,
    errorMessage: typeof errorMessage === 'string' ? cut(errorMessage, LAMBDA_LIMITS.errorTextLengthMax) : '',
    isDocument: true,
  }
}

function failure(words: Omit<FunctionFailure, 'document'>): FunctionFailure {
  return { ...words, document: documentOf(words.errorType, words.errorMessage) }
}

function documentOf(errorType: string, errorMessage: string): Buffer {
  return Buffer.from(JSON.stringify({ errorType, errorMessage }))
}

function cut(text: string, lengthMax: number): string {
  return text.length > lengthMax ? `${text.slice(0, lengthMax)}…` : text
}
