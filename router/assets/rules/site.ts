/**
 * The static files of one version, compiled: what a request gets of them, or that it is the code's. In the order of
 * Cloudflare: rules for the code first, redirects, a file, then either the code or what is to be done where nothing was
 * found. Everything is decided by the manifest alone; no path of a client ever becomes a path on a disk.
 */
import type { AssetFile, AssetsConfig } from '../../../sdk/model/function.ts'
import type { AssetSite } from '../../../runtime/pool/asset-site.ts'
import { compileHeaderRules, type HeaderRules } from './header-rules.ts'
import { meaningOf, type PathMeaning } from './html-handling.ts'
import { compileRedirects } from './redirect-rules.ts'
import { encodePath, readRequestPath, type RequestPath } from './request-path.ts'
import { compileWorkerFirst } from './worker-first.ts'

export interface SiteRequest {
  readonly method: string
  /** Origin form. */
  readonly target: string
  /** `Sec-Fetch-Mode` says that a browser goes to a page. */
  readonly isNavigation: boolean
  /** The function asks for its own files: the answer is never the code's. */
  readonly filesOnly: boolean
}

/** `path`: as rules for headers see it. */
export type SiteAnswer =
  | { readonly type: 'code' }
  | { readonly type: 'file'; readonly file: SiteFile; readonly status: 200 | 404; readonly path: string }
  | { readonly type: 'redirect'; readonly status: number; readonly location: string; readonly path: string }
  | { readonly type: 'not-found'; readonly path: string }
  | { readonly type: 'wrong-method'; readonly path: string }

export interface SiteFile {
  readonly sha256: string
  readonly sizeBytes: number
  readonly etag: string
  /** Names and values in turn. */
  readonly headers: readonly string[]
  /** To a request with credentials, which no cache in between may take for everybody's. */
  readonly privateHeaders: readonly string[]
}

export interface Site {
  readonly fileCount: number
  readonly hasCode: boolean
  readonly headerRules: HeaderRules | undefined
  answer(request: SiteRequest): SiteAnswer
}

const CODE: SiteAnswer = { type: 'code' }
const CACHE_CONTROL = 'public, max-age=0, must-revalidate'
/** Of an `ETag`; the rest of the digest tells nobody more. */
const ETAG_DIGITS = 32
const HEADER_VALUE = /^[\x20-\x7e]+$/

export function compileSite({ files, config, hasCode, navigationsAreFiles }: AssetSite): Site {
  const fileByPath = new Map(Object.entries(files).map(([path, file]) => [path, compileFile(file)]))
  const { runWorkerFirst } = config
  const workerFirst = typeof runWorkerFirst === 'object' ? compileWorkerFirst(runWorkerFirst) : undefined
  const redirects = compileRedirects(config.redirects, config.htmlHandling)
  const find = (path: string): SiteFile | undefined => fileByPath.get(path)
  const mode = config.htmlHandling ?? 'auto-trailing-slash'
  const instead = compileNotFound(config.notFoundHandling, fileByPath)

  const ofFiles = (
    request: SiteRequest,
    path: RequestPath,
    handlesNotFound: boolean,
  ): SiteAnswer | undefined => {
    const { raw, search } = path
    const redirect = redirects?.find(raw, search)
    if (redirect?.type === 'redirect') return { ...redirect, path: raw }
    const asked = redirect === undefined ? path : readRequestPath(redirect.path)
    const found =
      meaningOf(asked.decoded, { mode, find }) ?? (handlesNotFound ? instead?.(asked.decoded) : undefined)
    if (found === undefined) return redirect === undefined ? undefined : { type: 'not-found', path: raw }
    if (request.method !== 'GET' && request.method !== 'HEAD') return { type: 'wrong-method', path: raw }
    if (found.type === 'redirect')
      return { type: 'redirect', status: 307, location: encodePath(found.path) + search, path: raw }
    if (asked.canonical !== asked.raw)
      return { type: 'redirect', status: 307, location: asked.canonical + search, path: raw }
    return { type: 'file', file: found.file, status: found.status ?? 200, path: raw }
  }

  return {
    fileCount: fileByPath.size,
    hasCode,
    headerRules: compileHeaderRules(config.headers),
    answer(request) {
      const path = readRequestPath(request.target)
      const isShared = hasCode && !request.filesOnly
      if (!isShared) return ofFiles(request, path, true) ?? { type: 'not-found', path: path.raw }
      const rule = workerFirst?.find(path.raw)
      if (rule === 'files') return ofFiles(request, path, true) ?? { type: 'not-found', path: path.raw }
      if (rule === 'code' || runWorkerFirst === true) return CODE
      const handlesNotFound = workerFirst !== undefined || (navigationsAreFiles && request.isNavigation)
      return ofFiles(request, path, handlesNotFound) ?? CODE
    },
  }
}

function compileFile({ sha256, sizeBytes, contentType }: AssetFile): SiteFile {
  const etag = `"${sha256.slice(0, ETAG_DIGITS)}"`
  const privateHeaders = ['etag', etag, 'accept-ranges', 'bytes']
  if (contentType !== undefined && HEADER_VALUE.test(contentType))
    privateHeaders.push('content-type', contentType)
  return {
    sha256,
    sizeBytes,
    etag,
    privateHeaders,
    headers: [...privateHeaders, 'cache-control', CACHE_CONTROL],
  }
}

type NotFound = (path: string) => PathMeaning<SiteFile> | undefined

/** What stands for a path that means nothing. `undefined`: nothing ever does. */
function compileNotFound(
  handling: AssetsConfig['notFoundHandling'],
  fileByPath: ReadonlyMap<string, SiteFile>,
): NotFound | undefined {
  if (handling === 'single-page-application') {
    const file = fileByPath.get('/index.html')
    return file && (() => ({ type: 'file', file, status: 200 }))
  }
  if (handling !== '404-page') return undefined
  const fileByFolder = new Map(
    [...fileByPath].flatMap(([path, file]) =>
      path.endsWith(PAGE) ? [[path.slice(0, -PAGE.length), file] as const] : [],
    ),
  )
  // A stranger's path may have thousands of segments: what is longer than any folder with a page is not tried.
  const longest = [...fileByFolder.keys()].reduce((most, { length }) => Math.max(most, length), -1)
  if (longest === -1) return undefined
  return (path) => {
    for (
      let end = path.lastIndexOf('/', longest);
      end !== -1;
      end = end === 0 ? -1 : path.lastIndexOf('/', end - 1)
    ) {
      const file = fileByFolder.get(path.slice(0, end))
      if (file !== undefined) return { type: 'file', file, status: 404 }
    }
    return undefined
  }
}

const PAGE = '/404.html'
