import assert from 'node:assert'
import { parseAssetManifest } from '../../sdk/model/asset-manifest.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import { blobsOf, type BlobRef, type Version } from '../../sdk/model/function.ts'
import type { BlobStore } from './blob-store.ts'
import type { Bucket } from './bucket.ts'
import { readVersion, writeDocument } from './documents.ts'
import { inTurns } from './in-turns.ts'
import { versionId } from './version-id.ts'

export interface VersionStore {
  /** Throws `blob_missing` that lists the digests. */
  put(version: Version): Promise<void>
  has(functionName: string, versionId: string): Promise<boolean>
  get(functionName: string, versionId: string): Promise<Version | undefined>
  listIds(functionName: string): Promise<readonly string[]>
  /** Newest first. */
  list(functionName: string): Promise<readonly Version[]>
}

export const VERSION_PREFIX = 'versions/'

export function createVersionStore(bucket: Bucket, blobs: BlobStore): VersionStore {
  const get = async (functionName: string, id: string): Promise<Version | undefined> => {
    const key = versionKey(functionName, id)
    const object = await bucket.get(key)
    return object && readVersion(key, object.body)
  }
  const listIds = async (functionName: string): Promise<string[]> => {
    const prefix = `${VERSION_PREFIX}${functionName}/`
    const ids: string[] = []
    for await (const { key } of bucket.list(prefix)) ids.push(key.slice(prefix.length, -'.json'.length))
    return ids
  }
  return {
    async put(version) {
      const { id, functionName, content } = version
      assert.equal(id, versionId(functionName, content), 'the id of a version is made from its content')
      const missing = await missingBlobs(version, blobs)
      if (missing.length > 0) throw blobsMissing(version, missing)
      const key = versionKey(functionName, id)
      if ((await bucket.putIfAbsent(key, writeDocument(version))) !== undefined) return
      // It is there, perhaps unused for long: writing it again makes it young, so that no collection takes it
      // between this and the head swap that will name it.
      const existing = await bucket.get(key)
      if (existing !== undefined) await bucket.putIfMatch(key, existing.body, existing.etag)
    },
    async has(functionName, id) {
      return (await bucket.head(versionKey(functionName, id))) !== undefined
    },
    get,
    listIds,
    async list(functionName) {
      const found = await inTurns(await listIds(functionName), (id) => get(functionName, id))
      return found
        .filter((version) => version !== undefined)
        .sort((a, b) =>
          a.createdAt === b.createdAt ? (a.id < b.id ? -1 : 1) : a.createdAt < b.createdAt ? 1 : -1,
        )
    },
  }
}

async function missingBlobs(version: Version, blobs: BlobStore): Promise<string[]> {
  const missing = await missingOf(blobsOf(version.content), blobs)
  const { content } = version
  if (missing.length > 0 || content.kind !== 'worker' || content.assets === undefined) return missing
  const { files } = parseAssetManifest(await blobs.get(content.assets.manifest.sha256))
  return missingOf(Object.values(files), blobs)
}

async function missingOf(refs: readonly BlobRef[], blobs: BlobStore): Promise<string[]> {
  const digests = [...new Set(refs.map(({ sha256 }) => sha256))]
  const sizes = await inTurns(digests, (sha256) => blobs.sizeBytes(sha256))
  return digests.filter((_, index) => sizes[index] === undefined)
}

function blobsMissing(version: Version, missing: readonly string[]): IsolaError {
  return new IsolaError(
    'blob_missing',
    `${missing.length} blobs of "${version.functionName}" are not uploaded (first: ${missing[0]}): upload them (PUT /v1/blobs/<sha256>), then try again`,
    { details: { missing } },
  )
}

function versionKey(functionName: string, id: string): string {
  return `${VERSION_PREFIX}${functionName}/${id}.json`
}
