/**
 * The last 4 KB of what one invocation wrote. Lines come to the agent by other ways than the answer, and a little later:
 * START, END and REPORT from the Lambda process, what the function wrote from the container engine. Who asked for them
 * waits for REPORT and then until nothing has come for a moment, but not for long; the order is then put right.
 */
import { setTimeout } from 'node:timers/promises'
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { ControlPorts } from '../control/ports.ts'

export interface LogTail {
  /** Base64, as `X-Amz-Log-Result` carries it. */
  result(): Promise<string>
  stop(): void
}

/** Must be opened before the function is called. */
export function openLogTail(
  logs: Pick<ControlPorts['logs'], 'follow'>,
  invocation: { readonly functionName: string; readonly requestId: string; readonly waitMs?: number },
): LogTail {
  const { functionName, requestId } = invocation
  const lines: LogLine[] = []
  let sizeBytes = 0
  let instanceId: string | undefined
  let isReported = false
  let isNextBegun = false
  let lastMs = 0
  const isOurs = (line: LogLine): boolean => {
    if (line.requestId !== undefined) return line.requestId === requestId
    // What a runtime of AWS's writes to its output carries no id; from START to the next START it is this invocation's.
    return instanceId !== undefined && line.instanceId === instanceId && !isNextBegun
  }
  const stop = logs.follow(functionName, (line) => {
    if (line.source === 'request') return
    if (line.instanceId === instanceId && line.requestId !== requestId) {
      isNextBegun ||= isReported && line.message.startsWith('START RequestId: ')
    }
    if (!isOurs(line)) return
    lastMs = performance.now()
    instanceId ??= line.instanceId
    lines.push(line)
    sizeBytes += Buffer.byteLength(line.message) + 1
    while (lines.length > 1 && sizeBytes - lengthOf(lines[0]) >= LAMBDA_API_LIMITS.logTailBytesMax) {
      sizeBytes -= lengthOf(lines.shift())
    }
    isReported ||= line.message.startsWith(`REPORT RequestId: ${requestId}`)
  })
  return {
    stop,
    async result() {
      const untilMs = performance.now() + (invocation.waitMs ?? LAMBDA_API_LIMITS.logTailWaitMs)
      for (;;) {
        const nowMs = performance.now()
        const restMs = LAMBDA_API_LIMITS.logTailSettleMs - (nowMs - lastMs)
        if (nowMs >= untilMs || (isReported && restMs <= 0)) break
        await setTimeout(Math.min(untilMs - nowMs, isReported ? restMs : LAMBDA_API_LIMITS.logTailSettleMs))
      }
      stop()
      const rank = ({ message }: LogLine): number => rankOf(message, requestId)
      const inOrder = lines.toSorted((a, b) => rank(a) - rank(b))
      const text = Buffer.from(inOrder.map(({ message, stack }) => `${stack ?? message}\n`).join(''))
      return text.subarray(-LAMBDA_API_LIMITS.logTailBytesMax).toString('base64')
    },
  }
}

function rankOf(message: string, requestId: string): number {
  if (message.startsWith(`START RequestId: ${requestId}`)) return 0
  if (message.startsWith(`END RequestId: ${requestId}`)) return 2
  return message.startsWith(`REPORT RequestId: ${requestId}`) ? 3 : 1
}

function lengthOf(line: LogLine | undefined): number {
  return line === undefined ? 0 : Buffer.byteLength(line.message) + 1
}
