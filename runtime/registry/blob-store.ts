import { createHash } from 'node:crypto'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { Bucket } from './bucket.ts'

/** Bytes under their own digest: what is stored never changes, so writing twice is writing once. */
export interface BlobStore {
  sizeBytes(sha256: string): Promise<number | undefined>
  /** Throws `digest_mismatch`. */
  put(sha256: string, body: Uint8Array): Promise<void>
  /** Throws `blob_missing`, `data_unusable`. */
  get(sha256: string): Promise<Uint8Array>
}

export const BLOB_PREFIX = 'blobs/'

export function createBlobStore(bucket: Bucket): BlobStore {
  return {
    async sizeBytes(sha256) {
      return (await bucket.head(blobKey(sha256)))?.sizeBytes
    },
    async put(sha256, body) {
      const actual = digest(body)
      if (actual !== sha256) {
        throw new IsolaError(
          'digest_mismatch',
          `blob ${sha256} was sent with ${body.byteLength} bytes whose SHA-256 is ${actual}: send the bytes unchanged, under their lower-case hex digest`,
        )
      }
      await bucket.putIfAbsent(blobKey(sha256), body)
    },
    async get(sha256) {
      const object = await bucket.get(blobKey(sha256))
      if (object === undefined) {
        throw new IsolaError(
          'blob_missing',
          `blob ${sha256} is not in the registry: upload it (PUT /v1/blobs/${sha256}) or deploy again`,
          { details: { missing: [sha256] } },
        )
      }
      if (digest(object.body) !== sha256) {
        throw new IsolaError(
          'data_unusable',
          `blob ${sha256} is damaged (${object.body.byteLength} bytes of another digest): restore the bucket from a backup`,
          { details: { sha256 } },
        )
      }
      return object.body
    },
  }
}

function blobKey(sha256: string): string {
  return `${BLOB_PREFIX}${sha256}`
}

function digest(body: Uint8Array): string {
  return createHash('sha256').update(body).digest('hex')
}
