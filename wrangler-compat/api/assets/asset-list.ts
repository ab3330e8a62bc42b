/** The list of files that a client announces, and how the files that are missing are asked for. */
import { isIsolaError } from '../../../sdk/model/errors.ts'
import { ASSET_UPLOAD_LIMITS } from '../../../sdk/model/limits.ts'
import { assetPathProblem } from '../../../sdk/model/asset-manifest.ts'
import { parseJson } from '../../../runtime/control/request-body.ts'
import { CloudflareError } from '../api-error.ts'
import { assetExtension } from './asset-hash.ts'

export interface AssetList {
  /** By path, in the order of code units. */
  readonly hashByPath: ReadonlyMap<string, string>
  /** What each hash stands for. */
  readonly fileByHash: ReadonlyMap<string, AnnouncedFile>
}

export interface AnnouncedFile {
  readonly sizeBytes: number
  /** Part of what is hashed. */
  readonly extension: string
}

const PROBLEMS_SHOWN = 5

/** Of the body `{"manifest":{"/path":{"hash","size"}}}`. Throws `malformed` that names the files. */
export function readAssetList(body: Uint8Array): AssetList {
  const entries = Object.entries(manifestIn(body))
  if (entries.length > ASSET_UPLOAD_LIMITS.filesMax) {
    throw malformed(
      `${entries.length} static files are more than the ${ASSET_UPLOAD_LIMITS.filesMax} a version may have: leave some out with .assetsignore`,
    )
  }
  const hashByPath = new Map<string, string>()
  const fileByHash = new Map<string, AnnouncedFile>()
  const problems: string[] = []
  for (const [path, entry] of entries.sort(([a], [b]) => (a < b ? -1 : 1))) {
    const problem = readEntry(path, entry, { hashByPath, fileByHash })
    if (problem !== undefined) problems.push(`${JSON.stringify(path.slice(0, 200))} ${problem}`)
  }
  if (problems.length === 0) return { hashByPath, fileByHash }
  const more = problems.length > PROBLEMS_SHOWN ? `; and ${problems.length - PROBLEMS_SHOWN} more` : ''
  throw malformed(`static files cannot be taken: ${problems.slice(0, PROBLEMS_SHOWN).join('; ')}${more}`)
}

/** The list as a blob keeps it; the same for equal lists. */
export function encodeAssetList({ hashByPath, fileByHash }: AssetList): Uint8Array {
  const manifest = Object.fromEntries(
    [...hashByPath].map(([path, hash]) => [path, { hash, size: fileByHash.get(hash)?.sizeBytes }]),
  )
  return Buffer.from(JSON.stringify({ manifest }))
}

/** Groups of hashes that one request each carries. */
export function assetBuckets(hashes: readonly string[], { fileByHash }: AssetList): string[][] {
  const buckets: string[][] = []
  let bucketBytes = 0
  for (const hash of hashes) {
    const sizeBytes = fileByHash.get(hash)?.sizeBytes ?? 0
    const last = buckets.at(-1)
    const isFull =
      last === undefined ||
      last.length >= ASSET_UPLOAD_LIMITS.bucketFilesMax ||
      bucketBytes + sizeBytes > ASSET_UPLOAD_LIMITS.bucketBytesMax
    if (isFull) buckets.push([hash])
    else last.push(hash)
    bucketBytes = (isFull ? 0 : bucketBytes) + sizeBytes
  }
  return buckets
}

function manifestIn(body: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = parseJson(body)
  } catch (error) {
    if (!isIsolaError(error)) throw error
    throw malformed(error.message, error)
  }
  const manifest =
    typeof value === 'object' && value !== null && 'manifest' in value ? value.manifest : undefined
  if (typeof manifest === 'object' && manifest !== null && !Array.isArray(manifest)) {
    return manifest as Readonly<Record<string, unknown>>
  }
  throw malformed('the body has no "manifest": send {"manifest":{"/path":{"hash":"…","size":0}}}')
}

function readEntry(
  path: string,
  entry: unknown,
  { hashByPath, fileByHash }: { hashByPath: Map<string, string>; fileByHash: Map<string, AnnouncedFile> },
): string | undefined {
  const pathProblem = assetPathProblem(path)
  if (pathProblem !== undefined) return pathProblem
  const { hash, size } = (entry ?? {}) as Readonly<Record<string, unknown>>
  if (typeof hash !== 'string' || !/^[0-9a-f]{32}$/.test(hash))
    return 'has no "hash" of 32 lower-case hex digits'
  if (typeof size !== 'number' || !Number.isInteger(size) || size < 0) return 'has no "size" in bytes'
  if (size > ASSET_UPLOAD_LIMITS.fileBytesMax) {
    return `has ${size} bytes, more than the ${ASSET_UPLOAD_LIMITS.fileBytesMax} a static file may have`
  }
  const extension = assetExtension(path)
  const known = fileByHash.get(hash)
  if (known !== undefined && (known.sizeBytes !== size || known.extension !== extension)) {
    return `has the hash ${hash} of another file, with another size or extension`
  }
  fileByHash.set(hash, { sizeBytes: size, extension })
  hashByPath.set(path, hash)
  return undefined
}

function malformed(message: string, cause?: unknown): CloudflareError {
  return new CloudflareError('malformed', message, cause === undefined ? {} : { cause })
}
