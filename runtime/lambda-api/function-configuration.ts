import type { ContainerContent } from '../../sdk/model/function.ts'
import { LIMITS_BY_KIND } from '../../sdk/model/function-limits.ts'
import type { LambdaRecord } from '../../sdk/model/lambda.ts'
import type { Call } from './call.ts'
import type { Change } from './change-progress.ts'
import { functionArn, functionNotFound, LATEST } from './function-name.ts'
import { latestRevisionId, uuidOf, type LambdaFunction, type Target } from './lambda-function.ts'

/** As AWS answers it; only what isola has. */
export type FunctionConfiguration = Readonly<Record<string, unknown>>

const LATEST_TARGET: Target = { type: 'latest' }

/** Throws `ResourceNotFoundException` where the version is not in the registry any more. */
export async function configurationOf(
  call: Call,
  fn: LambdaFunction,
  target: Target = LATEST_TARGET,
): Promise<FunctionConfiguration> {
  const { record, lambda } = fn
  const change = call.progress.changeOf(record.name)
  if (target.type === 'latest' || target.versionId === undefined) {
    const deployedAt = record.deployment.createdAt
    return describeFunction(call, {
      name: record.name,
      ...(target.type === 'alias' ? { qualifier: target.alias } : {}),
      version: LATEST,
      content: fn.latest.content,
      lambda,
      description: lambda.description,
      lastModified: deployedAt > lambda.lastModified ? deployedAt : lambda.lastModified,
      revisionId: latestRevisionId(fn),
      ...(change && { change }),
    })
  }
  const { number, versionId } = target
  const published = lambda.versions.find((version) => String(version.number) === number)
  const version = await call.ports.registry.getVersion(record.name, versionId)
  if (published === undefined || version?.content.kind !== 'container') {
    throw functionNotFound(call, record.name, number)
  }
  return describeFunction(call, {
    name: record.name,
    qualifier: target.type === 'alias' ? target.alias : number,
    version: number,
    content: version.content,
    lambda,
    description: published.description,
    lastModified: published.createdAt,
    revisionId: uuidOf(`${record.name} ${number} ${versionId}`),
  })
}

export interface Description {
  readonly name: string
  readonly qualifier?: string
  readonly version: string
  readonly content: ContainerContent
  readonly lambda: LambdaRecord
  readonly description: string
  readonly lastModified: string
  readonly revisionId: string
  readonly change?: Change
}

export function describeFunction(
  call: Pick<Call, 'region' | 'architecture'>,
  description: Description,
): FunctionConfiguration {
  const { name, qualifier, version, content, lambda, change } = description
  // Secrets are no variables of that API: nobody is told them.
  const variables = content.bindings.flatMap((binding) => {
    if (binding.type === 'secret') return []
    return [[binding.name, binding.type === 'text' ? binding.text : JSON.stringify(binding.json)]]
  })
  return {
    FunctionName: name,
    FunctionArn: functionArn(call, name, qualifier),
    Role: lambda.role,
    Description: description.description,
    ...describeSource(content, lambda),
    Timeout: Math.round(content.settings.timeoutMs / 1_000),
    MemorySize: content.limits.memoryMib ?? LIMITS_BY_KIND.container.memoryMib,
    EphemeralStorage: { Size: content.settings.ephemeralStorageMib },
    ...(variables.length > 0 && { Environment: { Variables: Object.fromEntries(variables) } }),
    Architectures: [call.architecture],
    LastModified: awsTime(description.lastModified),
    Version: version,
    RevisionId: description.revisionId,
    TracingConfig: { Mode: 'PassThrough' },
    SnapStart: { ApplyOn: 'None', OptimizationStatus: 'Off' },
    ...describeState(change),
  }
}

function describeSource({ source }: ContainerContent, lambda: LambdaRecord): FunctionConfiguration {
  if (source.type === 'code') {
    return {
      PackageType: 'Zip',
      Runtime: lambdaRuntime(source.runtime, lambda.runtime),
      Handler: source.handler,
      CodeSize: source.archive.sizeBytes,
      CodeSha256: Buffer.from(source.archive.sha256, 'hex').toString('base64'),
    }
  }
  const { entryPoint, command, workingDirectory } = source
  const config = {
    ...(entryPoint && { EntryPoint: entryPoint }),
    ...(command && { Command: command }),
    ...(workingDirectory !== undefined && { WorkingDirectory: workingDirectory }),
  }
  return {
    PackageType: 'Image',
    CodeSize: 0,
    ...(source.imageId !== '' && { CodeSha256: source.imageId.slice('sha256:'.length) }),
    ...(Object.keys(config).length > 0 && { ImageConfigResponse: { ImageConfig: config } }),
  }
}

/** As it was asked for, while that is still what runs. */
function lambdaRuntime(runtime: 'nodejs24' | 'python3', asked: string | undefined): string {
  if (runtime === 'nodejs24') return 'nodejs24.x'
  return asked?.startsWith('python3.') ? asked : 'python3'
}

/** A change that goes on after its answer, or failed after it; else all is well. */
export function describeState(change: Change | undefined): FunctionConfiguration {
  if (change === undefined) return { State: 'Active', LastUpdateStatus: 'Successful' }
  const { type, failure } = change
  if (type === 'create') {
    return failure === undefined
      ? { State: 'Pending', StateReason: 'The function is being created.', StateReasonCode: 'Creating' }
      : { State: 'Failed', StateReason: failure, StateReasonCode: 'InternalError' }
  }
  return failure === undefined
    ? {
        State: 'Active',
        LastUpdateStatus: 'InProgress',
        LastUpdateStatusReason: 'The function is being updated.',
        LastUpdateStatusReasonCode: 'Updating',
      }
    : {
        State: 'Active',
        LastUpdateStatus: 'Failed',
        LastUpdateStatusReason: failure,
        LastUpdateStatusReasonCode: 'InternalError',
      }
}

/** `2026-01-01T00:00:00.000+0000`. */
function awsTime(iso: string): string {
  return new Date(iso).toISOString().replace('Z', '+0000')
}
