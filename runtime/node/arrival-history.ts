/**
 * What `idle: auto` has learnt of each function's arrivals, kept through restarts: one file in the data directory,
 * replaced whole. What is lost with a kill is ten seconds of learning, and a damaged file all of it: never the node.
 */
import { readFileSync } from 'node:fs'
import { rename, rm, writeFile } from 'node:fs/promises'

export interface ArrivalHistoryOptions {
  readonly file: string
  readonly planner: ArrivalPlanner
  onEvent(line: string): void
}

export interface ArrivalPlanner {
  exportHistory(): unknown
  /** Takes what it understands. */
  importHistory(json: unknown): void
}

const SAVE_EVERY_MS = 10_000

export class ArrivalHistory {
  readonly #options: ArrivalHistoryOptions
  #saved: string | undefined
  #saving: Promise<void> = Promise.resolve()
  #timer: NodeJS.Timeout | undefined

  constructor(options: ArrivalHistoryOptions) {
    this.#options = options
  }

  /** Tells the planner what was kept, and keeps what it learns from now on. */
  start(): void {
    const { file, planner, onEvent } = this.#options
    try {
      const text = readFileSync(file, 'utf8')
      const json = JSON.parse(text) as { formatVersion?: unknown } | null
      if (json?.formatVersion !== 1) throw new Error('it is of another format')
      planner.importHistory(json)
      this.#saved = text
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        onEvent(`the history of arrivals in ${file} is left out: ${(error as Error).message}`)
    }
    this.#timer = setInterval(() => void this.save(), SAVE_EVERY_MS)
  }

  /** Nothing is written where nothing has changed. Never rejects. */
  save(): Promise<void> {
    this.#saving = this.#saving.then(() => this.#write())
    return this.#saving
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.save()
  }

  async #write(): Promise<void> {
    const { file, planner, onEvent } = this.#options
    const text = JSON.stringify(planner.exportHistory())
    if (text === this.#saved) return
    const temporary = `${file}.new`
    try {
      await writeFile(temporary, text, { mode: 0o600, flush: true })
      await rename(temporary, file)
      this.#saved = text
    } catch (error) {
      onEvent(`the history of arrivals cannot be kept: ${(error as Error).message}`)
      await rm(temporary, { force: true }).catch(() => undefined)
    }
  }
}
