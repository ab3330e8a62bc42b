import type { AssetFile, Deployment, Head, Version } from '../../sdk/model/function.ts'
import type { FleetSettings } from '../../sdk/model/settings.ts'

export type DispatchChange = Pick<Head, 'functions' | 'dispatchNamespaces'>

/** The durable record of the fleet, on a bucket. Opened by `openRegistry`. */
export interface Registry {
  /** The last head this process read or wrote. */
  readonly head: Head
  /** Re-reads the head from the bucket; returns it. */
  refresh(): Promise<Head>
  /**
   * Swaps the head by compare-and-swap: `change` gets the newest head and returns the functions of the next, or the
   * same object for "nothing to do". Tried again on conflict with the then newest head; what `change` throws passes
   * through and nothing is written. Resolves when durable. `change` must be pure: it may run more than once.
   * Throws `version_not_found` for a version that is named and not stored, `conflict` after `swapAttemptsMax` tries.
   */
  swap(change: (head: Head) => Head['functions']): Promise<Head>
  /** The same for the fleet's settings: `undefined`, or the same object, is "nothing to do". */
  swapSettings(change: (head: Head) => FleetSettings | undefined): Promise<Head>
  /** The same for functions and the dispatch namespaces that name them, together. */
  swapDispatch(change: (head: Head) => DispatchChange): Promise<Head>
  onChange(listener: (head: Head) => void): () => void

  hasBlob(sha256: string): Promise<boolean>
  /** `undefined` where there is no such blob. */
  blobSizeBytes(sha256: string): Promise<number | undefined>
  /** Throws `digest_mismatch`. Storing what is there already is no error. */
  putBlob(sha256: string, body: Uint8Array): Promise<void>
  /** Throws `blob_missing`, and `data_unusable` where the bytes are not those of the digest any more. */
  getBlob(sha256: string): Promise<Uint8Array>

  /** The static file that a digest of wrangler's stands for; `undefined` where it is not stored. */
  getAsset(hash: string): Promise<AssetFile | undefined>
  /** Of a file whose blob is stored, and whose bytes have been checked against the digest. */
  putAsset(hash: string, file: AssetFile): Promise<void>

  /** Idempotent: the id is of the content. Throws `blob_missing` if a module's blob is not there. */
  putVersion(version: Version): Promise<void>
  getVersion(functionName: string, versionId: string): Promise<Version | undefined>
  /** In no order of meaning; cheaper than the documents. */
  listVersionIds(functionName: string): Promise<readonly string[]>
  /** Newest first. */
  listVersions(functionName: string): Promise<readonly Version[]>

  /** The current deployment of a function or an earlier one that is still kept; `swap` records each. */
  getDeployment(functionName: string, deploymentId: string): Promise<Deployment | undefined>

  /** Deletes versions and blobs that nothing names any more and that are older than the grace time.
   * Kept are the newest `keptVersionsMax` of each function and all that a head, or the deployment before, names. */
  collect(options: {
    readonly graceMs: number
  }): Promise<{ readonly versions: number; readonly blobs: number }>
  close(): void
}
