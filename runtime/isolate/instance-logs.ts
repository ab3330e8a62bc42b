import { join } from 'node:path'
import { followLogFile } from './log-file.ts'
import type { OutputParser } from './output.ts'

/** Both output files of an instance. What is written before a parser is attached waits, within a bound. */
export interface InstanceLogs {
  openForAppending(): { readonly stdout: number; readonly stderr: number }
  attach(parser: OutputParser, onDropped: (bytes: number) => void): void
  /** Reads to the end now. */
  drain(): void
  lastErrors(): string
  close(): void
}

const UNCLAIMED_BYTES_MAX = 16 * 1024

export function openInstanceLogs(directory: string): InstanceLogs {
  let parser: OutputParser | undefined
  let dropped: (bytes: number) => void = () => undefined
  const waiting: { chunk: Uint8Array; stream: 'stdout' | 'stderr' }[] = []
  let waitingBytes = 0
  const files = (['stdout', 'stderr'] as const).map((stream) =>
    followLogFile({
      path: join(directory, `${stream}.log`),
      onChunk(chunk) {
        if (parser !== undefined) return parser.push(chunk, stream)
        if (waitingBytes + chunk.length > UNCLAIMED_BYTES_MAX) return undefined
        waitingBytes += chunk.length
        waiting.push({ chunk: Uint8Array.from(chunk), stream })
        return undefined
      },
      onDropped: (bytes) => dropped(bytes),
    }),
  )
  return {
    openForAppending: () => ({ stdout: files[0]!.openForAppending(), stderr: files[1]!.openForAppending() }),
    attach(attached, onDropped) {
      parser = attached
      dropped = onDropped
      for (const { chunk, stream } of waiting.splice(0)) parser.push(chunk, stream)
    },
    drain() {
      for (const file of files) file.drain()
    },
    lastErrors: () =>
      parser?.lastErrors() ??
      Buffer.concat(waiting.map(({ chunk }) => chunk))
        .toString('utf8')
        .trim(),
    close() {
      for (const file of files) file.close()
    },
  }
}
