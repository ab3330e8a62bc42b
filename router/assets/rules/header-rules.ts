/**
 * `_headers`: a line with a path or `https://host/path`, and below it what answers at such paths have beside their own
 * headers. `Name: value` sets; a name that several rules set has all their values; `! Name` takes away.
 */
import { ASSET_LIMITS } from '../../../sdk/model/limits.ts'
import { compilePattern, compileTemplate, type Captures, type PathPattern } from './path-pattern.ts'
import { ruleLines, ruleUrl } from './rule-lines.ts'

export interface HeaderRules {
  /** Names and values in turn, names in lower case; the same array where no rule fits. */
  apply(headers: string[], at: { readonly path: string; readonly hostname: string }): string[]
}

interface Rule {
  readonly pattern: PathPattern
  readonly isAbsolute: boolean
  readonly set: Map<string, string>
  readonly unset: string[]
}

interface CompiledRule extends Pick<Rule, 'pattern' | 'isAbsolute' | 'unset'> {
  readonly set: readonly (readonly [name: string, value: (captures: Captures) => string])[]
}

const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/
/** Of the connection, or the router's own words. */
const NOT_SETTABLE =
  /^(?:connection|content-length|content-range|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade|x-request-id|x-isola-.*|isola-.*)$/

export function compileHeaderRules(text: string | undefined): HeaderRules | undefined {
  const rules = text === undefined ? [] : readRules(text)
  if (rules.length === 0) return undefined
  return {
    apply(headers, { path, hostname }) {
      let edited: Map<string, string[]> | undefined
      let setNames: Set<string> | undefined
      for (const { pattern, isAbsolute, set, unset } of rules) {
        const captures = pattern.match(isAbsolute ? `https://${hostname}${path}` : path)
        if (captures === undefined) continue
        edited ??= mapOf(headers)
        setNames ??= new Set()
        for (const name of unset) edited.delete(name)
        for (const [name, template] of set) {
          const value = template(captures).slice(0, ASSET_LIMITS.headerValueCharsMax)
          const before = setNames.has(name) ? edited.get(name) : undefined
          if (before === undefined) edited.set(name, [value])
          else before.push(value)
          setNames.add(name)
        }
      }
      return edited === undefined ? headers : listOf(edited)
    },
  }
}

function readRules(text: string): readonly CompiledRule[] {
  const rules: Rule[] = []
  let rule: Rule | undefined
  for (const line of ruleLines(text)) {
    if (/^(?:[^\s]+:\/\/|\/)/.test(line)) {
      rule = readPath(line)
      if (rule === undefined) continue
      if (rules.length >= ASSET_LIMITS.headerRulesMax) break
      rules.push(rule)
    } else if (rule !== undefined) readHeader(line, rule)
  }
  return rules
    .filter(({ set, unset }) => set.size > 0 || unset.length > 0)
    .map(({ pattern, isAbsolute, set, unset }) => ({
      pattern,
      isAbsolute,
      unset,
      set: [...set].map(([name, value]) => [name, compileTemplate(value)] as const),
    }))
}

function readPath(line: string): Rule | undefined {
  const url = /^https:\/\/[^/]*:\d+(?:\/|$)/.test(line) ? undefined : ruleUrl(line, { withSearch: false })
  const pattern = url && compilePattern(url.text)
  return pattern && { pattern, isAbsolute: url.isAbsolute, set: new Map(), unset: [] }
}

function readHeader(line: string, { set, unset }: Rule): void {
  const colon = line.indexOf(':')
  if (colon === -1) {
    if (line.startsWith('! ')) unset.push(line.slice(2).trim().toLowerCase())
    return
  }
  const name = line.slice(0, colon).trim().toLowerCase()
  const value = headerText(line.slice(colon + 1).trim())
  if (!NAME.test(name) || NOT_SETTABLE.test(name) || value === undefined) return
  const before = set.get(name)
  set.set(name, before === undefined ? value : `${before}, ${value}`)
}

/** As a header carries it: UTF-8, one character a byte. */
function headerText(text: string): string | undefined {
  let bytes = ''
  for (const byte of new TextEncoder().encode(text)) {
    if ((byte < 32 && byte !== 9) || byte === 127) return undefined
    bytes += String.fromCharCode(byte)
  }
  return bytes === '' ? undefined : bytes
}

function mapOf(headers: readonly string[]): Map<string, string[]> {
  const map = new Map<string, string[]>()
  for (let index = 0; index < headers.length; index += 2) map.set(headers[index]!, [headers[index + 1]!])
  return map
}

/** Cookies are the one header whose values may not share a line. */
function listOf(map: ReadonlyMap<string, readonly string[]>): string[] {
  return [...map].flatMap(([name, values]) =>
    name === 'set-cookie' ? values.flatMap((value) => [name, value]) : [name, values.join(', ')],
  )
}
