/**
 * The manifest of a version's static files as bytes. Whoever makes it makes the same ones for the same files, because its
 * digest is part of the version's id: paths in the order of code units, fields in one order, no spaces. What is read back
 * is refused unless it is spelled so.
 */
import { IsolaError } from './errors.ts'
import type { AssetFile, AssetManifest, AssetsConfig } from './function.ts'
import { ASSET_UPLOAD_LIMITS } from './limits.ts'

export function encodeAssetManifest(files: AssetManifest['files']): Uint8Array {
  const entries = Object.keys(files)
    .sort((a, b) => (a < b ? -1 : 1))
    .map((path) => {
      const { sha256, sizeBytes, contentType } = files[path] as AssetFile
      const file = { sha256, sizeBytes, ...(contentType !== undefined && { contentType }) }
      return `${JSON.stringify(path)}:${JSON.stringify(file)}`
    })
  return new TextEncoder().encode(`{"files":{${entries.join(',')}}}`)
}

/** Throws `invalid_argument` for what `encodeAssetManifest` would not have made, or that is beyond a bound. */
export function parseAssetManifest(bytes: Uint8Array): AssetManifest {
  if (bytes.byteLength > ASSET_UPLOAD_LIMITS.manifestBytesMax) {
    throw refused(
      `has ${bytes.byteLength} bytes, more than the ${ASSET_UPLOAD_LIMITS.manifestBytesMax} it may have`,
    )
  }
  const manifest = parseJson(bytes)
  const files = Object.entries(manifest.files)
  if (files.length > ASSET_UPLOAD_LIMITS.filesMax) {
    throw refused(`has ${files.length} files, more than the ${ASSET_UPLOAD_LIMITS.filesMax} it may have`)
  }
  for (const [path, file] of files) {
    const problem = assetPathProblem(path) ?? fileProblem(file)
    if (problem !== undefined)
      throw refused(`has the file ${JSON.stringify(path.slice(0, 200))}, which ${problem}`)
  }
  const spelled = encodeAssetManifest(manifest.files)
  if (Buffer.compare(spelled, bytes) !== 0) {
    throw refused('is not in its one spelling: make it with isola deploy or wrangler')
  }
  return manifest
}

/** Why a path cannot be one of a static file; it goes on the word "which". */
export function assetPathProblem(path: string): string | undefined {
  if (!path.startsWith('/')) return 'does not begin with "/"'
  if (!path.isWellFormed()) return 'is not well-formed Unicode'
  if (Buffer.byteLength(path) > ASSET_UPLOAD_LIMITS.pathBytesMax) {
    return `has more than the ${ASSET_UPLOAD_LIMITS.pathBytesMax} bytes a path may have`
  }
  // oxlint-disable-next-line no-control-regex -- control characters are what it looks for
  if (/[\u0000-\u001f\u007f]/.test(path)) return 'has a control character'
  for (const segment of path.slice(1).split('/')) {
    if (segment === '' || segment === '.' || segment === '..') return `has the segment "${segment}"`
  }
  return undefined
}

/** What may stand in the header `content-type`. */
export function isAssetContentType(text: string): boolean {
  return (
    text.length <= ASSET_UPLOAD_LIMITS.contentTypeCharsMax &&
    /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(?:; *[\x20-\x7e]+)?$/.test(text)
  )
}

/** Without what is the default anyway, so that saying it makes no other version. */
export function normalAssetsConfig(config: AssetsConfig): AssetsConfig {
  const { htmlHandling, notFoundHandling, runWorkerFirst, redirects, headers } = config
  const isRunFirst = Array.isArray(runWorkerFirst) ? runWorkerFirst.length > 0 : runWorkerFirst === true
  return {
    ...(htmlHandling !== undefined && htmlHandling !== 'auto-trailing-slash' && { htmlHandling }),
    ...(notFoundHandling !== undefined && notFoundHandling !== 'none' && { notFoundHandling }),
    ...(isRunFirst && runWorkerFirst !== undefined && { runWorkerFirst }),
    ...(redirects !== undefined && redirects !== '' && { redirects }),
    ...(headers !== undefined && headers !== '' && { headers }),
  }
}

/** Why a configuration is not usable, with its values. */
export function assetsConfigProblems({
  runWorkerFirst,
  redirects,
  headers,
}: AssetsConfig): readonly string[] {
  const problems: string[] = []
  const rules = typeof runWorkerFirst === 'object' ? runWorkerFirst : []
  if (rules.length > ASSET_UPLOAD_LIMITS.workerFirstRulesMax) {
    problems.push(
      `${rules.length} rules of paths that go to the code first are more than the ${ASSET_UPLOAD_LIMITS.workerFirstRulesMax} there may be: use "*"`,
    )
  }
  for (const rule of rules) {
    const isUsable = /^!?\//.test(rule) && rule.length <= ASSET_UPLOAD_LIMITS.workerFirstRuleCharsMax
    if (isUsable) continue
    problems.push(
      `the rule ${JSON.stringify(rule.slice(0, 120))} of paths that go to the code first is not usable: begin it with "/" or "!/", ${ASSET_UPLOAD_LIMITS.workerFirstRuleCharsMax} characters at most`,
    )
  }
  if (rules.length > 0 && rules.every((rule) => rule.startsWith('!'))) {
    problems.push(
      'of paths that go to the code first there are only rules with "!": add one without, such as "/*"',
    )
  }
  for (const [name, text] of Object.entries({ _redirects: redirects, _headers: headers })) {
    if (text === undefined || Buffer.byteLength(text) <= ASSET_UPLOAD_LIMITS.rulesFileBytesMax) continue
    problems.push(
      `${name} has more than the ${ASSET_UPLOAD_LIMITS.rulesFileBytesMax} bytes it may have: shorten it`,
    )
  }
  return problems
}

function parseJson(bytes: Uint8Array): AssetManifest {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw refused(`is not JSON (${(error as Error).message}): send it again`)
  }
  const files = typeof value === 'object' && value !== null && 'files' in value ? value.files : undefined
  if (typeof files !== 'object' || files === null || Array.isArray(files)) {
    throw refused('has no "files": write {"files":{"/path":{"sha256":…,"sizeBytes":…}}}')
  }
  return value as AssetManifest
}

function fileProblem(file: unknown): string | undefined {
  const { sha256, sizeBytes, contentType } = (file ?? {}) as Readonly<Record<string, unknown>>
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) return 'has no SHA-256 of 64 hex digits'
  if (typeof sizeBytes !== 'number' || !Number.isInteger(sizeBytes) || sizeBytes < 0) return 'has no size'
  if (sizeBytes > ASSET_UPLOAD_LIMITS.fileBytesMax) {
    return `has ${sizeBytes} bytes, more than the ${ASSET_UPLOAD_LIMITS.fileBytesMax} of a static file`
  }
  if (contentType === undefined) return undefined
  return typeof contentType === 'string' && isAssetContentType(contentType)
    ? undefined
    : 'has no usable content type'
}

function refused(why: string): IsolaError {
  return new IsolaError('invalid_argument', `the manifest of the static files ${why}`)
}
