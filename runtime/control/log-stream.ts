/**
 * A function's log as a stream of JSON lines. The reader may be slow and the function may be loud: what waits for the
 * reader is bounded, the older half goes when it is full, and a line in its place says so. An empty line now and then
 * keeps a quiet stream alive and finds out readers that are gone.
 */
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { ControlPorts } from './ports.ts'

export interface LogStreamOptions {
  /** Lines from before now. */
  readonly lines: number
  /** Stay open for what comes. */
  readonly follow: boolean
  readonly heartbeatMs: number
}

export async function openLogStream(
  logs: ControlPorts['logs'],
  functionName: string,
  options: LogStreamOptions,
): Promise<ReadableStream<Uint8Array>> {
  const queue = createLogQueue(functionName)
  if (!options.follow) {
    for (const line of await logs.read(functionName, options))
      queue.push(JSON.stringify(line), { bounded: false })
    return linesOf(queue, { follow: false, onEnd: () => undefined })
  }
  // Follow first, then read: what is written between the two is in both, and is sent once.
  let early: string[] | undefined = []
  const stop = logs.follow(functionName, (line) => {
    if (early === undefined) queue.push(JSON.stringify(line))
    else early.push(JSON.stringify(line))
  })
  try {
    const past = (await logs.read(functionName, options)).map((line) => JSON.stringify(line))
    const sent = new Set(past)
    for (const line of past) queue.push(line, { bounded: false })
    for (const line of early) if (!sent.has(line)) queue.push(line)
    early = undefined
  } catch (error) {
    stop()
    throw error
  }
  const heartbeat = setInterval(() => queue.push('', { bounded: false }), options.heartbeatMs)
  heartbeat.unref()
  return linesOf(queue, {
    follow: true,
    onEnd() {
      clearInterval(heartbeat)
      stop()
    },
  })
}

interface LogQueue {
  push(line: string, options?: { readonly bounded: boolean }): void
  /** All that waits, as text; empty where nothing does. */
  take(): string
  /** Resolves when something waits. */
  readonly filled: () => Promise<void>
}

function createLogQueue(functionName: string): LogQueue {
  let lines: string[] = []
  let waitingBytes = 0
  let wake: (() => void) | undefined
  let dropped = 0
  const dropOlderHalf = (): void => {
    const older = Math.ceil(lines.length / 2)
    dropped += older
    lines = lines.slice(older)
    waitingBytes = lines.reduce((total, line) => total + line.length, 0)
  }
  return {
    push(line, { bounded } = { bounded: true }) {
      // A heartbeat says nothing to a reader that has lines to come.
      if (line === '' && lines.length > 0) return
      lines.push(line)
      waitingBytes += line.length
      if (bounded && waitingBytes > CONTROL_LIMITS.logBytesBufferedMax) dropOlderHalf()
      wake?.()
    },
    take() {
      if (dropped > 0) lines.unshift(JSON.stringify(droppedLine(functionName, dropped)))
      const text = lines.map((line) => `${line}\n`).join('')
      lines = []
      dropped = 0
      waitingBytes = 0
      return text
    },
    filled: () =>
      new Promise((resolve) => {
        wake = resolve
        if (lines.length > 0) resolve()
      }),
  }
}

function droppedLine(functionName: string, dropped: number): LogLine {
  return {
    time: new Date().toISOString(),
    source: 'instance',
    level: 'warn',
    functionName,
    versionId: '',
    message: `${dropped} lines were dropped here: the function writes faster than this reader takes them`,
  }
}

function linesOf(
  queue: LogQueue,
  options: { readonly follow: boolean; readonly onEnd: () => void },
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  return new ReadableStream(
    {
      async pull(controller) {
        if (options.follow) await queue.filled()
        const text = queue.take()
        if (text !== '') controller.enqueue(encoder.encode(text))
        if (!options.follow) controller.close()
      },
      cancel: () => options.onEnd(),
    },
    // Nothing ahead of the reader: what waits, waits in the queue, where it is bounded.
    { highWaterMark: 0 },
  )
}
