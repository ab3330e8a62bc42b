import type { ConfigPath } from './document.ts'
import type { ChosenFields } from './environment.ts'
import type { Problem } from './problem.ts'
import {
  FIELDS_BY_SOURCE,
  SOURCE_FIELDS,
  type ConfigField,
  type ConfigFields,
  type SourceField,
} from './schema.ts'

const WHAT_IS: Readonly<Record<SourceField, string>> = {
  main: 'a worker function ("main")',
  handler: 'a handler directory ("handler")',
  dockerfile: 'a Dockerfile ("dockerfile")',
  image: 'an image ("image")',
}

/**
 * Which field says what runs, and so of what kind the function is. A field that has no place beside it is an error; but
 * one that an environment inherits is only said to have no effect, because the environment may run something else.
 */
export function readSourceField({ fields, pathOf }: ChosenFields<ConfigFields>): {
  readonly sourceField: SourceField | undefined
  readonly problems: readonly Problem[]
  readonly warnings: readonly { readonly path: ConfigPath; readonly message: string }[]
} {
  const problems: Problem[] = []
  const warnings: { path: ConfigPath; message: string }[] = []
  const given = SOURCE_FIELDS.filter((field) => fields[field] !== undefined)
  const [named, other] = given
  // Static files alone are a worker function without code.
  const sourceField = named ?? (fields.assets === undefined ? undefined : 'main')
  if (sourceField === undefined) {
    const message =
      'nothing says what runs: add "main" (a worker function), "assets" (static files), or "handler" and "runtime", "dockerfile" or "image" (a container function)'
    return { sourceField, problems: [{ code: 'config_invalid', path: [], message }], warnings }
  }
  if (other !== undefined) {
    const names = given.map((field) => `"${field}"`).join(' and ')
    const message = `${names} are set, and only one can say what runs: keep that one`
    problems.push({ code: 'config_invalid', path: pathOf(other), message })
    return { sourceField: undefined, problems, warnings }
  }
  for (const field of Object.keys(fields) as ConfigField[]) {
    if (fields[field] === undefined || field === sourceField) continue
    if (FIELDS_BY_SOURCE[sourceField].includes(field)) continue
    const path = pathOf(field)
    const isInherited = pathOf(sourceField)[0] === 'env' && path[0] !== 'env'
    if (isInherited) {
      warnings.push({ path, message: `"${field}" has no effect on ${WHAT_IS[sourceField]}` })
    } else if (isSaid(field)) {
      problems.push({ code: 'config_invalid', path, message: misplaced(field, sourceField) })
    }
  }
  return { sourceField, problems, warnings }
}

/** `$schema` and `env` are about the file, not about a function. */
function isSaid(field: string): boolean {
  return field !== '$schema' && field !== 'env'
}

function misplaced(field: ConfigField, sourceField: SourceField): string {
  const homes = SOURCE_FIELDS.filter((source) => FIELDS_BY_SOURCE[source].includes(field))
  const home = homes.map((source) => WHAT_IS[source].replace(/^an? /, '')).join(', ')
  return `"${field}" has no meaning for ${WHAT_IS[sourceField]}: remove it; it belongs to ${home}`
}
