import type { ContainerVersion, VariableBinding } from '../../sdk/model/function.ts'
import type { StartOptions } from '../pool/driver.ts'
import type { LambdaFunction } from '../lambda/wire.ts'

/** A version as the Lambda process knows it. */
export function lambdaFunctionOf({
  version,
  limits,
  handler,
  parts,
}: {
  readonly version: ContainerVersion
  readonly limits: StartOptions
  readonly handler: string
  readonly parts: { readonly startTimeoutMs: number }
}): LambdaFunction {
  const { settings, bindings } = version.content
  return {
    functionName: version.functionName,
    versionId: version.id,
    handler,
    environment: environmentOf(bindings),
    memoryMib: limits.memoryMib,
    timeoutMs: settings.timeoutMs,
    initTimeoutMs: parts.startTimeoutMs,
    responseStreaming: settings.responseStreaming,
  }
}

/** Of the function alone. */
export function environmentOf(bindings: readonly VariableBinding[]): Record<string, string> {
  return Object.fromEntries(
    bindings.flatMap((binding) => {
      if (binding.type === 'text') return [[binding.name, binding.text]]
      return binding.type === 'json' ? [[binding.name, JSON.stringify(binding.json)]] : []
    }),
  )
}
