/**
 * Paths of `_headers` and `_redirects`: one `*` that stands for anything, and `:name` for a part of a segment.
 *
 * Matched by hand and not by regular expression: patterns are a tenant's and paths a stranger's, and together they could
 * keep a backtracking matcher, and with it the router, busy for minutes. Here each character is looked at a bounded
 * number of times. What that leaves out is a placeholder in the segment of the `*` or behind it.
 */
import { ASSET_LIMITS } from '../../../sdk/model/limits.ts'

/** By name; what `*` stood for is `splat`. */
export type Captures = ReadonlyMap<string, string>

export interface PathPattern {
  match(path: string): Captures | undefined
}

const PLACEHOLDER = /:([A-Za-z]\w*)/g
const NO_CAPTURES: Captures = new Map()

export function hasWildcards(pattern: string): boolean {
  return pattern.includes('*') || pattern.search(PLACEHOLDER) !== -1
}

/** `undefined` for what is no pattern: two wildcards, a name twice, or what is left out (see above). */
export function compilePattern(text: string): PathPattern | undefined {
  const star = text.indexOf('*')
  const names = [...text.matchAll(PLACEHOLDER)].map((match) => match[1]!)
  if (star !== -1) names.push('splat')
  if (new Set(names).size < names.length || text.includes('*', star + 1 || text.length)) return undefined
  if (names.length === 0) return { match: (path) => (path === text ? NO_CAPTURES : undefined) }
  const before = star === -1 ? text : text.slice(0, star)
  const after = star === -1 ? undefined : text.slice(star + 1)
  const segments = before.split('/').map((segment, index) => compileSegment(segment, isHost(text, index)))
  const open = after === undefined ? undefined : before.slice(before.lastIndexOf('/') + 1)
  if (open?.includes(':') && open.search(PLACEHOLDER) !== -1) return undefined
  if (after !== undefined && after.search(PLACEHOLDER) !== -1) return undefined
  if (segments.some((segment) => segment === undefined)) return undefined
  return {
    match: (path) => matchSegments(path, { segments: segments as Segment[], open, after }),
  }
}

/** `https://host/…` */
function isHost(pattern: string, index: number): boolean {
  return index === 2 && pattern.startsWith('https://')
}

interface Segment {
  readonly literals: readonly string[]
  readonly names: readonly string[]
  /** What a placeholder never stands for, beside `/`. */
  readonly stop: string | undefined
}

function compileSegment(text: string, host: boolean): Segment | undefined {
  // Split at a group: literals and names in turn.
  const parts = text.split(PLACEHOLDER)
  const literals = parts.filter((_, index) => index % 2 === 0)
  const between = literals.slice(1, -1)
  if (between.some(({ length }) => length === 0 || length > ASSET_LIMITS.patternSeparatorCharsMax))
    return undefined
  return { literals, names: parts.filter((_, index) => index % 2 === 1), stop: host ? '.' : undefined }
}

function matchSegments(
  path: string,
  pattern: {
    readonly segments: readonly Segment[]
    /** The literal beginning of the segment that the `*` is in. */
    readonly open: string | undefined
    readonly after: string | undefined
  },
): Captures | undefined {
  const { segments, open, after } = pattern
  // Told apart from most paths by its first segments, before anything is allocated.
  const captures = new Map<string, string>()
  let start = 0
  const whole = open === undefined ? segments.length : segments.length - 1
  for (let index = 0; index < whole; index++) {
    const isLast = open === undefined && index === whole - 1
    const slash = path.indexOf('/', start)
    if (isLast ? slash !== -1 : slash === -1) return undefined
    const end = isLast ? path.length : slash
    if (!matchSegment(segments[index]!, path.slice(start, end), captures)) return undefined
    start = end + 1
  }
  if (open === undefined || after === undefined) return captures
  const from = start + open.length
  if (!path.startsWith(open, start) || !path.endsWith(after) || path.length - after.length < from)
    return undefined
  return captures.set('splat', path.slice(from, path.length - after.length))
}

/** From the right, so that of two placeholders the first takes as much as it can. */
function matchSegment(
  { literals, names, stop }: Segment,
  text: string,
  captures: Map<string, string>,
): boolean {
  const first = literals[0]!
  if (names.length === 0) return text === first
  const last = literals[names.length]!
  if (!text.startsWith(first) || !text.endsWith(last)) return false
  let end = text.length - last.length
  for (let index = names.length - 1; index >= 0; index--) {
    const literal = literals[index]!
    const at = index === 0 ? 0 : text.lastIndexOf(literal, end - 1 - literal.length)
    const start = at + literal.length
    if (at === -1 || start >= end) return false
    const value = text.slice(start, end)
    if (stop !== undefined && value.includes(stop)) return false
    captures.set(names[index]!, value)
    end = at
  }
  return true
}

/** A text in which `:name` stands for what was captured. */
export function compileTemplate(text: string): (captures: Captures) => string {
  const parts = text.split(PLACEHOLDER)
  if (parts.length === 1) return () => text
  return (captures) =>
    parts.map((part, index) => (index % 2 === 0 ? part : (captures.get(part) ?? `:${part}`))).join('')
}
