/**
 * The registry on a bucket. Immutable first, by content or by a fresh id, then one swap of the head that names it:
 *
 *   blobs/<sha256>                    bytes of modules and static files
 *   asset-hashes/<hash>               which of them a digest of wrangler's stands for
 *   versions/<function>/<id>.json     what a version is made of
 *   deployments/<function>/<id>.json  which versions served, for rollback
 *   head.json                         everything live
 *
 * So a crash between any two writes leaves garbage, never half a deploy. Swaps, new versions and the collection take
 * turns in this process, which keeps two promises: the head names no version that is not stored, and a stored version
 * names no blob that is not.
 */
import { IsolaError } from '../../sdk/model/errors.ts'
import type { FunctionRecord } from '../../sdk/model/function.ts'
import { createAssetIndex } from './asset-index.ts'
import { createBlobStore } from './blob-store.ts'
import type { Bucket } from './bucket.ts'
import { collectGarbage } from './collect.ts'
import { createDeploymentStore, type DeploymentStore } from './deployment-store.ts'
import { openHeadStore } from './head-store.ts'
import { createMutex } from './mutex.ts'
import type { Registry } from './registry.ts'
import { createVersionStore, type VersionStore } from './version-store.ts'

export interface RegistryOptions {
  readonly bucket: Bucket
  /** Milliseconds, on the clock that the bucket's modification times are of. */
  readonly now: () => number
  /** Makes ids that are never made twice. */
  readonly newId: () => string
}

/** Throws `data_unusable` where the head cannot be read. Closing it closes the bucket. */
export async function openRegistry(options: RegistryOptions): Promise<Registry> {
  const { bucket, now, newId } = options
  const exclusive = createMutex()
  const blobs = createBlobStore(bucket)
  const assets = createAssetIndex(bucket, blobs)
  const versions = createVersionStore(bucket, blobs)
  const deployments = createDeploymentStore(bucket)
  const heads = await openHeadStore({
    bucket,
    newId,
    exclusive,
    beforeWrite: (change) => storeWhatItNames({ ...change, versions, deployments }),
  })
  return {
    get head() {
      return heads.head
    },
    refresh: () => heads.refresh(),
    swap: (change) =>
      heads.swap((head) => {
        const functions = change(head)
        return functions === head.functions ? head : { ...head, functions }
      }),
    swapSettings: (change) =>
      heads.swap((head) => {
        const settings = change(head)
        return settings === undefined || settings === head.settings ? head : { ...head, settings }
      }),
    swapDispatch: (change) =>
      heads.swap((head) => {
        const { functions, dispatchNamespaces } = change(head)
        if (functions === head.functions && dispatchNamespaces === head.dispatchNamespaces) return head
        return { ...head, functions, ...(dispatchNamespaces !== undefined && { dispatchNamespaces }) }
      }),
    onChange: (listener) => heads.onChange(listener),
    hasBlob: async (sha256) => (await blobs.sizeBytes(sha256)) !== undefined,
    blobSizeBytes: (sha256) => blobs.sizeBytes(sha256),
    putBlob: (sha256, body) => blobs.put(sha256, body),
    getBlob: (sha256) => blobs.get(sha256),
    getAsset: (hash) => assets.get(hash),
    putAsset: (hash, file) => assets.put(hash, file),
    putVersion: (version) => exclusive(() => versions.put(version)),
    getVersion: (functionName, versionId) => versions.get(functionName, versionId),
    listVersionIds: (functionName) => versions.listIds(functionName),
    listVersions: (functionName) => versions.list(functionName),
    getDeployment: (functionName, deploymentId) => deployments.get(functionName, deploymentId),
    async collect({ graceMs }) {
      await heads.refresh()
      return exclusive(async () => {
        const removed = await collectGarbage({
          bucket,
          deployments,
          head: heads.head,
          blobs,
          beforeMs: now() - graceMs,
        })
        if (removed.blobs > 0) await assets.collect()
        return removed
      })
    },
    close: () => bucket.close(),
  }
}

async function storeWhatItNames(change: {
  readonly next: FunctionRecord
  readonly previous: FunctionRecord | undefined
  readonly versions: VersionStore
  readonly deployments: DeploymentStore
}): Promise<void> {
  const { next, previous, versions, deployments } = change
  const known = new Set(previous === undefined ? [] : namedVersionIds(previous))
  for (const id of namedVersionIds(next)) {
    if (known.has(id) || (await versions.has(next.name, id))) continue
    throw new IsolaError(
      'version_not_found',
      `version ${id} of "${next.name}" is not in the registry: list what there is with "isola versions ${next.name}", or deploy again`,
    )
  }
  if (next.deployment.id !== previous?.deployment.id) await deployments.put(next.name, next.deployment)
}

function namedVersionIds(record: FunctionRecord): string[] {
  return [...record.deployment.shares.map((share) => share.versionId), ...record.recentVersionIds]
}
