import type { ModuleKind } from '../sdk/model/bundle.ts'

/**
 * Which files become modules of their own, and of what kind. As in wrangler, the first rule that matches wins, and a
 * rule ends its type: later rules of the same type (the defaults included) count only if it says `fallthrough`. A
 * file that only such an ended rule matches is an error, because silence would bundle or lose it.
 */
export const RULE_TYPES = ['ESModule', 'CommonJS', 'CompiledWasm', 'Text', 'Data'] as const
type RuleType = (typeof RULE_TYPES)[number]

export interface ModuleRule {
  readonly type: RuleType
  /** `*` and `**` match any characters, `/` included; `**` before a `/` also matches no directory at all. */
  readonly globs: readonly string[]
  /** Let later rules of the same type count. @default false */
  readonly fallthrough?: boolean
}

export interface RuleSet {
  readonly active: readonly CompiledRule[]
  /** Ended by an earlier rule of the same type. */
  readonly ended: readonly CompiledRule[]
}

interface CompiledRule {
  readonly rule: ModuleRule
  readonly kind: ModuleKind
  readonly pattern: RegExp
}

export type RuleMatch =
  | { readonly type: 'module'; readonly kind: ModuleKind }
  | { readonly type: 'ended'; readonly rule: ModuleRule }

const KIND_BY_RULE_TYPE = {
  ESModule: 'esm',
  CommonJS: 'cjs',
  CompiledWasm: 'wasm',
  Text: 'text',
  Data: 'data',
} as const satisfies Record<RuleType, ModuleKind>

const DEFAULT_RULES: readonly ModuleRule[] = [
  { type: 'Text', globs: ['**/*.txt', '**/*.html', '**/*.sql'] },
  { type: 'Data', globs: ['**/*.bin'] },
  { type: 'CompiledWasm', globs: ['**/*.wasm', '**/*.wasm?module'] },
]

/** Without a bundler somebody has to say what a `.js` file is. A rule of the project's own replaces these unheard. */
const JAVASCRIPT_RULES: readonly ModuleRule[] = [
  { type: 'ESModule', globs: ['**/*.js', '**/*.mjs'] },
  { type: 'CommonJS', globs: ['**/*.cjs'] },
]

export function compileRules(
  rules: readonly ModuleRule[],
  options: { readonly javascript: boolean },
): RuleSet {
  const active: CompiledRule[] = []
  const ended: CompiledRule[] = []
  const endedTypes = new Set<RuleType>()
  for (const rule of [...rules, ...DEFAULT_RULES]) {
    ;(endedTypes.has(rule.type) ? ended : active).push(compileRule(rule))
    if (rule.fallthrough !== true) endedTypes.add(rule.type)
  }
  if (options.javascript) {
    for (const rule of JAVASCRIPT_RULES)
      if (!rules.some(({ type }) => type === rule.type)) active.push(compileRule(rule))
  }
  return { active, ended }
}

/** `path` is `/`-separated and relative; a `?module` after a wasm file's name may be on it. */
export function matchRule(rules: RuleSet, path: string): RuleMatch | undefined {
  const found = rules.active.find(({ pattern }) => pattern.test(path))
  if (found !== undefined) return { type: 'module', kind: found.kind }
  const ended = rules.ended.find(({ pattern }) => pattern.test(path))
  return ended === undefined ? undefined : { type: 'ended', rule: ended.rule }
}

export function describeEndedRule(path: string, rule: ModuleRule): string {
  return (
    `${path} matches the ${rule.type} rule for ${rule.globs.join(', ')}, which an earlier ${rule.type} rule has ended: ` +
    `add "fallthrough": true to the earlier rule, or the pattern to its globs`
  )
}

/**
 * A regular expression, in the syntax that JavaScript and Go share, for import specifiers that could end in a file
 * that a rule names: a cheap test before the costly one.
 */
export function specifierFilter(rules: RuleSet): RegExp {
  const tails = [...rules.active, ...rules.ended].flatMap(({ rule }) =>
    rule.globs.map((glob) => globSource(glob.slice(glob.lastIndexOf('/') + 1))),
  )
  return new RegExp(`(?:^|/)(?:${[...new Set(tails)].join('|')})$`)
}

function compileRule(rule: ModuleRule): CompiledRule {
  const sources = rule.globs.map((glob) => globSource(glob.replace(/^\.?\//, '')))
  return { rule, kind: KIND_BY_RULE_TYPE[rule.type], pattern: new RegExp(`^(?:${sources.join('|')})$`) }
}

function globSource(glob: string): string {
  return glob
    .replace(/[.+^${}()|[\]\\?]/g, '\\$&')
    .replace(/\*\*\//g, '\u0000')
    .replace(/\*+/g, '.*')
    .replaceAll('\u0000', '(?:.*/)?')
}
