import type { VariableBinding } from '../model/function.ts'
import { BUNDLE_LIMITS } from '../model/limits.ts'
import type { ConfigPath } from './document.ts'
import { formatPath, type Problem } from './problem.ts'

/** `vars` as bindings, sorted by name: their order in the file means nothing and must not make another version. */
export function readVariables(
  vars: Readonly<Record<string, unknown>> | undefined,
  path: ConfigPath,
): {
  readonly bindings: readonly VariableBinding[]
  readonly problems: readonly Problem[]
} {
  const problems: Problem[] = []
  const variables = Object.entries(vars ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1))
  const { bindingsCountMax, varBytesMax } = BUNDLE_LIMITS
  if (variables.length > bindingsCountMax) {
    const message = `"vars" has ${variables.length} variables, more than ${bindingsCountMax}: put several into one object`
    problems.push({ code: 'config_invalid', path, message })
  }
  const bindings = variables.map(([name, value]): VariableBinding => {
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    const sizeBytes = Buffer.byteLength(text)
    const refuse = (message: string): void => {
      problems.push({ code: 'config_invalid', path: [...path, name], message })
    }
    if (name === '') refuse('a variable in "vars" has an empty name: give it one')
    if (sizeBytes > varBytesMax) {
      refuse(
        `"${formatPath([...path, name])}" has ${sizeBytes} bytes, more than ${varBytesMax}: import it from a file instead`,
      )
    }
    return typeof value === 'string' ? { type: 'text', name, text } : { type: 'json', name, json: value }
  })
  return { bindings, problems }
}
