/** START, END and REPORT of invocations, as AWS writes them, and why one failed where nobody else would say it. */
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { FunctionFailure } from './function-failure.ts'
import type { LambdaFunction } from './wire.ts'

export interface InvocationLog {
  start(requestId: string): void
  end(requestId: string, outcome: InvocationOutcome): void
}

export interface InvocationOutcome {
  readonly durationMs: number
  /** For the first invocation. */
  readonly initMs: number | undefined
  readonly failure: FunctionFailure | undefined
}

export function createInvocationLog(options: {
  readonly fn: LambdaFunction
  readonly instanceId: string
  readonly send: (line: LogLine) => void
}): InvocationLog {
  const { fn, instanceId, send } = options
  const write = (requestId: string, level: LogLine['level'], message: string): void =>
    send({
      time: new Date().toISOString(),
      source: 'instance',
      level,
      functionName: fn.functionName,
      versionId: fn.versionId,
      instanceId,
      requestId,
      message,
    })
  return {
    start: (requestId) => write(requestId, 'info', `START RequestId: ${requestId} Version: $LATEST`),
    end(requestId, { durationMs, initMs, failure }) {
      if (failure !== undefined && failure.isOwn !== true)
        write(requestId, 'error', failureText(requestId, failure, fn.timeoutMs))
      write(requestId, 'info', `END RequestId: ${requestId}`)
      const fields = [
        `REPORT RequestId: ${requestId}`,
        `Duration: ${durationMs.toFixed(2)} ms`,
        `Billed Duration: ${Math.max(1, Math.ceil(durationMs))} ms`,
        `Memory Size: ${fn.memoryMib} MB`,
      ]
      if (initMs !== undefined) fields.push(`Init Duration: ${initMs.toFixed(2)} ms`)
      if (failure?.errorType === 'Sandbox.Timedout') fields.push('Status: timeout')
      else if (failure !== undefined) fields.push('Status: error', `Error Type: ${failure.errorType}`)
      write(requestId, 'info', `${fields.join('\t')}\t`)
    },
  }
}

function failureText(requestId: string, failure: FunctionFailure, timeoutMs: number): string {
  if (failure.errorType === 'Sandbox.Timedout') {
    return `${new Date().toISOString()} ${requestId} Task timed out after ${(timeoutMs / 1000).toFixed(2)} seconds`
  }
  return failure.errorMessage === '' ? failure.errorType : `${failure.errorType}: ${failure.errorMessage}`
}
