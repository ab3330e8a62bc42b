/**
 * The fleet's only shared service: objects under keys, with conditional writes. Everything durable goes through this
 * interface, so that one machine's disk and a many-region bucket are the same to all above.
 *
 * Keys are `/`-separated, 1–512 bytes of `a-z A-Z 0-9 . _ - /`. An etag changes whenever the body does.
 */
export interface Bucket {
  get(key: string): Promise<BucketObject | undefined>
  /** Whether the object exists, and how long it is. */
  head(key: string): Promise<{ readonly etag: string; readonly sizeBytes: number } | undefined>
  /** `undefined` where the key is taken: nothing was written. Durable when it resolves. */
  putIfAbsent(key: string, body: Uint8Array): Promise<{ readonly etag: string } | undefined>
  /** `undefined` where the object is gone or has another etag: nothing was written. Durable when it resolves. */
  putIfMatch(key: string, body: Uint8Array, etag: string): Promise<{ readonly etag: string } | undefined>
  /** Resolves also where there was nothing. */
  delete(key: string): Promise<void>
  /** All keys under a prefix, in byte order. */
  list(
    prefix: string,
  ): AsyncIterable<{ readonly key: string; readonly sizeBytes: number; readonly modifiedAtMs: number }>
  close(): void
}

export interface BucketObject {
  readonly body: Uint8Array
  readonly etag: string
}
