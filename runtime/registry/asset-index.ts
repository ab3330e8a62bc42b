/**
 * Which file a digest of wrangler's stands for. wrangler names files by a digest that cannot be made from a blob's own, so
 * what was uploaded once is found again by this. A name is only ever written for bytes that were checked against it.
 */
import type { AssetFile } from '../../sdk/model/function.ts'
import type { BlobStore } from './blob-store.ts'
import type { Bucket } from './bucket.ts'
import { readAssetFile } from './documents.ts'

export interface AssetIndex {
  /** `undefined` where it was never uploaded, or is not stored any more. */
  get(hash: string): Promise<AssetFile | undefined>
  put(hash: string, file: AssetFile): Promise<void>
  /** Forgets what is not stored any more. */
  collect(): Promise<void>
}

const PREFIX = 'asset-hashes/'

export function createAssetIndex(bucket: Bucket, blobs: BlobStore): AssetIndex {
  const stored = async (key: string): Promise<AssetFile | undefined> => {
    const object = await bucket.get(key)
    if (object === undefined) return undefined
    const file = readAssetFile(key, object.body)
    return (await blobs.sizeBytes(file.sha256)) === file.sizeBytes ? file : undefined
  }
  return {
    get: (hash) => stored(`${PREFIX}${hash}`),
    async put(hash, file) {
      const key = `${PREFIX}${hash}`
      const body = new TextEncoder().encode(JSON.stringify(file))
      if ((await bucket.putIfAbsent(key, body)) !== undefined) return
      const existing = await bucket.get(key)
      if (existing === undefined || Buffer.compare(existing.body, body) === 0) return
      // Of two at once, either is right: both have been checked.
      await bucket.putIfMatch(key, body, existing.etag)
    },
    async collect() {
      for await (const { key } of bucket.list(PREFIX)) {
        if ((await stored(key)) === undefined) await bucket.delete(key)
      }
    },
  }
}
