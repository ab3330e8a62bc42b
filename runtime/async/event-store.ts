/**
 * Events and dead letters in one SQLite database (WAL, synchronous=FULL), payloads inside. That an event is being tried is
 * not written: whoever opens the database tries all that is due, so a try that a kill cut off is made again.
 */
import { statfsSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import type { DeadLetterSummary } from '../../sdk/model/dead-letter.ts'
import { ASYNC_LIMITS } from '../../sdk/model/limits.ts'
import type { DeadLetter, NewEvent } from './async-events.ts'
import { GroupCommit } from './group-commit.ts'
import { toEventStoreError } from './event-store-error.ts'

export interface StoredEvent extends NewEvent {
  readonly rowId: number
  readonly queuedMs: number
  readonly dueMs: number
  /** That were made and failed. */
  readonly tries: number
}

export interface Death {
  readonly id: string
  readonly diedMs: number
  readonly tries: number
  readonly reason: string
  readonly answer: string | undefined
}

export interface FunctionSum {
  readonly functionName: string
  readonly count: number
  readonly bytes: number
}

export interface DeathSize {
  readonly id: string
  readonly functionName: string
  readonly diedMs: number
  readonly bytes: number
}

interface EventRow {
  readonly id: number
  readonly request_id: string
  readonly function_name: string
  readonly version_id: string | null
  readonly client_context: string | null
  readonly payload: Uint8Array
  readonly queued_ms: number
  readonly due_ms: number
  readonly tries: number
}

type DeathRow = Omit<EventRow, 'id' | 'due_ms'> & {
  readonly id: string
  readonly died_ms: number
  readonly reason: string
  readonly answer: string | null
}

const FORMAT_VERSION = 1
/** Pages that are given back to the disk at a time. */
const VACUUM_PAGES = 1_024

const TABLES = `
  CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL, function_name TEXT NOT NULL, version_id TEXT,
    client_context TEXT, payload BLOB NOT NULL, queued_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL, tries INTEGER NOT NULL);
  CREATE INDEX events_due ON events (function_name, due_ms, id);
  CREATE TABLE deaths (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, request_id TEXT NOT NULL, function_name TEXT NOT NULL,
    version_id TEXT, client_context TEXT, payload BLOB NOT NULL, queued_ms INTEGER NOT NULL, died_ms INTEGER NOT NULL,
    tries INTEGER NOT NULL, reason TEXT NOT NULL, answer TEXT);
  CREATE INDEX deaths_by_function ON deaths (function_name, n);
  PRAGMA user_version = ${FORMAT_VERSION};`

const BYTES = `length(payload) + ${ASYNC_LIMITS.eventOverheadBytes}`
const DEATH_SIZE = `id, function_name AS functionName, died_ms AS diedMs, ${BYTES} AS bytes`
const EVENT_FIELDS = 'request_id, function_name, version_id, client_context, payload, queued_ms'

export class EventStore {
  readonly path: string
  readonly #database: DatabaseSync
  readonly #commit: GroupCommit
  readonly #statements = new Map<string, StatementSync>()

  /** Throws `data_unusable`, `storage_full`. */
  constructor(path: string) {
    this.path = path
    let database: DatabaseSync | undefined
    try {
      database = new DatabaseSync(path, { timeout: 1_000 })
      database.exec('PRAGMA auto_vacuum = INCREMENTAL; PRAGMA locking_mode = EXCLUSIVE')
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
      prepareTables(database)
    } catch (error) {
      database?.close()
      throw toEventStoreError(error, path)
    }
    this.#database = database
    this.#commit = new GroupCommit(database, { delayMs: ASYNC_LIMITS.commitDelayMs })
  }

  async insert(event: NewEvent, queuedMs: number): Promise<void> {
    const values = [...rowOf(event), queuedMs, queuedMs, 0]
    await this.#write(() => {
      this.#run(`INSERT INTO events (${EVENT_FIELDS}, due_ms, tries) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, values)
    })
  }

  /** Those that are due next, without what they carry: a megabyte each is read when it is tried. */
  upcoming(functionName: string, limit: number): { readonly rowId: number; readonly dueMs: number }[] {
    const text = `SELECT id AS rowId, due_ms AS dueMs FROM events WHERE function_name = ? ORDER BY due_ms, id LIMIT ?`
    return this.#all(text, [functionName, limit])
  }

  event(rowId: number): StoredEvent | undefined {
    const [row] = this.#all<EventRow>('SELECT * FROM events WHERE id = ?', [rowId])
    if (row === undefined) return undefined
    return { ...eventOf(row), rowId, dueMs: row.due_ms, tries: row.tries }
  }

  remove(rowId: number): Promise<void> {
    return this.#write(() => void this.#run('DELETE FROM events WHERE id = ?', [rowId]))
  }

  postpone(
    rowId: number,
    { dueMs, tries }: { readonly dueMs: number; readonly tries: number },
  ): Promise<void> {
    return this.#write(() => {
      this.#run('UPDATE events SET due_ms = ?, tries = ? WHERE id = ?', [dueMs, tries, rowId])
    })
  }

  bury(rowId: number, { id, diedMs, tries, reason, answer }: Death): Promise<void> {
    return this.#write(() => {
      this.#run(
        `INSERT INTO deaths (${EVENT_FIELDS}, id, died_ms, tries, reason, answer)
         SELECT ${EVENT_FIELDS}, ?, ?, ?, ?, ? FROM events WHERE id = ?`,
        [id, diedMs, tries, reason, answer ?? null, rowId],
      )
      this.#run('DELETE FROM events WHERE id = ?', [rowId])
    })
  }

  /** A dead letter becomes a new event. False where there is none. */
  revive(id: string, nowMs: number): Promise<boolean> {
    return this.#write(() => {
      const revived = this.#run(
        `INSERT INTO events (${EVENT_FIELDS}, due_ms, tries)
         SELECT request_id, function_name, version_id, client_context, payload, ?, ?, 0 FROM deaths WHERE id = ?`,
        [nowMs, nowMs, id],
      )
      this.#run('DELETE FROM deaths WHERE id = ?', [id])
      return revived > 0
    })
  }

  /** Of each, whether it was there. */
  forget(ids: readonly string[]): Promise<boolean[]> {
    return this.#write(() => ids.map((id) => this.#run('DELETE FROM deaths WHERE id = ?', [id]) > 0))
  }

  /** Newest first. */
  deaths(functionName: string, limit: number): DeadLetterSummary[] {
    const text = `SELECT id, request_id, function_name, queued_ms, died_ms, tries, reason FROM deaths
      WHERE function_name = ? ORDER BY n DESC LIMIT ?`
    return this.#all<DeathRow>(text, [functionName, limit]).map(summaryOf)
  }

  death(id: string): DeadLetter | undefined {
    const [row] = this.#all<DeathRow>('SELECT * FROM deaths WHERE id = ?', [id])
    if (row === undefined) return undefined
    return { ...summaryOf(row), payload: row.payload, ...(row.answer !== null && { answer: row.answer }) }
  }

  /** A function's oldest dead letters, beyond so many newer ones. */
  excessDeaths(functionName: string, kept: number): DeathSize[] {
    const text = `SELECT ${DEATH_SIZE} FROM deaths WHERE function_name = ? ORDER BY n DESC LIMIT -1 OFFSET ?`
    return this.#all(text, [functionName, kept])
  }

  /** Of all dead letters, oldest first. */
  oldestDeaths(limit: number): DeathSize[] {
    return this.#all(`SELECT ${DEATH_SIZE} FROM deaths ORDER BY n LIMIT ?`, [limit])
  }

  eventSums(): FunctionSum[] {
    return this.#sums('events')
  }

  deathSums(): FunctionSum[] {
    return this.#sums('deaths')
  }

  /** Gives some of what is not used any more back to the disk. */
  shrink(): void {
    this.#database.exec(`PRAGMA incremental_vacuum(${VACUUM_PAGES})`)
  }

  /** Infinite where the machine does not say. */
  freeDiskBytes(): number {
    try {
      const { bavail, bsize } = statfsSync(this.path)
      return bavail * bsize
    } catch {
      return Infinity
    }
  }

  close(): void {
    this.#commit.flush()
    this.#database.close()
  }

  #sums(table: 'events' | 'deaths'): FunctionSum[] {
    return this.#all<FunctionSum>(
      `SELECT function_name AS functionName, count(*) AS count, sum(${BYTES}) AS bytes
       FROM ${table} GROUP BY function_name`,
      [],
    )
  }

  async #write<Result>(run: () => Result): Promise<Result> {
    try {
      return await this.#commit.write(run)
    } catch (error) {
      const known = toEventStoreError(error, this.path)
      if (known.code === 'storage_full') this.#emptyLog()
      throw known
    }
  }

  /** On a full disk what the log holds goes where it belongs, so that removals have room in it again. */
  #emptyLog(): void {
    try {
      this.#database.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    } catch {
      // Still no room: the error of the write says so.
    }
  }

  /** Returns how many rows it changed. */
  #run(text: string, values: Values): number {
    return Number(this.#statement(text).run(...values).changes)
  }

  #all<Row>(text: string, values: Values): Row[] {
    try {
      return this.#statement(text).all(...values) as Row[]
    } catch (error) {
      throw toEventStoreError(error, this.path)
    }
  }

  #statement(text: string): StatementSync {
    let statement = this.#statements.get(text)
    if (statement === undefined) this.#statements.set(text, (statement = this.#database.prepare(text)))
    return statement
  }
}

