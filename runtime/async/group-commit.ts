/**
 * Writes that share a transaction, and with it one sync of the disk: a thousand events a second would else wait for a
 * thousand of them. A write is acknowledged only when its transaction is on disk. SQLite runs on the calling thread, in a
 * process that serves no requests.
 */
import type { DatabaseSync } from 'node:sqlite'

interface Write {
  readonly run: () => void
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class GroupCommit {
  readonly #database: DatabaseSync
  readonly #delayMs: number
  #writes: Write[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(database: DatabaseSync, options: { readonly delayMs: number }) {
    this.#database = database
    this.#delayMs = options.delayMs
  }

  /** `run` writes by prepared statements; it may be run again after a transaction that failed. Resolves with its result. */
  write<Result>(run: () => Result): Promise<Result> {
    return new Promise((resolve, reject) => {
      let result: Result
      this.#writes.push({
        run: () => {
          result = run()
        },
        resolve: () => resolve(result),
        reject,
      })
      this.#timer ??= setTimeout(() => this.flush(), this.#delayMs)
    })
  }

  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const writes = this.#writes
    this.#writes = []
    if (writes.length === 0) return
    try {
      this.#commit(writes)
    } catch (error) {
      if (writes.length === 1) writes[0]!.reject(error)
      // One by one: on a full disk a removal succeeds where an insertion does not.
      else for (const write of writes) this.#commitAlone(write)
      return
    }
    for (const { resolve } of writes) resolve()
  }

  #commitAlone(write: Write): void {
    try {
      this.#commit([write])
    } catch (error) {
      write.reject(error)
      return
    }
    write.resolve()
  }

  #commit(writes: readonly Write[]): void {
    this.#database.exec('BEGIN IMMEDIATE')
    try {
      for (const { run } of writes) run()
      this.#database.exec('COMMIT')
    } catch (error) {
      // SQLite has rolled back by itself after some errors, a full disk among them.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }
}
