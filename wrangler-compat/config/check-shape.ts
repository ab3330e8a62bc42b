import type { z } from 'zod'
import type { ConfigPath } from './document.ts'
import { formatPath, showValue, type Problem } from './problem.ts'
import { configJsonSchema, configSchema, type Config } from './schema.ts'
import { suggest } from './suggestion.ts'

type Issue = z.core.$ZodIssue

/** The value as a configuration, or all that is wrong with its shape. */
export function checkShape(
  value: unknown,
): { readonly config: Config } | { readonly problems: readonly Problem[] } {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const message = `the configuration is ${showValue(value)}: write an object, e.g. { "name": "hello", "main": "index.ts" }`
    return { problems: [{ code: 'config_invalid', path: [], message }] }
  }
  const parsed = configSchema.safeParse(value)
  if (parsed.success) return { config: parsed.data }
  return { problems: parsed.error.issues.flatMap((issue) => describe(issue, [], value)) }
}

function describe(issue: Issue, base: ConfigPath, root: unknown): Problem[] {
  const path: ConfigPath = [
    ...base,
    ...issue.path.map((key) => (typeof key === 'symbol' ? String(key) : key)),
  ]
  const problem = (message: string, at = path): Problem => ({ code: 'config_invalid', path: at, message })
  const value = valueAt(root, path)
  const field = `"${formatPath(path)}"`
  const is = value === undefined ? `${field} is missing` : `${field} is ${showValue(value)}`
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => problem(unknownField(key, path), [...path, key]))
    case 'invalid_union':
      return describeUnion(issue, path, root) ?? [problem(`${is}: ${expectation(path)}`)]
    case 'invalid_type':
      return [problem(`${is}: give ${article(issue.expected)}`)]
    case 'invalid_value':
      return [problem(`${is}: use one of ${issue.values.map((option) => JSON.stringify(option)).join(', ')}`)]
    case 'too_small':
      return [problem(`${is}: give ${sizeWords(issue.origin, 'at least', issue.minimum)}`)]
    case 'too_big':
      return [problem(`${is}: give ${sizeWords(issue.origin, 'at most', issue.maximum)}`)]
    default:
      return [problem(`${is}, which is not usable: ${issue.message}`)]
  }
}

/** The branch whose type fits at all says best what is wrong; none where no branch's does. */
function describeUnion(
  issue: z.core.$ZodIssueInvalidUnion,
  path: ConfigPath,
  root: unknown,
): Problem[] | undefined {
  const fitting = issue.errors.find(
    (errors) => !errors.some(({ code, path }) => code === 'invalid_type' && path.length === 0),
  )
  return fitting?.flatMap((inner) => describe(inner, path, root))
}

function expectation(path: ConfigPath): string {
  if (path.includes('watch_dir')) return 'give a string or an array of strings'
  return 'give a string or an object with "pattern"'
}

function unknownField(key: string, path: ConfigPath): string {
  const where = path.length === 0 ? '' : ` of "${formatPath(path)}"`
  const known = knownFields(path)
  const meant = suggest(key, known)
  const way =
    meant !== undefined
      ? `did you mean "${meant}"?`
      : known.length <= 12
        ? `the fields are ${known.join(', ')}`
        : 'correct or remove it'
  return `${JSON.stringify(key)} is no field${where} that isola knows: ${way}`
}

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly additionalProperties?: JsonSchema | boolean
  readonly items?: JsonSchema
  readonly anyOf?: readonly JsonSchema[]
}

function knownFields(path: ConfigPath): readonly string[] {
  let schemas: readonly JsonSchema[] = [configJsonSchema()]
  for (const key of path) {
    schemas = schemas.flatMap((schema) => {
      const child =
        typeof key === 'number'
          ? schema.items
          : schema.properties !== undefined && Object.hasOwn(schema.properties, key)
            ? schema.properties[key]
            : schema.additionalProperties
      return typeof child !== 'object' ? [] : [child, ...(child.anyOf ?? [])]
    })
  }
  return schemas.flatMap((schema) => Object.keys(schema.properties ?? {}))
}

function valueAt(root: unknown, path: ConfigPath): unknown {
  let value = root
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined
    value = (value as Record<string | number, unknown>)[key]
  }
  return value
}

function article(expected: string): string {
  const word = expected === 'record' ? 'object' : expected === 'int' ? 'whole number' : expected
  return `${/^[aeiou]/.test(word) ? 'an' : 'a'} ${word}`
}

function sizeWords(origin: string, relation: string, bound: number | bigint): string {
  if (origin === 'string') return `${relation} ${bound} character${bound === 1 ? '' : 's'}`
  if (origin === 'array') return `${relation} ${bound} element${bound === 1 ? '' : 's'}`
  return `a number of ${relation} ${bound}`
}
