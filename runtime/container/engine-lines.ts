/** The engine's streams: JSON by lines, and output of containers in frames. */
import { OUTPUT_LIMITS, ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import { engineFailure } from './engine-error.ts'

/** Each line, parsed. Throws where one is too long or no JSON. */
export async function* readJsonLines(
  source: AsyncIterable<Buffer>,
): AsyncGenerator<Readonly<Record<string, unknown>>> {
  let pending: Buffer[] = []
  let pendingBytes = 0
  for await (const chunk of source) {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      const line = Buffer.concat([...pending, chunk.subarray(start, end)])
        .toString('utf8')
        .trim()
      pending = []
      pendingBytes = 0
      start = end + 1
      if (line !== '') yield parseLine(line)
    }
    if (start === chunk.length) continue
    pending.push(chunk.subarray(start))
    pendingBytes += chunk.length - start
    if (pendingBytes > ENGINE_LIMITS.streamLineBytesMax) {
      throw engineFailure(`a line of more than ${ENGINE_LIMITS.streamLineBytesMax} bytes`)
    }
  }
  const last = Buffer.concat(pending).toString('utf8').trim()
  if (last !== '') yield parseLine(last)
}

const NEWLINE = 0x0a

function parseLine(line: string): Readonly<Record<string, unknown>> {
  try {
    const value = JSON.parse(line) as unknown
    if (typeof value === 'object' && value !== null) return value as Readonly<Record<string, unknown>>
  } catch {
    // Falls to the error below: a stream that was cut, or none of the engine's.
  }
  throw engineFailure(`a line that is no JSON object: ${JSON.stringify(line.slice(0, 200))}`)
}

export interface OutputEntry {
  readonly stream: 'stdout' | 'stderr'
  readonly text: string
  /** As the engine wrote it: RFC 3339 with nanoseconds. */
  readonly time: string
}

interface HalfLine {
  time: string
  bytes: Buffer[]
  sizeBytes: number
}

/**
 * Lines from frames `[stream, 0, 0, 0, size (4 bytes)] payload`. Each frame has one entry of the engine's log: a time, a
 * space and a line, or a piece of a long one (16 KiB each), which is put together again up to `lineBytesMax`.
 */
export function createOutputReader(onEntry: (entry: OutputEntry) => void): {
  push(chunk: Buffer): void
  /** Lines without an end come too. */
  end(): void
} {
  let waiting: Buffer = Buffer.alloc(0)
  const halves = new Map<'stdout' | 'stderr', HalfLine>()
  const flush = (stream: 'stdout' | 'stderr'): void => {
    const half = halves.get(stream)
    if (half === undefined) return
    halves.delete(stream)
    onEntry({ stream, time: half.time, text: Buffer.concat(half.bytes).toString('utf8') })
  }
  const take = (stream: 'stdout' | 'stderr', payload: Buffer): void => {
    const space = payload.indexOf(SPACE)
    const time = payload.subarray(0, Math.max(space, 0)).toString('latin1')
    const isWhole = payload.at(-1) === NEWLINE
    const piece = payload.subarray(space + 1, isWhole ? payload.length - 1 : payload.length)
    const half = halves.get(stream) ?? { time, bytes: [], sizeBytes: 0 }
    const room = OUTPUT_LIMITS.lineBytesMax - half.sizeBytes
    half.bytes.push(piece.subarray(0, Math.max(room, 0)))
    half.sizeBytes += Math.min(piece.length, Math.max(room, 0))
    halves.set(stream, half)
    if (isWhole) flush(stream)
  }
  return {
    push(chunk) {
      waiting = waiting.length === 0 ? chunk : Buffer.concat([waiting, chunk])
      while (waiting.length >= FRAME_HEAD_BYTES) {
        const sizeBytes = waiting.readUInt32BE(4)
        if (sizeBytes > ENGINE_LIMITS.streamLineBytesMax) {
          throw engineFailure(`a frame of ${sizeBytes} bytes of output`)
        }
        const end = FRAME_HEAD_BYTES + sizeBytes
        if (waiting.length < end) return
        const stream = waiting[0] === 2 ? 'stderr' : 'stdout'
        take(stream, waiting.subarray(FRAME_HEAD_BYTES, end))
        waiting = waiting.subarray(end)
      }
    },
    end() {
      flush('stdout')
      flush('stderr')
    },
  }
}

const SPACE = 0x20
const FRAME_HEAD_BYTES = 8