type Values = readonly (string | number | Uint8Array | null)[]

function prepareTables(database: DatabaseSync): void {
  const { user_version: found } = database.prepare('PRAGMA user_version').get() as { user_version: number }
  if (found === FORMAT_VERSION) return
  if (found > FORMAT_VERSION) {
    throw new Error(`it has format ${found} and this release reads format ${FORMAT_VERSION}`)
  }
  database.exec(`BEGIN IMMEDIATE; ${TABLES} COMMIT`)
}

function rowOf({ requestId, functionName, versionId, clientContext, payload }: NewEvent): Values {
  return [requestId, functionName, versionId ?? null, clientContext ?? null, payload]
}

function eventOf(row: EventRow): NewEvent & { readonly queuedMs: number } {
  return {
    requestId: row.request_id,
    functionName: row.function_name,
    ...(row.version_id !== null && { versionId: row.version_id }),
    ...(row.client_context !== null && { clientContext: row.client_context }),
    payload: row.payload,
    queuedMs: row.queued_ms,
  }
}

function summaryOf(row: DeathRow): DeadLetterSummary {
  return {
    id: row.id,
    requestId: row.request_id,
    functionName: row.function_name,
    queuedAt: new Date(row.queued_ms).toISOString(),
    diedAt: new Date(row.died_ms).toISOString(),
    tries: row.tries,
    reason: row.reason,
  }
}
