import type { z } from 'zod'
import type { ConfigPath } from './document.ts'
import { formatPath, showValue, type Problem } from './problem.ts'
import { suggest } from './suggestion.ts'

type Issue = z.core.$ZodIssue

/** What a file is checked against, and how its own fields are spoken of. */
export interface ShapeRules<Shape extends z.ZodType> {
  readonly schema: Shape
  /** The same for editors; its properties are what is suggested for a misspelt field. */
  readonly jsonSchema: () => Record<string, unknown>
  /** For a whole file that is no object, e.g. `{ "name": "hello", "main": "index.ts" }`. */
  readonly example: string
  /** What to give for a field of several types. */
  unionWords(path: ConfigPath): string
  /** What to do about a field that people look for here and that is somewhere else. */
  unknownWords?(key: string, path: ConfigPath): string | undefined
}

/** The value as a configuration, or all that is wrong with its shape. */
export function checkShape<Shape extends z.ZodType>(
  value: unknown,
  rules: ShapeRules<Shape>,
): { readonly config: z.output<Shape> } | { readonly problems: readonly Problem[] } {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const message = `the configuration is ${showValue(value)}: write an object, e.g. ${rules.example}`
    return { problems: [{ code: 'config_invalid', path: [], message }] }
  }
  const parsed = rules.schema.safeParse(value)
  if (parsed.success) return { config: parsed.data }
  return { problems: parsed.error.issues.flatMap((issue) => describe(issue, { base: [], value, rules })) }
}

interface Surroundings {
  readonly base: ConfigPath
  /** The whole file. */
  readonly value: unknown
  readonly rules: ShapeRules<z.ZodType>
}

function describe(issue: Issue, surroundings: Surroundings): Problem[] {
  const { base, value: root, rules } = surroundings
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
      return issue.keys.map((key) => problem(unknownField(key, path, rules), [...path, key]))
    case 'invalid_union':
      return (
        describeUnion(issue, { ...surroundings, base: path }) ?? [problem(`${is}: ${rules.unionWords(path)}`)]
      )
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
  surroundings: Surroundings,
): Problem[] | undefined {
  const fitting = issue.errors.find(
    (errors) =>
      !errors.some(
        ({ code, path }) => (code === 'invalid_type' || code === 'invalid_value') && path.length === 0,
      ),
  )
  return fitting?.flatMap((inner) => describe(inner, surroundings))
}

function unknownField(key: string, path: ConfigPath, rules: ShapeRules<z.ZodType>): string {
  const where = path.length === 0 ? '' : ` of "${formatPath(path)}"`
  const known = knownFields(path, rules)
  const meant = suggest(key, known)
  const way =
    rules.unknownWords?.(key, path) ??
    (meant !== undefined
      ? `did you mean "${meant}"?`
      : known.length <= 12
        ? `the fields are ${known.join(', ')}`
        : 'correct or remove it')
  return `${JSON.stringify(key)} is no field${where} that isola knows: ${way}`
}

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly additionalProperties?: JsonSchema | boolean
  readonly items?: JsonSchema
  readonly anyOf?: readonly JsonSchema[]
}

function knownFields(path: ConfigPath, rules: ShapeRules<z.ZodType>): readonly string[] {
  let schemas: readonly JsonSchema[] = [rules.jsonSchema()]
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
