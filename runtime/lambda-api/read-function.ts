/** GetFunction, GetFunctionConfiguration, ListFunctions, DeleteFunction, GetAccountSettings, and the archive itself. */
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { POLICY_BOUNDS } from '../../sdk/model/policy.ts'
import type { FunctionRecord } from '../../sdk/model/function.ts'
import { deleteFunction as deleteFromRegistry } from '../control/delete-function.ts'
import { inTurns } from '../registry/in-turns.ts'
import { ApiError } from './api-error.ts'
import { noContent, type Call } from './call.ts'
import { reservedConcurrency } from './concurrency.ts'
import { configurationOf, describeState, type FunctionConfiguration } from './function-configuration.ts'
import { functionArn, functionNotFound, LATEST, referenceOf } from './function-name.ts'
import {
  asLambdaFunction,
  changeLambda,
  findLambdaFunction,
  lambdaOf,
  targetOf,
  type LambdaFunction,
  type Target,
} from './lambda-function.ts'
import { listPage, versionKey } from './list-page.ts'
import { numberTarget } from './publish.ts'
import { presignedUrl } from './presigned-url.ts'

export async function getFunction(call: Call): Promise<Response> {
  const pending = pendingConfiguration(call)
  if (pending !== undefined) return Response.json({ Configuration: pending })
  const { fn, target } = await findTarget(call)
  const { tags } = fn.lambda
  const reserved = reservedConcurrency(fn)
  return Response.json({
    Configuration: await configurationOf(call, fn, target),
    Code: await describeCode(call, fn, target),
    ...(Object.keys(tags).length > 0 && { Tags: tags }),
    ...(reserved !== undefined && { Concurrency: { ReservedConcurrentExecutions: reserved } }),
  })
}

export async function getFunctionConfiguration(call: Call): Promise<Response> {
  const pending = pendingConfiguration(call)
  if (pending !== undefined) return Response.json(pending)
  const { fn, target } = await findTarget(call)
  return Response.json(await configurationOf(call, fn, target))
}

export async function listFunctions(call: Call): Promise<Response> {
  const { functions } = await call.ports.registry.refresh()
  const all = call.url.searchParams.get('FunctionVersion') === 'ALL'
  const entries = Object.values(functions)
    .filter(({ kind }) => kind === 'container')
    .flatMap((record) => {
      const published = all ? lambdaOf(record).versions.map(({ number }) => number) : []
      return [undefined, ...published].map((number) => ({ record, number }))
    })
  const { items, next } = listPage(
    call,
    entries,
    ({ record, number }) => `${record.name} ${versionKey(number)}`,
  )
  const described = await inTurns(items, ({ record, number }) => describeEntry(call, record, number))
  return Response.json({
    Functions: described.filter((configuration) => configuration !== undefined),
    NextMarker: next ?? null,
  })
}

export async function deleteFunction(call: Call): Promise<Response> {
  const { name, qualifier } = referenceOf(call)
  const change = call.progress.changeOf(name)
  if (change?.type === 'create' && change.failure !== undefined && !has(call, name)) {
    call.progress.forget(name)
    return noContent()
  }
  await findLambdaFunction(call, name)
  if (qualifier !== undefined) {
    await deleteVersion(call, name, qualifier)
    return noContent()
  }
  await call.progress.run({
    functionName: name,
    arn: functionArn(call, name),
    change: { type: 'update', configuration: {} },
    work: async () => void (await deleteFromRegistry(call.ports, name)),
  })
  return noContent()
}

export async function getAccountSettings(call: Call): Promise<Response> {
  const { functions } = await call.ports.registry.refresh()
  const found = await inTurns(Object.values(functions), (record) => asLambdaFunction(call, record))
  const lambdas = found.filter((fn) => fn !== undefined)
  const concurrency = POLICY_BOUNDS.quota[1]
  return Response.json({
    AccountLimit: {
      TotalCodeSize: CONTAINER_LIMITS.imageBytesMax,
      CodeSizeUnzipped: CONTAINER_LIMITS.unpackedBytesMax,
      CodeSizeZipped: CONTAINER_LIMITS.archiveBytesMax,
      ConcurrentExecutions: concurrency,
      UnreservedConcurrentExecutions: concurrency,
    },
    AccountUsage: {
      TotalCodeSize: lambdas.reduce((sum, { latest }) => sum + archiveBytes(latest.content.source), 0),
      FunctionCount: lambdas.length,
    },
  })
}

