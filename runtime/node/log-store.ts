import { appendFile, open, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { NODE_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'

/**
 * The node's logs: one NDJSON file per function, turned over at a size, so that a chatty function fills neither disk
 * nor memory. Lines are written in batches; a line that was logged is on disk within a fifth of a second.
 */
const FLUSH_MS = 150

export class LogStore {
  readonly #directory: string
  readonly #onFault: (message: string) => void
  readonly #followersByFunction = new Map<string, Set<(line: LogLine) => void>>()
  #pendingByFunction = new Map<string, string[]>()
  /** Of what is not on disk yet: also of batches that are being written, because a disk can hang. */
  #pendingBytes = 0
  #batchBytes = 0
  #dropped = 0
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()

  constructor(directory: string, onFault: (message: string) => void) {
    this.#directory = directory
    this.#onFault = onFault
  }

  append(line: LogLine): void {
    const followers = this.#followersByFunction.get(line.functionName)
    if (followers !== undefined) for (const follower of followers) follower(line)
    const text = `${JSON.stringify(line)}\n`
    if (this.#pendingBytes + text.length > NODE_LIMITS.logBytesPendingMax) {
      this.#dropped++
      return
    }
    this.#pendingBytes += text.length
    this.#batchBytes += text.length
    const pending = this.#pendingByFunction.get(line.functionName)
    if (pending === undefined) this.#pendingByFunction.set(line.functionName, [text])
    else pending.push(text)
    this.#timer ??= setTimeout(() => this.#flush(), FLUSH_MS)
  }

  async read(functionName: string, options: { readonly lines: number }): Promise<readonly LogLine[]> {
    await this.flush()
    // slice(-0) would be all of them.
    if (options.lines === 0) return []
    const current = await readTail(this.#file(functionName), options.lines)
    if (current.length >= options.lines) return current
    const older = await readTail(`${this.#file(functionName)}.1`, options.lines - current.length)
    return [...older, ...current]
  }

  follow(functionName: string, onLine: (line: LogLine) => void): () => void {
    let followers = this.#followersByFunction.get(functionName)
    if (followers === undefined) {
      followers = new Set()
      this.#followersByFunction.set(functionName, followers)
    }
    followers.add(onLine)
    return () => {
      followers.delete(onLine)
      if (followers.size === 0) this.#followersByFunction.delete(functionName)
    }
  }

  async flush(): Promise<void> {
    this.#flush()
    await this.#writing
  }

  #flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#pendingByFunction.size === 0) return
    const batch = this.#pendingByFunction
    const batchBytes = this.#batchBytes
    this.#pendingByFunction = new Map()
    this.#batchBytes = 0
    this.#writing = this.#writing.then(async () => {
      for (const [functionName, lines] of batch) {
        try {
          await this.#write(this.#file(functionName), lines.join(''))
        } catch (error) {
          this.#onFault(`logs of "${functionName}" cannot be written: ${(error as Error).message}`)
        }
      }
      this.#pendingBytes -= batchBytes
      this.#reportDropped()
    })
  }

  #reportDropped(): void {
    if (this.#dropped === 0) return
    this.#onFault(`${this.#dropped} log lines were dropped: they came faster than the disk takes them`)
    this.#dropped = 0
  }

  async #write(file: string, text: string): Promise<void> {
    await appendFile(file, text, { mode: 0o600 })
    if ((await stat(file)).size > NODE_LIMITS.logFileBytesMax) await rename(file, `${file}.1`)
  }

  #file(functionName: string): string {
    return join(this.#directory, `${functionName}.ndjson`)
  }
}

const CHUNK_BYTES = 64 * 1024

/** The last lines of a file, read from its end. A line that a crash cut short is left out. */
async function readTail(file: string, linesMax: number): Promise<LogLine[]> {
  let handle
  try {
    handle = await open(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  try {
    let position = (await handle.stat()).size
    let chunks: Buffer[] = []
    let newlines = 0
    while (position > 0 && newlines <= linesMax) {
      const length = Math.min(CHUNK_BYTES, position)
      position -= length
      const chunk = Buffer.alloc(length)
      await handle.read(chunk, 0, length, position)
      for (const byte of chunk) if (byte === 10) newlines++
      chunks = [chunk, ...chunks]
    }
    const texts = Buffer.concat(chunks).toString('utf8').split('\n').filter(Boolean).slice(-linesMax)
    return texts.flatMap((text) => {
      try {
        return [JSON.parse(text) as LogLine]
      } catch {
        return []
      }
    })
  } finally {
    await handle.close()
  }
}
