import { createHash } from 'node:crypto'
import { encodeAssetManifest } from '../model/asset-manifest.ts'
import type { Module, ModuleRef } from '../model/bundle.ts'
import type { AssetFile, AssetsConfig, BlobRef, StaticAssets } from '../model/function.ts'
import { BUNDLE_LIMITS, CONTROL_LIMITS } from '../model/limits.ts'
import { readJson, type Send } from './call.ts'

export interface UploadOptions {
  /** Called after each blob, for a progress line. Blobs the node has already are not counted. */
  readonly onProgress?: (progress: { readonly sentBytes: number; readonly totalBytes: number }) => void
}

interface Uploading extends UploadOptions {
  readonly send: Send
  readonly controlUrl: string
}

/** Static files to deploy with a version. */
export interface AssetsToUpload {
  /** By path, which begins with "/". */
  readonly files: ReadonlyMap<string, AssetFile>
  /** Called for those that the node does not have, a few at a time. */
  read(path: string): Promise<Uint8Array>
  readonly config: AssetsConfig
}

/** Sends the modules that the node does not have yet, a few at a time; returns all by reference. */
export async function uploadBlobs(
  options: Uploading & { readonly modules: readonly Module[] },
): Promise<ModuleRef[]> {
  const refs = options.modules.map(({ name, kind, body }) => ({ name, kind, ...blobOf(body) }))
  const blobs = refs.map((ref, index) => ({
    ...ref,
    read: async () => options.modules[index]?.body ?? new Uint8Array(),
  }))
  await sendMissing(options, blobs)
  return refs
}

/** Sends the files that the node does not have yet, and then their manifest. */
export async function uploadAssets(
  options: Uploading & { readonly assets: AssetsToUpload },
): Promise<StaticAssets> {
  const { assets } = options
  const blobs = [...assets.files].map(([path, { sha256, sizeBytes }]) => ({
    sha256,
    sizeBytes,
    read: () => assets.read(path),
  }))
  await sendMissing(options, blobs)
  const body = encodeAssetManifest(
    Object.fromEntries(
      [...assets.files].map(([path, { sha256, sizeBytes, contentType }]) => [
        path,
        { sha256, sizeBytes, ...(contentType !== undefined && { contentType }) },
      ]),
    ),
  )
  const manifest = blobOf(body)
  await sendMissing(options, [{ ...manifest, read: async () => body }])
  return { manifest, config: assets.config }
}

interface Blob extends BlobRef {
  read(): Promise<Uint8Array>
}

function blobOf(body: Uint8Array): BlobRef {
  return { sha256: createHash('sha256').update(body).digest('hex'), sizeBytes: body.byteLength }
}

async function sendMissing(options: Uploading, blobs: readonly Blob[]): Promise<void> {
  const { send } = options
  const blobByDigest = new Map(blobs.map((blob) => [blob.sha256, blob]))
  const missing = await missingOf(options, [...blobByDigest.keys()])
  const totalBytes = missing.reduce((total, digest) => total + (blobByDigest.get(digest)?.sizeBytes ?? 0), 0)
  let sentBytes = 0
  let next = 0
  const failed = new AbortController()
  const work = async (): Promise<void> => {
    for (let digest = missing[next++]; digest !== undefined; digest = missing[next++]) {
      const blob = blobByDigest.get(digest)
      if (blob === undefined || failed.signal.aborted) return
      const body = await blob.read()
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
}

async function missingOf({ send, controlUrl }: Uploading, digests: readonly string[]): Promise<string[]> {
  const missing: string[] = []
  for (let start = 0; start === 0 || start < digests.length; start += BUNDLE_LIMITS.modulesCountMax) {
    const some = digests.slice(start, start + BUNDLE_LIMITS.modulesCountMax)
    const response = await send({ method: 'POST', path: ['blobs', 'missing'], body: { digests: some } })
    const answer = await readJson<{ readonly missing: readonly string[] }>(controlUrl, response)
    missing.push(...answer.missing)
  }
  return missing
}
