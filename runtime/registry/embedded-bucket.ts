/**
 * A bucket in a directory of one machine. node:sqlite (WAL, synchronous=FULL) holds every key, its etag and the short
 * bodies; longer bodies are files in `objects/`. The row is what makes an object exist: a file is written and synced
 * under a name of its own before the row that names it is committed, and removed after the row that named it is gone.
 * So the conditions of a write are exact for both, and a crash leaves at most a file that nobody names, which the
 * next open removes. (A rename would add nothing: no reader ever looks for a file that no row names.)
 *
 * SQLite's exclusive lock is held for the life of the process and freed by the kernel however it ends, so two nodes
 * never share a directory. SQLite runs on the calling thread: about 0.2 ms a write, in a process that serves no requests.
 */
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { open, readFile, rm } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { IsolaError } from '../../sdk/model/errors.ts'
import { REGISTRY_LIMITS } from '../../sdk/model/limits.ts'
import type { Bucket, BucketObject } from './bucket.ts'
import { checkKeyPrefix, checkObjectKey, checkObjectSize } from './object-key.ts'
import { toStorageError } from './storage-error.ts'

const FORMAT_VERSION = 1

interface Row {
  readonly key: string
  readonly etag: string
  readonly size_bytes: number
  readonly modified_at_ms: number
  readonly body: Uint8Array | null
  readonly file: string | null
}

/**
 * Throws `already_running` where another process has it open, `data_unusable` where it cannot be read or written or
 * was made by a newer release, and `storage_full`.
 */
export function openEmbeddedBucket(options: { readonly directory: string }): Bucket {
  const { directory } = options
  const objectsDirectory = join(directory, 'objects')
  try {
    mkdirSync(objectsDirectory, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw toStorageError(error, directory)
  }
  const database = openDatabase(directory)
  try {
    removeUnnamedFiles(database, objectsDirectory)
    writeFileSync(join(directory, 'owner.pid'), `${process.pid}\n`, { mode: 0o600 })
    return new EmbeddedBucket(database, directory)
  } catch (error) {
    database.close()
    throw toStorageError(error, directory)
  }
}

function openDatabase(directory: string): DatabaseSync {
  const path = join(directory, 'index.sqlite')
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(path, { timeout: REGISTRY_LIMITS.lockWaitMs })
    // The lock first: with it held from the first access, WAL needs no shared-memory file and no other process gets in.
    database.exec('PRAGMA locking_mode = EXCLUSIVE')
    database.exec('PRAGMA journal_mode = WAL')
    database.exec('PRAGMA synchronous = FULL')
    database.exec('BEGIN IMMEDIATE')
    prepareTables(database, directory)
    database.exec('COMMIT')
    return database
  } catch (error) {
    database?.close()
    if (isLocked(error)) throw alreadyRunning(directory, error)
    throw toStorageError(error, path)
  }
}

function prepareTables(database: DatabaseSync, directory: string): void {
  const { user_version: found } = database.prepare('PRAGMA user_version').get() as { user_version: number }
  if (found === FORMAT_VERSION) return
  if (found > FORMAT_VERSION) {
    throw new IsolaError(
      'data_unusable',
      `${directory} has format ${found} and this release reads format ${FORMAT_VERSION}: use the newer isola that wrote it, or another --data directory`,
      { details: { path: directory } },
    )
  }
  // An index that was lost must not make us take every object file for garbage.
  if (readdirSync(join(directory, 'objects')).length > 0) {
    throw new IsolaError(
      'data_unusable',
      `${join(directory, 'index.sqlite')} is missing or empty but object files are there: restore it from a backup, or move ${directory} away to start empty and deploy again`,
      { details: { path: directory } },
    )
  }
  database.exec(`
    CREATE TABLE objects (
      key TEXT NOT NULL PRIMARY KEY,
      etag TEXT NOT NULL,
      size_bytes INTEGER NOT NULL,
      modified_at_ms INTEGER NOT NULL,
      body BLOB,
      file TEXT
    ) STRICT;
    PRAGMA user_version = ${FORMAT_VERSION};
  `)
}

