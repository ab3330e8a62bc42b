import type { Head, Version } from '../../sdk/model/function.ts'

/** The durable record of the fleet, on a bucket. (Contract; see the implementation beside it.) */
export interface Registry {
  /** The last head this process read or wrote. */
  readonly head: Head
  /** Re-reads the head from the bucket; returns it. */
  refresh(): Promise<Head>
  /**
   * Swaps the head by compare-and-swap: `change` gets the newest head and returns the functions of the next, or the
   * same object for "nothing to do". Tried again on conflict with the then newest head; what `change` throws passes
   * through and nothing is written. Resolves when durable.
   */
  swap(change: (head: Head) => Head['functions']): Promise<Head>
  onChange(listener: (head: Head) => void): () => void

  hasBlob(sha256: string): Promise<boolean>
  /** Throws `digest_mismatch`. Storing what is there already is no error. */
  putBlob(sha256: string, body: Uint8Array): Promise<void>
  /** Throws `blob_missing`. */
  getBlob(sha256: string): Promise<Uint8Array>

  /** Idempotent: the id is of the content. Throws `blob_missing` if a module's blob is not there. */
  putVersion(version: Version): Promise<void>
  getVersion(functionName: string, versionId: string): Promise<Version | undefined>
  /** Newest first. */
  listVersions(functionName: string): Promise<readonly Version[]>

  /** Deletes versions and blobs that nothing names any more and that are older than the grace time. */
  collect(options: {
    readonly graceMs: number
  }): Promise<{ readonly versions: number; readonly blobs: number }>
  close(): void
}
