import { createHash } from 'node:crypto'
import type { Module, ModuleRef } from '../model/bundle.ts'
import { CONTROL_LIMITS } from '../model/limits.ts'
import { readJson, type Send } from './call.ts'

export interface UploadOptions {
  /** Called after each blob, for a progress line. Blobs the node has already are not counted. */
  readonly onProgress?: (progress: { readonly sentBytes: number; readonly totalBytes: number }) => void
}

/** Sends the modules that the node does not have yet, a few at a time; returns all by reference. */
export async function uploadBlobs(
  options: UploadOptions & {
    readonly send: Send
    readonly controlUrl: string
    readonly modules: readonly Module[]
  },
): Promise<ModuleRef[]> {
  const { send, controlUrl, modules } = options
  const refs = modules.map(({ name, kind, body }) => ({
    name,
    kind,
    sha256: createHash('sha256').update(body).digest('hex'),
    sizeBytes: body.byteLength,
  }))
  const bodyByDigest = new Map(refs.map((ref, index) => [ref.sha256, modules[index]?.body]))
  const response = await send({
    method: 'POST',
    path: ['blobs', 'missing'],
    body: { digests: [...bodyByDigest.keys()] },
  })
  const { missing } = await readJson<{ readonly missing: readonly string[] }>(controlUrl, response)
  const totalBytes = missing.reduce((total, digest) => total + (bodyByDigest.get(digest)?.byteLength ?? 0), 0)
  let sentBytes = 0
  let next = 0
  const failed = new AbortController()
  const work = async (): Promise<void> => {
    for (let digest = missing[next++]; digest !== undefined; digest = missing[next++]) {
      const body = bodyByDigest.get(digest)
      if (body === undefined || failed.signal.aborted) return
      await send({ method: 'PUT', path: ['blobs', digest], body, signal: failed.signal })
      sentBytes += body.byteLength
      options.onProgress?.({ sentBytes, totalBytes })
    }
  }
  try {
    await Promise.all(Array.from({ length: CONTROL_LIMITS.uploadsConcurrentMax }, work))
  } catch (error) {
    // The first failure is the one to tell; the others stop here.
    failed.abort()
    throw error
  }
  return refs
}
