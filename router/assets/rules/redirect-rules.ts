/**
 * `_redirects`: `from to [status]` a line, the first that fits. Rules without placeholders that stand before all with
 * some are looked up; the others are tried in their order. Status 200 serves another file in place of the one asked for.
 */
import type { AssetsConfig } from '../../../sdk/model/function.ts'
import { ASSET_LIMITS } from '../../../sdk/model/limits.ts'
import {
  compilePattern,
  compileTemplate,
  hasWildcards,
  type Captures,
  type PathPattern,
} from './path-pattern.ts'
import { ruleLines, ruleUrl } from './rule-lines.ts'

export type Redirect =
  | { readonly type: 'redirect'; readonly status: number; readonly location: string }
  /** `path`: as it would have been asked for. */
  | { readonly type: 'serve'; readonly path: string }

export interface RedirectRules {
  find(path: string, search: string): Redirect | undefined
}

interface Rule {
  readonly status: number
  readonly to: (captures: Captures) => string
}

const STATUSES = new Set([200, 301, 302, 303, 307, 308])
const NO_CAPTURES: Captures = new Map()

export function compileRedirects(
  text: string | undefined,
  htmlHandling: AssetsConfig['htmlHandling'],
): RedirectRules | undefined {
  if (text === undefined) return undefined
  const staticRules = new Map<string, Rule>()
  const dynamicRules: { readonly pattern: PathPattern; readonly rule: Rule }[] = []
  const seen = new Set<string>()
  let dynamicCount = 0
  for (const line of ruleLines(text)) {
    const read = readLine(line)
    if (read === undefined) continue
    const { from, to, status } = read
    const isDynamic = dynamicCount > 0 || hasWildcards(from)
    if (isDynamic && ++dynamicCount > ASSET_LIMITS.dynamicRedirectsMax) break
    if (!isDynamic && staticRules.size >= ASSET_LIMITS.staticRedirectsMax) continue
    if (isCircle(from, to, htmlHandling) || seen.has(from)) continue
    seen.add(from)
    const rule: Rule = { status, to: compileTemplate(to) }
    const pattern = isDynamic ? compilePattern(from) : undefined
    if (!isDynamic) staticRules.set(from, rule)
    else if (pattern !== undefined) dynamicRules.push({ pattern, rule })
  }
  if (staticRules.size === 0 && dynamicRules.length === 0) return undefined
  return {
    find(path, search) {
      const found = staticRules.get(path)
      if (found !== undefined) return follow(found, NO_CAPTURES, search)
      for (const { pattern, rule } of dynamicRules) {
        const captures = pattern.match(path)
        if (captures !== undefined) return follow(rule, captures, search)
      }
      return undefined
    },
  }
}

function readLine(line: string): { from: string; to: string; status: number } | undefined {
  const words = line
    .replace(/\s#.*$/, '')
    .trim()
    .split(/\s+/)
  const [first = '', second = '', statusText = '302'] = words
  if (words.length < 2 || words.length > 3) return undefined
  const from = ruleUrl(first.startsWith('/') || first.includes('://') ? first : `/${first}`, {
    withSearch: false,
  })
  const to = ruleUrl(second, { withSearch: true })
  const status = Number(statusText)
  if (from === undefined || from.isAbsolute || to === undefined || !STATUSES.has(status)) return undefined
  if (status === 200 && to.isAbsolute) return undefined
  return { from: from.text, to: to.text, status }
}

/** Its destination is sent back to where it came from, for its `index.html`. */
function isCircle(from: string, to: string, htmlHandling: AssetsConfig['htmlHandling']): boolean {
  if (!to.startsWith('/') || !/\/index(?:\.html)?$/.test(to)) return false
  return from.endsWith('/*') || (from.endsWith('/') && htmlHandling !== 'none')
}

function follow({ status, to }: Rule, captures: Captures, search: string): Redirect | undefined {
  const target = to(captures)
  const isAbsolute = target.startsWith('https://')
  // Of `/:splat` and a path of `//evil.example` must not become another host.
  const text = isAbsolute ? target : `http://host${target.replaceAll(/\/+/g, '/')}`
  if (!URL.canParse(text)) return undefined
  const url = new URL(text)
  if (status === 200) return { type: 'serve', path: url.pathname }
  const origin = isAbsolute ? url.origin : ''
  const location = `${origin}${url.pathname}${url.search === '' ? search : url.search}${url.hash}`
  return { type: 'redirect', status, location }
}
