import type { ConfigPath } from './document.ts'
import { formatPath, type Problem } from './problem.ts'
import { suggest } from './suggestion.ts'

/** The fields of one environment of a configuration. */
export interface ChosenFields<Fields extends object> {
  readonly fields: Fields
  /** Where the value of a field stands, or would stand. */
  pathOf(field: keyof Fields & string): ConfigPath
  readonly warnings: readonly { readonly path: ConfigPath; readonly message: string }[]
}

export interface EnvironmentRules {
  readonly inheritable: readonly string[]
  /** Named in a warning where the top level has them and the environment has not. */
  readonly nonInheritable: readonly string[]
  /** Only at the top level, for every environment. */
  readonly topLevel: readonly string[]
  /** One of them in the environment stands against all of them at the top. */
  readonly exclusive: readonly string[]
}

/**
 * By wrangler's rules: some fields are inherited from the top level, bindings and their like never are, and a few exist
 * only at the top. The name gets the environment's appended, unless the environment has one of its own.
 */
export function chooseEnvironment<Fields extends object>(
  config: Fields & { readonly env?: Readonly<Record<string, object>> | undefined },
  environment: string | undefined,
  rules: EnvironmentRules,
): ChosenFields<Fields> | Problem {
  if (environment === undefined || environment === '') {
    return { fields: config, pathOf: (field) => [field], warnings: [] }
  }
  const environments = config.env ?? {}
  if (!Object.hasOwn(environments, environment)) {
    return unknownEnvironment(environment, Object.keys(environments))
  }
  const top = config as Readonly<Record<string, unknown>>
  const chosen = environments[environment] as Readonly<Record<string, unknown>>
  const path = ['env', environment]
  const fields: Record<string, unknown> = {}
  const warnings: { path: ConfigPath; message: string }[] = []
  for (const field of rules.inheritable) fields[field] = chosen[field] ?? top[field]
  for (const field of rules.topLevel) fields[field] = top[field]
  for (const field of rules.nonInheritable) {
    fields[field] = chosen[field]
    const lost = lostKeys(top[field], chosen[field])
    if (lost === undefined) continue
    const names = lost.map((key) => `"${formatPath([field, ...key])}"`).join(', ')
    const message = `${names} at the top level ${lost.length === 1 ? 'is' : 'are'} not inherited by environment "${environment}": repeat it under "${formatPath(path)}" if it is needed there`
    warnings.push({ path: [field], message })
  }
  if (rules.exclusive.some((field) => Object.hasOwn(chosen, field))) {
    for (const field of rules.exclusive) fields[field] = chosen[field]
  }
  if (chosen.name === undefined && typeof top.name === 'string') fields.name = `${top.name}-${environment}`
  return {
    fields: fields as Fields,
    pathOf: (field) =>
      Object.hasOwn(chosen, field) || (top[field] === undefined && !rules.topLevel.includes(field))
        ? [...path, field]
        : [field],
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
