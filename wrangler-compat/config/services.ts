import { parseFunctionName, type Binding } from '../../sdk/model/function.ts'
import type { ChosenFields } from './environment.ts'
import { formatPath, type Problem } from '../../sdk/config/problem.ts'

/** What a service binding of wrangler's may ask for beside a function. */
const UNSUPPORTED = {
  environment: 'an environment of the service, and each environment is a function of its own: name that',
  remote: 'a remote service, and functions are called on their own node',
} as const

/** `services` as bindings, in their order in the file. */
export function readServices({ fields, pathOf }: ChosenFields): {
  readonly bindings: readonly Binding[]
  readonly problems: readonly Problem[]
} {
  const problems: Problem[] = []
  const names = new Set(Object.keys(fields.vars ?? {}))
  const bindings = (fields.services ?? []).map((entry, index): Binding => {
    const path = [...pathOf('services'), index]
    const { binding: name, service: functionName } = entry
    for (const [field, what] of Object.entries(UNSUPPORTED)) {
      const value = entry[field as keyof typeof UNSUPPORTED]
      if (value === undefined || value === false || value === '') continue
      const message = `"${formatPath([...path, field])}" of binding "${name}" asks for ${what}: remove it`
      problems.push({ code: 'config_unsupported', path: [...path, field], message })
    }
    try {
      parseFunctionName(functionName)
    } catch (error) {
      problems.push({ code: 'config_invalid', path: [...path, 'service'], message: (error as Error).message })
    }
    if (names.has(name)) {
      const message = `binding "${name}" is there twice: give each of "vars" and "services" its own name`
      problems.push({ code: 'config_invalid', path: [...path, 'binding'], message })
    }
    names.add(name)
    const { entrypoint, props } = entry
    return {
      type: 'service',
      name,
      functionName,
      ...(entrypoint !== undefined && entrypoint !== '' && entrypoint !== 'default' && { entrypoint }),
      ...(props !== undefined && { props }),
    }
  })
  return { bindings, problems }
}
