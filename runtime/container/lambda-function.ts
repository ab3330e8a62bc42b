import type { ContainerVersion } from '../../sdk/model/function.ts'
import type { StartOptions } from '../pool/driver.ts'
import type { LambdaEnvironment, LambdaFunction } from '../lambda/wire.ts'
import type { ContainerParts } from './parts.ts'

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
  readonly parts: Pick<ContainerParts, 'startTimeoutMs' | 'openSecret'>
}): LambdaFunction {
  const { settings } = version.content
  return {
    functionName: version.functionName,
    versionId: version.id,
    handler,
    environment: environmentOf(version, parts),
    memoryMib: limits.memoryMib,
    timeoutMs: settings.timeoutMs,
    initTimeoutMs: parts.startTimeoutMs,
    responseStreaming: settings.responseStreaming,
  }
}

/** Of the function alone, with its secrets: to be kept in memory only. */
export function environmentOf(
  { functionName, content }: ContainerVersion,
  { openSecret }: Pick<ContainerParts, 'openSecret'>,
): Record<string, string> {
  return Object.fromEntries(
    content.bindings.map((binding) => {
      const { name } = binding
      if (binding.type === 'text') return [name, binding.text]
      if (binding.type === 'json') return [name, JSON.stringify(binding.json)]
      if (openSecret === undefined) throw new Error(`secret "${name}" cannot be opened: there is no key here`)
      return [name, openSecret({ functionName, name, sealed: binding.sealed })]
    }),
  )
}

/** As it may be written to disk. */
export function withoutSecrets(
  environment: LambdaEnvironment,
  { content }: ContainerVersion,
): LambdaEnvironment {
  if (environment.function === undefined) return environment
  const kept = { ...environment.function.environment }
  for (const { type, name } of content.bindings) if (type === 'secret') delete kept[name]
  return { ...environment, function: { ...environment.function, environment: kept } }
}

/** As it was before it was written. */
export function withSecrets(
  environment: LambdaEnvironment,
  version: ContainerVersion,
  parts: Pick<ContainerParts, 'openSecret'>,
): LambdaEnvironment {
  if (environment.function === undefined || !version.content.bindings.some(({ type }) => type === 'secret')) {
    return environment
  }
  return { ...environment, function: { ...environment.function, environment: environmentOf(version, parts) } }
}
