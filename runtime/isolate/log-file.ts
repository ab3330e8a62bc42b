/**
 * What an instance writes goes to a file, not to a pipe: the agent may be killed at any time, and an instance must
 * neither block on a full pipe nor end by SIGPIPE. The file is open for appending only, so emptying it under the
 * writer is safe; the place that was read to is kept in a second file, so that the next agent goes on there.
 *
 * Two bounds: what is read at a time (a function that floods its log must not occupy the agent) and what a file may
 * hold. Beyond the second the oldest is dropped and said to be; with no agent there, RLIMIT_FSIZE holds the line.
 */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  watch,
  writeSync,
  type FSWatcher,
} from 'node:fs'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'

export interface LogFile {
  /** For the instance's stdout or stderr; to be closed after the spawn. */
  openForAppending(): number
  /** Reads all that is there, up to the size bound. */
  drain(): void
  close(): void
}

export interface LogFileOptions {
  readonly path: string
  onChunk(chunk: Uint8Array): void
  /** Bytes that were dropped unread. */
  onDropped(bytes: number): void
}

/** Reads are gathered for this long: a line is delivered well within 50 ms, a flood costs few wake-ups. */
const GATHER_MS = 5
/** The rest after a full read waits this long: a flood is read at no more than 5 MB/s. */
const FLOOD_PAUSE_MS = 50
/** Emptied when read to its end beyond this, far below the bound. */
const EMPTY_ABOVE_BYTES = INSTANCE_LIMITS.logFileBytesMax / 4
const OFFSET_BYTES = 16

/** Follows `path` from where an earlier agent stopped; makes it where it does not exist. */
export function followLogFile(options: LogFileOptions): LogFile {
  const file = openSync(options.path, 'a+', 0o600)
  const offsetFile = openOffset(`${options.path}.offset`)
  const buffer = Buffer.allocUnsafe(64 * 1024)
  let offset = Math.min(offsetFile.value, fstatSync(file).size)
  let timer: NodeJS.Timeout | undefined
  let closed = false

  const keepOffset = (value: number): void => {
    offset = value
    offsetFile.write(value)
  }
  /** True where more may be there. */
  const readSome = (bytesMax: number): boolean => {
    const start = offset
    let atEnd = false
    while (!atEnd && offset - start < bytesMax) {
      const count = readSync(file, buffer, 0, buffer.length, offset)
      atEnd = count < buffer.length
      if (count === 0) break
      options.onChunk(buffer.subarray(0, count))
      offset += count
    }
    const { size } = fstatSync(file)
    const behind = size - offset
    if ((behind <= 0 && offset > EMPTY_ABOVE_BYTES) || size >= INSTANCE_LIMITS.logFileBytesMax) {
      ftruncateSync(file, 0)
      if (behind > 0) options.onDropped(behind)
      keepOffset(0)
      return false
    }
    if (offset !== start) offsetFile.write(offset)
    return !atEnd
  }
  const schedule = (delayMs: number): void => {
    if (closed) return
    timer ??= setTimeout(() => {
      timer = undefined
      if (readSome(INSTANCE_LIMITS.logReadBytesMax)) schedule(FLOOD_PAUSE_MS)
    }, delayMs)
  }
  const watcher = watchFile(options.path, () => schedule(GATHER_MS))
  // What was written before the watch began gives no event.
  schedule(0)

  return {
    openForAppending: () => openSync(options.path, 'a'),
    drain: () => void readSome(INSTANCE_LIMITS.logFileBytesMax),
    close() {
      if (closed) return
      closed = true
      clearTimeout(timer)
      watcher.close()
      closeSync(file)
      offsetFile.close()
    },
  }
}

/** inotify watches are a limited resource of the machine; without one the file is looked at in turns. */
function watchFile(path: string, onChange: () => void): Pick<FSWatcher, 'close'> {
  try {
    const watcher = watch(path, { persistent: false }, onChange)
    watcher.on('error', () => watcher.close())
    return watcher
  } catch {
    const timer = setInterval(onChange, FLOOD_PAUSE_MS)
    timer.unref()
    return { close: () => clearInterval(timer) }
  }
}

function openOffset(path: string): { value: number; write(value: number): void; close(): void } {
  const file = openSync(path, 'a+', 0o600)
  const value = Number.parseInt(readFileSync(path, 'latin1'), 10)
  closeSync(file)
  const writer = openSync(path, 'r+')
  return {
    value: Number.isSafeInteger(value) && value > 0 ? value : 0,
    write: (value) => void writeSync(writer, String(value).padStart(OFFSET_BYTES, '0'), 0),
    close: () => closeSync(writer),
  }
}
