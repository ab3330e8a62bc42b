/**
 * Removes what crashed deploys, deleted functions and long histories leave. Order is what makes it safe to be killed
 * anywhere: a version goes before the blobs it names, so no version ever names a blob that was taken. The grace time
 * protects what was just written and is not named yet. The caller keeps swaps and new versions out meanwhile; in a
 * fleet only one node may collect.
 */
import { parseAssetManifest } from '../../sdk/model/asset-manifest.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { blobsOf, numberedVersionIds, type FunctionRecord, type Head } from '../../sdk/model/function.ts'
import { BLOB_PREFIX, type BlobStore } from './blob-store.ts'
import type { Bucket } from './bucket.ts'
import { DEPLOYMENT_PREFIX, type DeploymentStore } from './deployment-store.ts'
import { readVersion } from './documents.ts'
import { VERSION_PREFIX } from './version-store.ts'

export interface CollectOptions {
  readonly bucket: Bucket
  readonly head: Head
  /** What was written after this moment stays. */
  readonly beforeMs: number
  readonly deployments: DeploymentStore
  readonly blobs: BlobStore
}

interface Entry {
  readonly key: string
  readonly modifiedAtMs: number
}

export async function collectGarbage(
  options: CollectOptions,
): Promise<{ readonly versions: number; readonly blobs: number }> {
  const { bucket, head } = options
  const liveVersionKeys = new Set<string>()
  const liveDeploymentKeys = new Set<string>()
  for (const record of Object.values(head.functions)) {
    for (const id of await liveVersionIds(record, options))
      liveVersionKeys.add(`${VERSION_PREFIX}${record.name}/${id}.json`)
    for (const id of [record.deployment.id, record.deployment.previousId]) {
      if (id !== undefined) liveDeploymentKeys.add(`${DEPLOYMENT_PREFIX}${record.name}/${id}.json`)
    }
  }
  await removeOld(options, DEPLOYMENT_PREFIX, liveDeploymentKeys)
  const versions = await removeOld(options, VERSION_PREFIX, liveVersionKeys)

  const named = new Set<string>()
  const manifests = new Set<string>()
  for await (const { key } of bucket.list(VERSION_PREFIX)) {
    const object = await bucket.get(key)
    // A damaged version stops the collection here: what it names is not known.
    if (object === undefined) continue
    const { content } = readVersion(key, object.body)
    for (const { sha256 } of blobsOf(content)) named.add(sha256)
    if (content.kind === 'worker' && content.assets !== undefined)
      manifests.add(content.assets.manifest.sha256)
  }
  // One that is missing or damaged stops the collection, too. Versions often share them: each is read once.
  for (const manifest of manifests) {
    const { files } = parseAssetManifest(await options.blobs.get(manifest))
    for (const { sha256 } of Object.values(files)) named.add(sha256)
  }
  let blobs = 0
  for await (const { key, modifiedAtMs } of bucket.list(BLOB_PREFIX)) {
    if (named.has(key.slice(BLOB_PREFIX.length)) || modifiedAtMs >= options.beforeMs) continue
    await bucket.delete(key)
    blobs++
  }
  return { versions, blobs }
}

async function liveVersionIds(record: FunctionRecord, options: CollectOptions): Promise<string[]> {
  const { previousId } = record.deployment
  const previous =
    previousId === undefined ? undefined : await options.deployments.get(record.name, previousId)
  return [
    ...record.recentVersionIds,
    ...numberedVersionIds(record),
    ...record.deployment.shares.map((share) => share.versionId),
    ...(previous?.shares ?? []).map((share) => share.versionId),
  ]
}

/** Of each function under the prefix, keeps the live and the newest, and removes the old of the others. */
async function removeOld(
  options: CollectOptions,
  prefix: string,
  liveKeys: ReadonlySet<string>,
): Promise<number> {
  const entriesByFunction = new Map<string, Entry[]>()
  for await (const { key, modifiedAtMs } of options.bucket.list(prefix)) {
    const functionName = key.slice(prefix.length, key.lastIndexOf('/'))
    const entries = entriesByFunction.get(functionName) ?? []
    entries.push({ key, modifiedAtMs })
    entriesByFunction.set(functionName, entries)
  }
  let removed = 0
  for (const [functionName, entries] of entriesByFunction) {
    const kept = functionName in options.head.functions ? CONTROL_LIMITS.keptVersionsMax : 0
    entries.sort((a, b) => b.modifiedAtMs - a.modifiedAtMs)
    for (const { key, modifiedAtMs } of entries.slice(kept)) {
      if (liveKeys.has(key) || modifiedAtMs >= options.beforeMs) continue
      await options.bucket.delete(key)
      removed++
    }
  }
  return removed
}
