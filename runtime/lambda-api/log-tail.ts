/**
 * The last 4 KB of what one invocation wrote. Lines come to the agent by another way than the answer, and a little
 * later: who asked for them waits for the REPORT line, which is the last, but not for long.
 */
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
  let complete = false
  let onComplete = (): void => undefined
  const isOurs = (line: LogLine): boolean => {
    if (line.requestId !== undefined) return line.requestId === requestId
    // What a runtime of AWS's writes to its output carries no id; between START and END it is this invocation's.
    return instanceId !== undefined && line.instanceId === instanceId
  }
  const stop = logs.follow(functionName, (line) => {
    if (complete || line.source === 'request' || !isOurs(line)) return
    instanceId ??= line.instanceId
    lines.push(line)
    sizeBytes += Buffer.byteLength(line.message) + 1
    while (lines.length > 1 && sizeBytes - lengthOf(lines[0]) >= LAMBDA_API_LIMITS.logTailBytesMax) {
      sizeBytes -= lengthOf(lines.shift())
    }
    if (!line.message.startsWith(`REPORT RequestId: ${requestId}`)) return
    complete = true
    onComplete()
  })
  return {
    stop,
    async result() {
      if (!complete) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, invocation.waitMs ?? LAMBDA_API_LIMITS.logTailWaitMs)
          onComplete = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
      stop()
      const text = Buffer.from(lines.map(({ message, stack }) => `${stack ?? message}\n`).join(''))
      return text.subarray(-LAMBDA_API_LIMITS.logTailBytesMax).toString('base64')
    },
  }
}

function lengthOf(line: LogLine | undefined): number {
  return line === undefined ? 0 : Buffer.byteLength(line.message) + 1
}