function removeUnnamedFiles(database: DatabaseSync, objectsDirectory: string): void {
  const named = new Set<unknown>()
  for (const row of database.prepare('SELECT file FROM objects WHERE file IS NOT NULL').iterate()) {
    named.add(row['file'])
  }
  for (const name of readdirSync(objectsDirectory)) {
    if (!named.has(name)) rmSync(join(objectsDirectory, name), { force: true, recursive: true })
  }
}

function isLocked(error: unknown): boolean {
  const sqliteBusy = 5
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === sqliteBusy
}

function alreadyRunning(directory: string, cause: unknown): IsolaError {
  const pid = ownerPid(directory)
  return new IsolaError(
    'already_running',
    `${directory} is in use by ${pid === undefined ? 'another process' : `process ${pid}`}: stop it first, or start with another --data directory`,
    { cause, details: pid === undefined ? { path: directory } : { path: directory, pid } },
  )
}

function ownerPid(directory: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(join(directory, 'owner.pid'), 'utf8'), 10)
    return statSync(`/proc/${pid}`).isDirectory() ? pid : undefined
  } catch {
    // Unreadable, or left by a process that is gone: better no pid than a wrong one.
    return undefined
  }
}

class EmbeddedBucket implements Bucket {
  readonly #database
  readonly #directory
  readonly #objectsDirectory
  readonly #select
  readonly #selectMeta
  readonly #insert
  readonly #update
  readonly #delete
  readonly #page

