/**
 * How much a function may write to its log in a minute: its own text, that is console output and exceptions; what isola
 * says of its requests and instances is not counted and never dropped. A minute begins with the first line after the one
 * before is over. What is beyond the limit is dropped and counted; one line says so when it begins, one says how much it
 * was when the minute is over.
 */
import type { Head } from '../../sdk/model/function.ts'
import { mergeFunctionLimits } from '../../sdk/model/function-limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { LogSink } from '../pool/driver.ts'

const MINUTE_MS = 60_000

interface Minute {
  readonly endsAtMs: number
  readonly versionId: string
  bytes: number
  droppedLines: number
  droppedBytes: number
  /** That was in force at the last drop. */
  limitBytes: number
}

export class LogQuota {
  readonly #limitBytesOf: (functionName: string) => number
  /** Only of functions that wrote in the last minute. In the order of their ends. */
  readonly #minuteByFunction = new Map<string, Minute>()

  /** `limitBytesOf` is asked at every line, so a change is in force at once. */
  constructor(limitBytesOf: (functionName: string) => number) {
    this.#limitBytesOf = limitBytesOf
  }

  /** What is to be written for a line: itself, a notice in its place, or nothing. */
  admit(line: LogLine, nowMs: number): LogLine | undefined {
    const { source, functionName, versionId, message, stack } = line
    if (source !== 'console' && source !== 'exception') return line
    const limitBytes = this.#limitBytesOf(functionName)
    const bytes = Buffer.byteLength(message) + (stack === undefined ? 0 : Buffer.byteLength(stack))
    const minute = this.#minuteOf(functionName, versionId, nowMs)
    if (minute.bytes + bytes <= limitBytes) {
      minute.bytes += bytes
      return line
    }
    minute.limitBytes = limitBytes
    minute.droppedLines += 1
    minute.droppedBytes += bytes
    if (minute.droppedLines > 1) return undefined
    const forS = Math.max(1, Math.ceil((minute.endsAtMs - nowMs) / 1000))
    return notice(functionName, minute, {
      time: line.time,
      text:
        `what goes beyond it in the next ${forS} s is dropped: write less, or raise it with: ` +
        `isola limits ${functionName} --logs SIZE`,
    })
  }

  /** Ends the minutes that are over; returns what is to be said of those in which lines were dropped. */
  endMinutes(nowMs: number, time: string): readonly LogLine[] {
    const lines: LogLine[] = []
    for (const [functionName, minute] of this.#minuteByFunction) {
      if (minute.endsAtMs > nowMs) break
      this.#minuteByFunction.delete(functionName)
      const { droppedLines, droppedBytes } = minute
      if (droppedLines === 0) continue
      const text = `${droppedLines} ${droppedLines === 1 ? 'line' : 'lines'} dropped (${droppedBytes} bytes)`
      lines.push(notice(functionName, minute, { time, text }))
    }
    return lines
  }

  /** When the next minute ends; `undefined` while nobody writes. */
  get nextEndMs(): number | undefined {
    const [first] = this.#minuteByFunction.values()
    return first?.endsAtMs
  }

  #minuteOf(functionName: string, versionId: string, nowMs: number): Minute {
    const current = this.#minuteByFunction.get(functionName)
    if (current !== undefined) return current
    const endsAtMs = nowMs + MINUTE_MS
    const minute = { endsAtMs, versionId, bytes: 0, droppedLines: 0, droppedBytes: 0, limitBytes: 0 }
    this.#minuteByFunction.set(functionName, minute)
    return minute
  }
}

function notice(
  functionName: string,
  { limitBytes, versionId }: Minute,
  { time, text }: { time: string; text: string },
): LogLine {
  return {
    time,
    source: 'instance',
    level: 'warn',
    functionName,
    versionId,
    message: `log_limit_exceeded: limit of ${limitBytes} bytes a minute reached, ${text}`,
  }
}

export interface LimitedLogOptions {
  readonly limitBytesOf: (functionName: string) => number
  readonly write: LogSink
}

/** A sink that keeps the quota and tells what it dropped in time. `close` tells the rest. */
export function limitLogs({ limitBytesOf, write }: LimitedLogOptions): {
  readonly log: LogSink
  close(): void
} {
  const quota = new LogQuota(limitBytesOf)
  let timer: NodeJS.Timeout | undefined
  const endMinutes = (nowMs: number): void => {
    clearTimeout(timer)
    timer = undefined
    for (const line of quota.endMinutes(nowMs, new Date().toISOString())) write(line)
    if (quota.nextEndMs === undefined) return
    timer = setTimeout(() => endMinutes(performance.now()), Math.max(1, quota.nextEndMs - nowMs))
    timer.unref()
  }
  return {
    log(line) {
      const nowMs = performance.now()
      if (quota.nextEndMs !== undefined && quota.nextEndMs <= nowMs) endMinutes(nowMs)
      const admitted = quota.admit(line, nowMs)
      if (admitted !== undefined) write(admitted)
      if (timer === undefined && quota.nextEndMs !== undefined) endMinutes(nowMs)
    },
    close: () => {
      endMinutes(Infinity)
    },
  }
}

/** The limit in force of each function of a head, worked out when first asked for. */
export function logBytesOf(head: Head): (functionName: string) => number {
  const known = new Map<string, number>()
  const { ceiling, limits: ofFleet } = head.settings ?? {}
  return (functionName) => {
    let limitBytes = known.get(functionName)
    if (limitBytes === undefined) {
      const record = Object.hasOwn(head.functions, functionName) ? head.functions[functionName] : undefined
      limitBytes = mergeFunctionLimits(ceiling, ofFleet, record?.limits).logBytesPerMin
      known.set(functionName, limitBytes)
    }
    return limitBytes
  }
}
