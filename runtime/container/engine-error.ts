/** What becomes an error where the engine cannot be reached, or says what it should not. */
import { IsolaError } from '../../sdk/model/errors.ts'
import { ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import type { EngineAnswer } from './engine-http.ts'

const WAY_OUT_BY_CODE: Readonly<Record<string, string>> = {
  ENOENT: 'nothing is there: install an engine ("apt-get install docker.io") or start it ("dockerd")',
  ECONNREFUSED: 'nobody listens there: start the engine ("systemctl start docker", or "dockerd")',
  EACCES: 'this user may not use it: add it to the group "docker", or run the node as root',
  EPERM: 'this user may not use it: add it to the group "docker", or run the node as root',
}

/** `engine_unavailable`, with the way out. */
export function engineUnavailable(options: {
  readonly socketPath: string
  readonly doing?: string
  readonly problem?: string
  readonly cause?: unknown
}): IsolaError {
  const { socketPath, doing, cause } = options
  const problem = options.problem ?? problemOf(cause, doing ?? '')
  return new IsolaError(
    'engine_unavailable',
    `the container engine at ${socketPath} cannot be used: ${problem}; "isola doctor" checks it. Worker functions need none`,
    { cause },
  )
}

function problemOf(cause: unknown, doing: string): string {
  const error = cause as NodeJS.ErrnoException
  if (error.name === 'TimeoutError' || (error.cause as Error | undefined)?.name === 'TimeoutError') {
    return `${doing} was not answered in time`
  }
  return WAY_OUT_BY_CODE[error.code ?? ''] ?? `${doing} broke off (${error.message})`
}

/** For what the engine says that nobody expects. */
export function engineFailure(problem: string): IsolaError {
  return new IsolaError('internal', `the container engine failed: ${problem}`)
}

export function unexpectedAnswer(doing: string, { status, message }: EngineAnswer): IsolaError {
  return engineFailure(
    `${doing} was answered ${status} (${message.slice(0, ENGINE_LIMITS.messageLengthMax)})`,
  )
}
