import { randomUUID } from 'node:crypto'
import type { Bucket, BucketObject } from '../../runtime/registry/bucket.ts'
import { checkKeyPrefix, checkObjectKey, checkObjectSize } from '../../runtime/registry/object-key.ts'

/** What a memory bucket keeps; opened again with the same store it is the same bucket. */
export type MemoryStore = Map<string, BucketObject & { readonly modifiedAtMs: number }>

/** The contract in its plainest form, for tests that need no disk. Each call takes a turn of the event loop. */
export function openMemoryBucket(
  options: { readonly store?: MemoryStore; readonly now?: () => number } = {},
): Bucket {
  const store = options.store ?? new Map()
  const now = options.now ?? Date.now
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  const put = (key: string, body: Uint8Array): { readonly etag: string } => {
    const etag = randomUUID()
    store.set(key, { body: body.slice(), etag, modifiedAtMs: now() })
    return { etag }
  }
  return {
    async get(key) {
      checkObjectKey(key)
      await turn()
      const found = store.get(key)
      return found && { body: found.body.slice(), etag: found.etag }
    },
    async head(key) {
      checkObjectKey(key)
      await turn()
      const found = store.get(key)
      return found && { etag: found.etag, sizeBytes: found.body.byteLength }
    },
    async putIfAbsent(key, body) {
      checkObjectKey(key)
      checkObjectSize(key, body)
      await turn()
      return store.has(key) ? undefined : put(key, body)
    },
    async putIfMatch(key, body, etag) {
      checkObjectKey(key)
      checkObjectSize(key, body)
      await turn()
      return store.get(key)?.etag === etag ? put(key, body) : undefined
    },
    async delete(key) {
      checkObjectKey(key)
      await turn()
      store.delete(key)
    },
    async *list(prefix) {
      checkKeyPrefix(prefix)
      await turn()
      for (const key of [...store.keys()]
        .filter((key) => key.startsWith(prefix))
        .sort((a, b) => (a < b ? -1 : 1))) {
        const found = store.get(key)
        if (found !== undefined) {
          yield { key, sizeBytes: found.body.byteLength, modifiedAtMs: found.modifiedAtMs }
        }
      }
    },
    close: () => undefined,
  }
}