  constructor(database: DatabaseSync, directory: string) {
    this.#database = database
    this.#directory = directory
    this.#objectsDirectory = join(directory, 'objects')
    this.#select = database.prepare('SELECT * FROM objects WHERE key = ?')
    this.#selectMeta = database.prepare('SELECT key, etag, size_bytes, file FROM objects WHERE key = ?')
    this.#insert = database.prepare(
      'INSERT INTO objects (key, etag, size_bytes, modified_at_ms, body, file) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING',
    )
    this.#update = database.prepare(
      'UPDATE objects SET etag = ?, size_bytes = ?, modified_at_ms = ?, body = ?, file = ? WHERE key = ? AND etag = ?',
    )
    this.#delete = database.prepare('DELETE FROM objects WHERE key = ?')
    this.#page = database.prepare(
      'SELECT key, size_bytes, modified_at_ms FROM objects WHERE key >= ? AND key < ? ORDER BY key LIMIT ?',
    )
  }

  async get(key: string): Promise<BucketObject | undefined> {
    checkObjectKey(key)
    let missingFile: string | undefined
    for (;;) {
      const row = this.#disk(() => this.#select.get(key) as Row | undefined)
      if (row === undefined) return undefined
      if (row.file === null) return { body: row.body ?? new Uint8Array(), etag: row.etag }
      const path = join(this.#objectsDirectory, row.file)
      if (missingFile === row.file) throw lostFile(key, path)
      try {
        return { body: await readFile(path), etag: row.etag }
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw toStorageError(error, path)
        // Replaced or deleted between the row and the read: look again. The same row again means a lost file.
        missingFile = row.file
      }
    }
  }

  async head(key: string): Promise<{ readonly etag: string; readonly sizeBytes: number } | undefined> {
    checkObjectKey(key)
    const row = this.#meta(key)
    return row && { etag: row.etag, sizeBytes: row.size_bytes }
  }

  async putIfAbsent(key: string, body: Uint8Array): Promise<{ readonly etag: string } | undefined> {
    checkObjectKey(key)
    checkObjectSize(key, body)
    if (this.#meta(key) !== undefined) return undefined
    const etag = randomUUID()
    return this.#withStoredBody(body, (inline, file) => {
      const { changes } = this.#insert.run(key, etag, body.byteLength, Date.now(), inline, file)
      return changes === 1 ? { etag } : undefined
    })
  }

  async putIfMatch(
    key: string,
    body: Uint8Array,
    etag: string,
  ): Promise<{ readonly etag: string } | undefined> {
    checkObjectKey(key)
    checkObjectSize(key, body)
    if (this.#meta(key)?.etag !== etag) return undefined
    const nextEtag = randomUUID()
    let replacedFile: string | null = null
    const stored = await this.#withStoredBody(body, (inline, file) => {
      // Nothing can come between these two: both are synchronous and no other process has the database.
      const before = this.#meta(key)
      const { changes } = this.#update.run(nextEtag, body.byteLength, Date.now(), inline, file, key, etag)
      if (changes !== 1) return undefined
      replacedFile = before?.file ?? null
      return { etag: nextEtag }
    })
    await this.#removeFile(replacedFile)
    return stored
  }

  async delete(key: string): Promise<void> {
    checkObjectKey(key)
    const row = this.#meta(key)
    if (row === undefined) return
    this.#disk(() => this.#delete.run(key))
    await this.#removeFile(row.file)
  }

  async *list(
    prefix: string,
  ): AsyncGenerator<{ readonly key: string; readonly sizeBytes: number; readonly modifiedAtMs: number }> {
    checkKeyPrefix(prefix)
    // No key holds "!" or "~": the one sorts before every character of a key, the other after.
    const end = `${prefix}~`
    let from = prefix
    for (;;) {
      const start = from
      const rows = this.#disk(
        () => this.#page.all(start, end, REGISTRY_LIMITS.listPageMax) as unknown as readonly Row[],
      )
      for (const row of rows) {
        yield { key: row.key, sizeBytes: row.size_bytes, modifiedAtMs: row.modified_at_ms }
      }
      const last = rows.at(-1)
      if (last === undefined || rows.length < REGISTRY_LIMITS.listPageMax) return
      from = `${last.key}!`
    }
  }

  close(): void {
    if (!this.#database.isOpen) return
    this.#database.close()
    rmSync(join(this.#directory, 'owner.pid'), { force: true })
  }

  #meta(key: string): Pick<Row, 'key' | 'etag' | 'size_bytes' | 'file'> | undefined {
    return this.#disk(() => this.#selectMeta.get(key) as Row | undefined)
  }

  /** Stores a long body as a file, commits by `commit`, and takes the file back unless that made it named. */
  async #withStoredBody<T>(
    body: Uint8Array,
    commit: (inline: Uint8Array | null, file: string | null) => T | undefined,
  ): Promise<T | undefined> {
    if (body.byteLength <= REGISTRY_LIMITS.inlineBytesMax) return this.#disk(() => commit(body, null))
    const file = randomUUID()
    let committed: T | undefined
    try {
      await writeDurably(this.#objectsDirectory, file, body)
      committed = this.#disk(() => commit(null, file))
      return committed
    } catch (error) {
      throw toStorageError(error, join(this.#objectsDirectory, file))
    } finally {
      if (committed === undefined) await this.#removeFile(file)
    }
  }

  async #removeFile(file: string | null): Promise<void> {
    // A file that cannot be removed now is removed by the next open: no row names it.
    if (file !== null) await rm(join(this.#objectsDirectory, file), { force: true }).catch(() => undefined)
  }

  #disk<T>(operation: () => T): T {
    try {
      return operation()
    } catch (error) {
      throw toStorageError(error, join(this.#directory, 'index.sqlite'))
    }
  }
}

function lostFile(key: string, path: string): IsolaError {
  return new IsolaError(
    'data_unusable',
    `the file ${path} of object "${key}" is missing: restore the data directory from a backup, or move it away to start empty and deploy again`,
    { details: { path, key } },
  )
}

async function writeDurably(directory: string, name: string, body: Uint8Array): Promise<void> {
  const handle = await open(join(directory, name), 'wx', 0o600)
  try {
    await handle.writeFile(body)
    await handle.sync()
  } finally {
    await handle.close()
  }
  const directoryHandle = await open(directory, 'r')
  try {
    await directoryHandle.sync()
  } finally {
    await directoryHandle.close()
  }
}
