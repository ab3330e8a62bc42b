/**
 * The static files of a directory, as wrangler finds them: all that `.assetsignore` does not name, dot files among them,
 * through symbolic links. `_headers` and `_redirects` at its top are rules and no files. They are read one by one and only
 * their digests are kept, because a site may be larger than the memory.
 */
import { createHash } from 'node:crypto'
import type { Stats } from 'node:fs'
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { IsolaError } from '../sdk/model/errors.ts'
import { assetPathProblem } from '../sdk/model/asset-manifest.ts'
import type { AssetFile, AssetsConfig } from '../sdk/model/function.ts'
import { ASSET_UPLOAD_LIMITS, BUILD_LIMITS } from '../sdk/model/limits.ts'
import { assetContentType } from './asset-content-type.ts'
import { compileIgnorePatterns, type IgnorePatterns } from './ignore-patterns.ts'

export interface AssetDirectory {
  readonly directory: string
  /** By path from the top of the directory, which begins with "/"; in the order of code units. */
  readonly files: ReadonlyMap<string, FoundAsset>
  /** Of the files beside the others. */
  readonly rules: Pick<AssetsConfig, 'headers' | 'redirects'>
}

export interface FoundAsset extends AssetFile {
  /** Absolute. */
  readonly source: string
}

const IGNORE_FILE = '.assetsignore'

/** Throws `build_failed` that names the file, and `bundle_too_large`. */
export async function readAssetDirectory(directory: string): Promise<AssetDirectory> {
  await checkDirectory(directory)
  const [ignoreText, redirects, headers] = await Promise.all(
    [IGNORE_FILE, '_redirects', '_headers'].map((name) => readRules(directory, name)),
  )
  const ignored = compileIgnorePatterns([
    `/${IGNORE_FILE}`,
    '/_redirects',
    '/_headers',
    ...(ignoreText ?? '').split('\n'),
  ])
  const found = await findFiles(directory, ignored)
  const isLegacyWorker = (path: string): boolean => /^\/_worker\.js(?:\/|$)/.test(path)
  if (ignoreText === undefined && [...found.keys()].some(isLegacyWorker)) throw legacyWorker(directory)
  const files = new Map<string, FoundAsset>()
  for (const [path, source] of [...found].sort(([a], [b]) => (a < b ? -1 : 1))) {
    files.set(path, await describeFile(path, source))
  }
  return {
    directory,
    files,
    rules: { ...(headers !== undefined && { headers }), ...(redirects !== undefined && { redirects }) },
  }
}

/** The bytes of a found file. Throws `build_failed` where it is not the same any more. */
export async function readAssetFile(path: string, { source, sha256 }: FoundAsset): Promise<Uint8Array> {
  const body = await readFile(source).catch((error: unknown) => {
    throw unreadable(path, error)
  })
  if (createHash('sha256').update(body).digest('hex') === sha256) return body
  throw new IsolaError('build_failed', `the static file ${path} changed while it was read: deploy again`)
}

async function checkDirectory(directory: string): Promise<void> {
  const stats = await stat(directory).catch(() => undefined)
  if (stats?.isDirectory() === true) return
  throw new IsolaError(
    'build_failed',
    `the directory of static files ${directory} ${stats === undefined ? 'does not exist' : 'is no directory'}: build the site first, or correct "assets.directory"`,
  )
}

async function readRules(directory: string, name: string): Promise<string | undefined> {
  let body: Buffer
  try {
    body = await readFile(join(directory, name))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // A directory of that name is left out like the file.
    if (code === 'ENOENT' || code === 'EISDIR') return undefined
    throw unreadable(`/${name}`, error)
  }
  if (body.byteLength <= ASSET_UPLOAD_LIMITS.rulesFileBytesMax) return body.toString('utf8')
  throw new IsolaError(
    'bundle_too_large',
    `${join(directory, name)} has ${body.byteLength} bytes, more than the ${ASSET_UPLOAD_LIMITS.rulesFileBytesMax} it may have: shorten it`,
  )
}

/** Sources by path. */
async function findFiles(directory: string, ignored: IgnorePatterns): Promise<ReadonlyMap<string, string>> {
  const sources = new Map<string, string>()
  let scanned = 0
  const visit = async (folder: string, prefix: string, above: readonly string[]): Promise<void> => {
    const real = await realpath(folder)
    if (above.includes(real)) {
      throw new IsolaError(
        'build_failed',
        `${prefix} is a link to a directory that it is in: remove it, or name it in ${IGNORE_FILE}`,
      )
    }
    for (const name of await readdir(folder)) {
      if (++scanned > BUILD_LIMITS.filesScannedMax) throw tooMany(directory, BUILD_LIMITS.filesScannedMax)
      const path = `${prefix}/${name}`
      const source = join(folder, name)
      if (ignored.isFileIgnored(path.slice(1))) continue
      const stats = await follow(path, source)
      if (stats.isDirectory()) {
        if (ignored.isDirectoryIgnored(path.slice(1))) continue
        await visit(source, path, [...above, real])
        continue
      }
      checkFile(path, stats)
      sources.set(path, source)
      if (sources.size > ASSET_UPLOAD_LIMITS.filesMax) throw tooMany(directory, ASSET_UPLOAD_LIMITS.filesMax)
    }
  }
  await visit(directory, '', [])
  return sources
}

async function follow(path: string, source: string): Promise<Stats> {
  return stat(source).catch((error: unknown) => {
    throw unreadable(path, error)
  })
}

function checkFile(path: string, stats: Stats): void {
  const problem = stats.isFile() ? assetPathProblem(path) : 'is no file, directory or link'
  if (problem !== undefined) {
    throw new IsolaError(
      'build_failed',
      `the static file ${JSON.stringify(path.slice(0, 200))} ${problem}: rename it, or name it in ${IGNORE_FILE}`,
    )
  }
  if (stats.size <= ASSET_UPLOAD_LIMITS.fileBytesMax) return
  throw new IsolaError(
    'bundle_too_large',
    `the static file ${path} has ${stats.size} bytes, more than the ${ASSET_UPLOAD_LIMITS.fileBytesMax} it may have: make it smaller, or name it in ${IGNORE_FILE}`,
  )
}

async function describeFile(path: string, source: string): Promise<FoundAsset> {
  const body = await readFile(source).catch((error: unknown) => {
    throw unreadable(path, error)
  })
  const contentType = assetContentType(path)
  return {
    source,
    sha256: createHash('sha256').update(body).digest('hex'),
    sizeBytes: body.byteLength,
    ...(contentType !== undefined && { contentType }),
  }
}

function legacyWorker(directory: string): IsolaError {
  return new IsolaError(
    'build_failed',
    `${join(directory, '_worker.js')} would be served as a static file, and everybody could read it: name it in ${IGNORE_FILE}, which may be empty if it shall be served`,
  )
}

function unreadable(path: string, cause: unknown): IsolaError {
  const { code } = cause as NodeJS.ErrnoException
  return new IsolaError(
    'build_failed',
    `the static file ${path} cannot be read (${code}): mend it, or name it in ${IGNORE_FILE}`,
    { cause },
  )
}

function tooMany(directory: string, filesMax: number): IsolaError {
  return new IsolaError(
    'bundle_too_large',
    `${directory} has more than ${filesMax} files: leave some out with ${IGNORE_FILE}`,
  )
}
