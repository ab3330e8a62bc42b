/**
 * The one mutable document. All that is live is named in it, so a deploy is one compare-and-swap of it.
 *
 * Swaps that arrive while one is being written are committed together by the next (remote buckets take about one
 * write a second per key). Each write carries a `writeId`: where the outcome of a write is unclear, because the
 * connection broke or a client below us sent it twice, reading the head back tells whether it was ours.
 */
import { IsolaError } from '../../sdk/model/errors.ts'
import { REGISTRY_LIMITS } from '../../sdk/model/limits.ts'
import type { FunctionRecord, Head } from '../../sdk/model/function.ts'
import type { Bucket } from './bucket.ts'
import { functionsByName, readHead, writeDocument } from './documents.ts'
import type { Mutex } from './mutex.ts'

export interface HeadStore {
  readonly head: Head
  refresh(): Promise<Head>
  swap(change: HeadChange): Promise<Head>
  onChange(listener: (head: Head) => void): () => void
}

/** The next head, of which functions and settings count, or the same object for "nothing to do". */
type HeadChange = (head: Head) => Head

export interface HeadStoreOptions {
  readonly bucket: Bucket
  readonly newId: () => string
  /** Shared with whoever else must not run beside a swap. */
  readonly exclusive: Mutex
  /** Called before a head that holds `next` instead of `previous` is written. What it throws fails that change. */
  readonly beforeWrite: (change: {
    next: FunctionRecord
    previous: FunctionRecord | undefined
  }) => Promise<void>
}

const KEY = 'head.json'

interface StoredHead {
  readonly head: Head
  readonly etag: string
}

interface PendingSwap {
  readonly change: HeadChange
  readonly resolve: (head: Head) => void
  readonly reject: (error: unknown) => void
}

/** Makes the first head where there is none. Throws `data_unusable` for one that cannot be read. */
export async function openHeadStore(options: HeadStoreOptions): Promise<HeadStore> {
  const { bucket, newId } = options
  let found = await bucket.get(KEY)
  if (found === undefined) {
    const first: Head = { formatVersion: 1, generation: 0, writeId: newId(), functions: {} }
    await bucket.putIfAbsent(KEY, writeDocument(first))
    found = await bucket.get(KEY)
  }
  if (found === undefined) throw headGone()
  return new BucketHeadStore(options, { head: readHead(KEY, found.body), etag: found.etag })
}

class BucketHeadStore implements HeadStore {
  readonly #options: HeadStoreOptions
  readonly #listeners = new Set<(head: Head) => void>()
  #stored: StoredHead
  #pending: PendingSwap[] = []

  constructor(options: HeadStoreOptions, stored: StoredHead) {
    this.#options = options
    this.#stored = stored
  }

  get head(): Head {
    return this.#stored.head
  }

  refresh(): Promise<Head> {
    return this.#options.exclusive(async () => (await this.#load()).head)
  }

  swap(change: HeadChange): Promise<Head> {
    return new Promise((resolve, reject) => {
      this.#pending.push({ change, resolve, reject })
      if (this.#pending.length === 1) void this.#options.exclusive(() => this.#commitPending())
    })
  }

  onChange(listener: (head: Head) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Never rejects: each pending swap hears its own outcome. */
  async #commitPending(): Promise<void> {
    const batch = this.#pending
    this.#pending = []
    try {
      const { head, errors } = await this.#commit(batch)
      for (const swap of batch) {
        if (errors.has(swap)) swap.reject(errors.get(swap))
        else swap.resolve(head)
      }
    } catch (error) {
      for (const swap of batch) swap.reject(error)
    }
  }

  async #commit(
    batch: readonly PendingSwap[],
  ): Promise<{ head: Head; errors: ReadonlyMap<PendingSwap, unknown> }> {
    const writeId = this.#options.newId()
    let errors: ReadonlyMap<PendingSwap, unknown> = new Map()
    for (let attempt = 0; attempt < REGISTRY_LIMITS.swapAttemptsMax; attempt++) {
      const base = await this.#load()
      // A refusal can be our own success, sent twice by something below us.
      if (base.head.writeId === writeId) return { head: base.head, errors }
      const applied = await this.#apply(batch, base.head)
      errors = applied.errors
      if (applied.head === base.head) return { head: base.head, errors }
      const next: Head = { ...applied.head, generation: base.head.generation + 1, writeId }
      if (await this.#write(next, base.etag)) return { head: next, errors }
    }
    throw new IsolaError(
      'conflict',
      `the registry changed ${REGISTRY_LIMITS.swapAttemptsMax} times while this was being written: try again`,
    )
  }

  /** Each change sees what those before it made; one that throws leaves no trace. */
  async #apply(
    batch: readonly PendingSwap[],
    base: Head,
  ): Promise<{ head: Head; errors: Map<PendingSwap, unknown> }> {
    const errors = new Map<PendingSwap, unknown>()
    let head = base
    for (const swap of batch) {
      try {
        const next = swap.change(head)
        if (next === head) continue
        for (const record of Object.values(next.functions)) {
          const previous = Object.hasOwn(head.functions, record.name)
            ? head.functions[record.name]
            : undefined
          if (record !== previous) await this.#options.beforeWrite({ next: record, previous })
        }
        head = { ...next, functions: functionsByName(next.functions) }
      } catch (error) {
        errors.set(swap, error)
      }
    }
    return { head, errors }
  }

  async #write(next: Head, etag: string): Promise<boolean> {
    try {
      const written = await this.#options.bucket.putIfMatch(KEY, writeDocument(next), etag)
      if (written === undefined) return false
      this.#adopt({ head: next, etag: written.etag })
      return true
    } catch (error) {
      // Unclear: it may have been written all the same. If even this read fails, the first error says more.
      const found = await this.#load().catch(() => undefined)
      if (found?.head.writeId === next.writeId) return true
      throw error
    }
  }

  async #load(): Promise<StoredHead> {
    const known = await this.#options.bucket.head(KEY)
    if (known?.etag === this.#stored.etag) return this.#stored
    const object = await this.#options.bucket.get(KEY)
    if (object === undefined) throw headGone()
    this.#adopt({ head: readHead(KEY, object.body), etag: object.etag })
    return this.#stored
  }

  #adopt(stored: StoredHead): void {
    const { head } = this.#stored
    if (stored.head.writeId === head.writeId) {
      this.#stored = { head, etag: stored.etag }
      return
    }
    if (stored.head.generation <= head.generation) throw wentBack(stored.head, head)
    this.#stored = stored
    for (const listener of this.#listeners) notify(listener, stored.head)
  }
}

/** The head is written, whatever a listener does: its fault is reported as one, not as a failed swap. */
function notify(listener: (head: Head) => void, head: Head): void {
  try {
    listener(head)
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}

function headGone(): IsolaError {
  return new IsolaError(
    'data_unusable',
    `the registry's "${KEY}" is gone from the bucket: restore the bucket from a backup; this node goes on serving what it knows`,
    { details: { key: KEY } },
  )
}

function wentBack(found: Head, known: Head): IsolaError {
  return new IsolaError(
    'data_unusable',
    `the registry went back from generation ${known.generation} to ${found.generation}, as after restoring an older copy: restart this node to accept the older state; until then it serves what it knows`,
    { details: { found: found.generation, known: known.generation } },
  )
}
