/**
 * Which file a path means, by `html_handling`. What a path may mean depends on how it ends, so the modes are tables:
 * for each ending, what is tried in turn. `b` is the path without that ending, `p` the path itself.
 *
 * A redirect is only given where its destination serves the very same bytes, without another redirect: so there are no
 * circles, and no page is hidden by a file beside it.
 */
import type { AssetsConfig } from '../../../sdk/model/function.ts'

export type HtmlHandling = NonNullable<AssetsConfig['htmlHandling']>

export interface FoundFile {
  readonly sha256: string
}

export type FileFinder<File extends FoundFile> = (path: string) => File | undefined

export type PathMeaning<File extends FoundFile> =
  /** `status`: 404 of a page that stands for what is not there. @default 200 */
  | { readonly type: 'file'; readonly file: File; readonly status?: 200 | 404 }
  | { readonly type: 'redirect'; readonly path: string }

type Ending = 'root' | 'index' | 'index.html' | 'slash' | 'html'

/** What is appended to `b` (or `p`): of the file, and of the place that it is served at. No place: it is served here. */
type Step = readonly [file: string, place?: string]

const SUFFIX: Readonly<Record<Ending, string>> = {
  root: '/',
  index: '/index',
  'index.html': '/index.html',
  slash: '/',
  html: '.html',
}

const INDEX = '/index.html'

const STEPS: Readonly<
  Record<Exclude<HtmlHandling, 'none'>, Readonly<Record<Ending | 'any', readonly Step[]>>>
> = {
  'auto-trailing-slash': {
    root: [[INDEX]],
    index: [
      [INDEX, '/'],
      ['.html', ''],
    ],
    'index.html': [
      [INDEX, '/'],
      ['.html', ''],
    ],
    slash: [[INDEX], ['.html', '']],
    html: [
      ['.html', ''],
      [INDEX, '/'],
    ],
    any: [[''], ['.html'], [INDEX, '/']],
  },
  'force-trailing-slash': {
    root: [[INDEX]],
    index: [
      [INDEX, '/'],
      ['.html', '/'],
    ],
    'index.html': [
      [INDEX, '/'],
      ['.html', '/'],
    ],
    slash: [[INDEX], ['.html']],
    html: [['.html', '/'], ['.html'], [INDEX, '/']],
    any: [[''], ['.html', '/'], [INDEX, '/']],
  },
  'drop-trailing-slash': {
    root: [[INDEX]],
    index: [
      ['.html', ''],
      [INDEX, ''],
    ],
    'index.html': [[INDEX, ''], [INDEX], ['.html', '']],
    slash: [
      ['.html', ''],
      [INDEX, ''],
    ],
    html: [
      ['.html', ''],
      [INDEX, ''],
    ],
    any: [[''], ['.html'], [INDEX]],
  },
}

/** `undefined`: nothing that the path could mean is there. */
export function meaningOf<File extends FoundFile>(
  path: string,
  { mode, find }: { readonly mode: HtmlHandling; readonly find: FileFinder<File> },
  options: { readonly redirects: boolean } = { redirects: true },
): PathMeaning<File> | undefined {
  if (mode === 'none') return served(find(path))
  const ending = endingOf(path)
  // A file of the name `index`, without ending, is what the path says.
  const exact = ending === 'index' ? find(path) : undefined
  if (exact !== undefined) return { type: 'file', file: exact }
  const attempt = (base: string, steps: readonly Step[]): PathMeaning<File> | undefined => {
    for (const [suffix, place] of steps) {
      const file = find(base + suffix)
      if (file === undefined) continue
      if (place === undefined) return { type: 'file', file }
      const destination = base + place === '' ? '/' : base + place
      if (!options.redirects || find(destination) !== undefined) continue
      const there = meaningOf(destination, { mode, find }, { redirects: false })
      if (there?.type === 'file' && there.file.sha256 === file.sha256)
        return { type: 'redirect', path: destination }
    }
    return undefined
  }
  const steps = STEPS[mode]
  const special =
    ending === undefined ? undefined : attempt(path.slice(0, -SUFFIX[ending].length), steps[ending])
  return special ?? attempt(path, steps.any)
}

function served<File extends FoundFile>(file: File | undefined): PathMeaning<File> | undefined {
  return file && { type: 'file', file }
}

function endingOf(path: string): Ending | undefined {
  if (path.endsWith('/')) return path === '/' ? 'root' : 'slash'
  if (path.endsWith('.html')) return path.endsWith('/index.html') ? 'index.html' : 'html'
  return path.endsWith('/index') ? 'index' : undefined
}
