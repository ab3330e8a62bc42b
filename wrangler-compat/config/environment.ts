import type { ConfigPath } from '../../sdk/config/document.ts'
import { formatPath, type Problem } from '../../sdk/config/problem.ts'
import {
  INHERITABLE_FIELDS,
  NON_INHERITABLE_FIELDS,
  TOP_LEVEL_FIELDS,
  type Config,
  type ConfigFields,
} from './schema.ts'
import { suggest } from '../../sdk/config/suggestion.ts'

export interface ChosenFields {
  readonly fields: ConfigFields
  /** Where the value of a field stands, or would stand. */
  pathOf(field: keyof ConfigFields): ConfigPath
  readonly warnings: readonly { readonly path: ConfigPath; readonly message: string }[]
}

/**
 * The fields of one environment, by wrangler's rules: some are inherited from the top level, bindings and their like
 * never are (a warning names those that are lost so), and a few exist only at the top.
 */
export function chooseEnvironment(config: Config, environment: string | undefined): ChosenFields | Problem {
  if (environment === undefined || environment === '') {
    return { fields: config, pathOf: (field) => [field], warnings: [] }
  }
  const environments = Object.keys(config.env ?? {})
  const chosen =
    config.env !== undefined && Object.hasOwn(config.env, environment) ? config.env[environment] : undefined
  if (chosen === undefined) return unknownEnvironment(environment, environments)

  const path = ['env', environment]
  const fields: Record<string, unknown> = {}
  const own = new Set<string>(Object.keys(chosen))
  const warnings: { path: ConfigPath; message: string }[] = []
  for (const field of INHERITABLE_FIELDS) fields[field] = chosen[field] ?? config[field]
  for (const field of TOP_LEVEL_FIELDS) fields[field] = config[field]
  for (const field of NON_INHERITABLE_FIELDS) {
    fields[field] = chosen[field]
    const lost = lostKeys(config[field], chosen[field])
    if (lost === undefined) continue
    const names = lost.map((key) => `"${formatPath([field, ...key])}"`).join(', ')
    const message = `${names} at the top level ${lost.length === 1 ? 'is' : 'are'} not inherited by environment "${environment}": repeat it under "${formatPath(path)}" if it is needed there`
    warnings.push({ path: [field], message })
  }
  // One of the two in the environment stands against either at the top.
  if (own.has('route') || own.has('routes')) {
    fields.route = chosen.route
    fields.routes = chosen.routes
  }
  if (chosen.name === undefined && config.name !== undefined) fields.name = `${config.name}-${environment}`
  return {
    fields,
    pathOf: (field) =>
      own.has(field) || (config[field] === undefined && !isTopLevel(field)) ? [...path, field] : [field],
    warnings,
  }
}

function unknownEnvironment(environment: string, environments: readonly string[]): Problem {
  const meant = suggest(environment, environments)
  const way =
    environments.length === 0
      ? 'the file has no "env": add one, or leave the environment out'
      : `the file has ${environments.map((name) => JSON.stringify(name)).join(', ')}${meant === undefined ? '' : `; did you mean "${meant}"?`}`
  return {
    code: 'config_invalid',
    path: ['env'],
    message: `there is no environment ${JSON.stringify(environment)}: ${way}`,
  }
}

/** Keys that the top level has and the environment lacks: the field itself, or single variables. */
function lostKeys(top: unknown, own: unknown): readonly (readonly string[])[] | undefined {
  if (top === undefined || isEmptyContainer(top)) return undefined
  if (own === undefined) return [[]]
  if (Array.isArray(top) || typeof top !== 'object' || typeof own !== 'object' || own === null)
    return undefined
  const lost = Object.keys(top ?? {}).filter((key) => !Object.hasOwn(own, key))
  return lost.length === 0 ? undefined : lost.map((key) => [key])
}

function isEmptyContainer(value: unknown): boolean {
  return typeof value === 'object' && Object.keys(value ?? {}).length === 0
}

function isTopLevel(field: string): boolean {
  return (TOP_LEVEL_FIELDS as readonly string[]).includes(field)
}