/** Where `Code.Location` points; AWS has its archives in S3. */
export async function getArchive(call: Call): Promise<Response> {
  const { fn, target } = await findTarget(call)
  const versionId = target.type === 'latest' ? undefined : target.versionId
  const version =
    versionId === undefined ? fn.latest : await call.ports.registry.getVersion(fn.record.name, versionId)
  if (version?.content.kind !== 'container' || version.content.source.type !== 'code') {
    throw new ApiError('ResourceNotFoundException', `"${fn.record.name}" is an image: it has no archive.`)
  }
  const body = await call.ports.registry.getBlob(version.content.source.archive.sha256)
  return new Response(body as Uint8Array<ArrayBuffer>, { headers: { 'content-type': 'application/zip' } })
}

/** Throws `ResourceNotFoundException`. */
async function findTarget(call: Call): Promise<{ readonly fn: LambdaFunction; readonly target: Target }> {
  const { name, qualifier } = referenceOf(call)
  const fn = await findLambdaFunction(call, name)
  // The version that an alias is mainly for, whatever its weights.
  return { fn, target: targetOf(call, fn, { qualifier, random: 1 }) }
}

/** Of a function that is not there yet, or could not be made. */
function pendingConfiguration(call: Call): FunctionConfiguration | undefined {
  const { name } = referenceOf(call)
  const change = call.progress.changeOf(name)
  if (change?.type !== 'create') return undefined
  if (change.failure !== undefined && has(call, name)) return undefined
  return { ...change.configuration, ...describeState(change) }
}

function has(call: Call, name: string): boolean {
  return Object.hasOwn(call.ports.registry.head.functions, name)
}

async function describeEntry(
  call: Call,
  record: FunctionRecord,
  number: number | undefined,
): Promise<FunctionConfiguration | undefined> {
  const fn = await asLambdaFunction(call, record)
  return fn && (await configurationOf(call, fn, numberTarget(fn, number)))
}

async function describeCode(call: Call, fn: LambdaFunction, target: Target): Promise<object> {
  const { source } = fn.latest.content
  if (source.type === 'image') {
    return {
      RepositoryType: 'ECR',
      ImageUri: fn.lambda.imageUri ?? source.imageId,
      ResolvedImageUri: source.imageId,
    }
  }
  const qualifier = target.type === 'latest' ? undefined : target.number
  return { RepositoryType: 'S3', Location: presignedUrl(call, fn.record.name, qualifier) }
}

async function deleteVersion(call: Call, name: string, qualifier: string): Promise<void> {
  if (qualifier === LATEST) {
    throw new ApiError(
      'InvalidParameterValueException',
      '$LATEST version cannot be deleted without deleting the function.',
    )
  }
  await changeLambda(call, name, (lambda) => {
    const kept = lambda.versions.filter(({ number }) => String(number) !== qualifier)
    if (kept.length === lambda.versions.length) throw functionNotFound(call, name, qualifier)
    const alias = Object.entries(lambda.aliases).find(
      ([, { functionVersion, weights }]) =>
        functionVersion === qualifier || Object.hasOwn(weights, qualifier),
    )
    if (alias === undefined) return { ...lambda, versions: kept }
    throw new ApiError(
      'ResourceConflictException',
      `Version ${qualifier} of "${name}" is what the alias "${alias[0]}" is for: change or delete the alias first.`,
    )
  })
}

function archiveBytes(source: LambdaFunction['latest']['content']['source']): number {
  return source.type === 'code' ? source.archive.sizeBytes : 0
}
