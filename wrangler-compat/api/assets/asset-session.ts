/**
 * What an upload of static files knows beside its token: the announced list, which is a blob, and what of it is stored,
 * which the registry knows. Sessions are kept here only to not read that again for every file, and may be forgotten.
 */
import { createHash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Registry } from '../../../runtime/registry/registry.ts'
import { inTurns } from '../../../runtime/registry/in-turns.ts'
import { encodeAssetManifest } from '../../../sdk/model/asset-manifest.ts'
import type { AssetFile, BlobRef } from '../../../sdk/model/function.ts'
import { ASSET_UPLOAD_LIMITS } from '../../../sdk/model/limits.ts'
import { encodeAssetList, readAssetList, type AssetList } from './asset-list.ts'
import { createHeldBytes, type HeldBytes } from './held-bytes.ts'

export interface AssetSession {
  readonly list: AssetList
  /** The list as a blob. */
  readonly listed: BlobRef
  /** Hashes that may be missing; the last is looked at first. What is stored leaves it. */
  readonly pending: string[]
}

export interface AssetSessions {
  readonly held: HeldBytes
  /** A session with everything that is missing of the list, which is stored. */
  begin(list: AssetList): Promise<AssetSession>
  /** The session of a token. Throws `blob_missing` where its list is not there any more. */
  resume(listed: BlobRef): Promise<AssetSession>
}

const sessionsByRegistry = new WeakMap<Registry, AssetSessions>()

export function assetSessions(registry: Registry): AssetSessions {
  const known = sessionsByRegistry.get(registry)
  if (known !== undefined) return known
  const made = createAssetSessions(registry)
  sessionsByRegistry.set(registry, made)
  return made
}

function createAssetSessions(registry: Registry): AssetSessions {
  const kept = new Map<string, AssetSession>()
  const keep = (session: AssetSession): AssetSession => {
    const { sha256 } = session.listed
    kept.delete(sha256)
    kept.set(sha256, session)
    for (const oldest of [...kept.keys()].slice(0, -ASSET_UPLOAD_LIMITS.sessionsKeptMax)) kept.delete(oldest)
    return session
  }
  return {
    held: createHeldBytes(ASSET_UPLOAD_LIMITS.uploadBytesHeldMax),
    async begin(list) {
      const body = encodeAssetList(list)
      const listed = await storeBlob(registry, body)
      return keep({ list, listed, pending: await missingHashes(registry, list) })
    },
    async resume(listed) {
      const known = kept.get(listed.sha256)
      if (known !== undefined) return keep(known)
      const list = readAssetList(await registry.getBlob(listed.sha256))
      return keep({ list, listed, pending: [...list.fileByHash.keys()] })
    },
  }
}

/**
 * Whether all files are there. Only up to the first that is not is looked at, so that asking after every file costs no more
 * than asking once; and the registry is asked, so that it does not matter which node took a file.
 */
export async function isAllStored(registry: Registry, { list, pending }: AssetSession): Promise<boolean> {
  for (let hash = pending.at(-1); hash !== undefined; hash = pending.at(-1)) {
    if ((await storedFile(registry, list, hash)) === undefined) return false
    // Another request may have taken it away meanwhile.
    if (pending.at(-1) === hash) pending.pop()
  }
  return true
}

/** The version's manifest, stored. `undefined` where a file is gone after all. */
export async function storeManifest(
  registry: Registry,
  { list }: AssetSession,
): Promise<BlobRef | undefined> {
  const fileByHash = await storedFiles(registry, list)
  const files: Record<string, AssetFile> = {}
  for (const [path, hash] of list.hashByPath) {
    const file = fileByHash.get(hash)
    if (file === undefined) return undefined
    files[path] = file
  }
  return storeBlob(registry, encodeAssetManifest(files))
}

async function missingHashes(registry: Registry, list: AssetList): Promise<string[]> {
  const stored = await storedFiles(registry, list)
  return [...list.fileByHash.keys()].filter((hash) => !stored.has(hash))
}

async function storedFiles(registry: Registry, list: AssetList): Promise<ReadonlyMap<string, AssetFile>> {
  const hashes = [...list.fileByHash.keys()]
  const stored = new Map<string, AssetFile>()
  const turn = 256
  for (let start = 0; start < hashes.length; start += turn) {
    const some = hashes.slice(start, start + turn)
    const files = await inTurns(some, (hash) => storedFile(registry, list, hash))
    files.forEach((file, index) => file && stored.set(some[index] ?? '', file))
    // The embedded bucket answers on this thread.
    await nextTurn()
  }
  return stored
}

/** A hash of another size is another file: base64 and extension run into each other in what is hashed. */
async function storedFile(
  registry: Registry,
  { fileByHash }: AssetList,
  hash: string,
): Promise<AssetFile | undefined> {
  const file = await registry.getAsset(hash)
  return file?.sizeBytes === fileByHash.get(hash)?.sizeBytes ? file : undefined
}

async function storeBlob(registry: Registry, body: Uint8Array): Promise<BlobRef> {
  const sha256 = createHash('sha256').update(body).digest('hex')
  await registry.putBlob(sha256, body)
  return { sha256, sizeBytes: body.byteLength }
}
