/** CreateFunction, UpdateFunctionCode, UpdateFunctionConfiguration: each is one deploy, and what AWS keeps beside it. */
import { randomUUID } from 'node:crypto'
import {
  DEFAULT_CONTAINER_SETTINGS,
  parseFunctionName,
  type ContainerContent,
} from '../../sdk/model/function.ts'
import type { LambdaRecord } from '../../sdk/model/lambda.ts'
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { checkVersion } from '../control/check-version.ts'
import { deploy } from '../control/deploy.ts'
import { ApiError } from './api-error.ts'
import type { Call } from './call.ts'
import {
  createFunctionFields,
  readFields,
  updateCodeFields,
  updateConfigurationFields,
  type ConfigurationFields,
  type CreateFunctionFields,
} from './fields.ts'
import { configurationOf, describeFunction, type FunctionConfiguration } from './function-configuration.ts'
import { functionArn, LATEST, parseFunctionReference, unqualifiedName } from './function-name.ts'
import {
  changeLambda,
  checkRevision,
  findLambdaFunction,
  latestRevisionId,
  touched,
  type LambdaFunction,
} from './lambda-function.ts'
import { publish } from './publish.ts'
import { redeployContent } from './redeploy-content.ts'
import {
  bringCode,
  changedContent,
  checkArchitecture,
  imageSource,
  readCode,
  readRuntime,
  versionRequest,
  wantsEgress,
  withImage,
  type CodeChange,
} from './version-content.ts'

export async function createFunction(call: Call): Promise<Response> {
  const fields = readFields(call.body, createFunctionFields)
  const { name, qualifier } = parseFunctionReference(fields.FunctionName)
  checkNewName(name, qualifier)
  await checkFree(call, name)
  checkArchitecture(fields.Architectures, call.architecture)
  const code = await readCode(fields.Code)
  if (code === undefined) {
    throw refusal('Please provide a source for your function code: Code.ZipFile, or Code.ImageUri.')
  }
  const content = newContent(fields, code)
  const lambda = newLambda(fields, code)
  const configuration = describeFunction(call, {
    name,
    version: LATEST,
    content,
    lambda,
    description: lambda.description,
    lastModified: lambda.lastModified,
    revisionId: lambda.revisionId,
  })
  let published: string | undefined
  const outcome = await call.progress.run({
    functionName: name,
    arn: functionArn(call, name),
    change: { type: 'create', configuration },
    async work() {
      const reference = await bringCode(call.ports, code)
      await checkFree(call, name)
      await deploy(call.ports, name, {
        ...versionRequest(withImage(content, reference), lambda.description),
        // Nobody asked for an address yet: CreateFunctionUrlConfig gives one.
        routes: [],
        baseDomainHost: false,
        previewHosts: false,
      })
      await changeLambda(call, name, () => lambda)
      if (fields.Publish === true) published = await publish(call, name, { description: lambda.description })
    },
  })
  return await answer(call, { name, published, outcome, configuration, status: 201 })
}

export async function updateFunctionCode(call: Call): Promise<Response> {
  const name = unqualifiedName(call)
  const fields = readFields(call.body, updateCodeFields)
  const fn = await findLambdaFunction(call, name)
  checkRevision(fields.RevisionId, latestRevisionId(fn))
  checkArchitecture(fields.Architectures, call.architecture)
  const code = await readCode(fields)
  if (code === undefined)
    throw refusal('Please provide a source for your function code: ZipFile, or ImageUri.')
  const content = changedContent(fn.latest.content, {}, code)
  if (fields.DryRun === true) {
    const configuration = await configurationOf(call, fn)
    return Response.json({ ...configuration, ...describeCode(call, fn, content) })
  }
  return await redeploy(call, fn, { content, code, fields: {}, publishes: fields.Publish === true })
}

export async function updateFunctionConfiguration(call: Call): Promise<Response> {
  const name = unqualifiedName(call)
  const fields = readFields(call.body, updateConfigurationFields)
  const fn = await findLambdaFunction(call, name)
  checkRevision(fields.RevisionId, latestRevisionId(fn))
  const content = changedContent(fn.latest.content, fields)
  return await redeploy(call, fn, { content, fields, publishes: false })
}

async function redeploy(
  call: Call,
  fn: LambdaFunction,
  options: {
    readonly content: ContainerContent
    readonly code?: CodeChange
    readonly fields: ConfigurationFields
    readonly publishes: boolean
  },
): Promise<Response> {
  const { content, code, fields, publishes } = options
  const { name } = fn.record
  checkVersion(versionRequest(content, ''))
  const changes = changedLambda(fields, code)
  const configuration: FunctionConfiguration = describeFunction(call, {
    name,
    version: LATEST,
    content,
    lambda: { ...fn.lambda, ...changes },
    description: fields.Description ?? fn.lambda.description,
    lastModified: new Date().toISOString(),
    revisionId: latestRevisionId(fn),
    change: { type: 'update', configuration: {} },
  })
  let published: string | undefined
  const outcome = await call.progress.run({
    functionName: name,
    arn: functionArn(call, name),
    change: { type: 'update', configuration },
    async work() {
      const reference = code && (await bringCode(call.ports, code))
      const next = reference !== undefined && code?.type === 'image' ? withImage(content, reference) : content
      // What is no part of a version needs no deploy.
      if (next !== fn.latest.content && JSON.stringify(next) !== JSON.stringify(fn.latest.content)) {
        await redeployContent(call, fn, next)
      }
      await changeLambda(call, name, (lambda) => touched({ ...lambda, ...changes }))
      if (publishes) published = await publish(call, name, {})
    },
  })
  return await answer(call, { name, published, outcome, configuration, status: 200 })
}

async function answer(
  call: Call,
  change: {
    readonly name: string
    readonly published: string | undefined
    readonly outcome: 'done' | 'pending'
    readonly configuration: FunctionConfiguration
    readonly status: number
  },
): Promise<Response> {
  const { name, published, outcome, configuration, status } = change
  if (outcome === 'pending') {
    const state =
      status === 201
        ? { State: 'Pending', StateReason: 'The function is being created.', StateReasonCode: 'Creating' }
        : {}
    return Response.json({ ...configuration, LastUpdateStatus: 'InProgress', ...state }, { status })
  }
  const fn = await findLambdaFunction(call, name)
  const version = fn.lambda.versions.find(({ number }) => String(number) === published)
  const body = await configurationOf(
    call,
    fn,
    version && { type: 'version', number: String(version.number), versionId: version.versionId },
  )
  return Response.json(body, { status })
}

function newContent(fields: CreateFunctionFields, code: CodeChange): ContainerContent {
  const { PackageType, Runtime, Handler, MemorySize, ImageConfig } = fields
  const isImage = code.type === 'image'
  if (PackageType !== undefined && (PackageType === 'Image') !== isImage) {
    throw refusal(
      `PackageType is ${PackageType}, and Code has ${isImage ? 'an ImageUri' : 'a ZipFile'}: make them agree.`,
    )
  }
  if (!isImage && (Runtime === undefined || Handler === undefined)) {
    throw refusal(
      'Runtime and Handler are mandatory parameters for functions created with deployment packages.',
    )
  }
  const source: ContainerContent['source'] = isImage
    ? imageSource('', ImageConfig ?? {})
    : {
        type: 'code',
        runtime: readRuntime(Runtime ?? ''),
        handler: Handler ?? '',
        archive: { sha256: code.sha256, sizeBytes: code.bytes.byteLength },
      }
  const { ImageConfig: _imageConfig, ...others } = fields
  const content = changedContent(
    {
      kind: 'container',
      protocol: 'lambda',
      source,
      bindings: [],
      limits: {},
      settings: {
        ...DEFAULT_CONTAINER_SETTINGS,
        timeoutMs: DEFAULT_TIMEOUT_MS,
        ephemeralStorageMib: LAMBDA_API_LIMITS.ephemeralStorageMibMin,
        egress: wantsEgress(fields.Tags ?? {}),
      },
    },
    { ...others, MemorySize: MemorySize ?? LAMBDA_API_LIMITS.memoryMibMin },
  )
  checkVersion(versionRequest(content, ''))
  return content
}

/** AWS's. */
const DEFAULT_TIMEOUT_MS = 3_000

function newLambda(fields: CreateFunctionFields, code: CodeChange): LambdaRecord {
  return {
    role: '',
    description: '',
    tags: fields.Tags ?? {},
    revisionId: randomUUID(),
    lastModified: new Date().toISOString(),
    versions: [],
    nextVersion: 1,
    aliases: {},
    ...changedLambda(fields, code),
  }
}

function changedLambda(fields: ConfigurationFields, code?: CodeChange): Partial<LambdaRecord> {
  const { Role, Description, Runtime } = fields
  return {
    ...(Role !== undefined && { role: Role }),
    ...(Description !== undefined && { description: Description }),
    ...(Runtime !== undefined && { runtime: Runtime }),
    ...(code?.type === 'image' && { imageUri: code.reference }),
  }
}

/** What a dry run says of the code that it was given. */
function describeCode(call: Call, fn: LambdaFunction, content: ContainerContent): FunctionConfiguration {
  const { name } = fn.record
  const { CodeSize, CodeSha256 } = describeFunction(call, {
    name,
    version: LATEST,
    content,
    lambda: fn.lambda,
    description: '',
    lastModified: fn.lambda.lastModified,
    revisionId: '',
  })
  return { CodeSize, CodeSha256 }
}

function checkNewName(name: string, qualifier: string | undefined): void {
  if (qualifier !== undefined && qualifier !== LATEST) {
    throw refusal(`FunctionName has the qualifier "${qualifier}": a new function has no versions yet.`)
  }
  try {
    parseFunctionName(name)
  } catch (error) {
    throw new ApiError(
      'ValidationException',
      `1 validation error detected: Value '${name}' at 'functionName' failed to satisfy constraint: isola's function names become host names: ${(error as Error).message}`,
      { cause: error },
    )
  }
}

async function checkFree(call: Call, name: string): Promise<void> {
  const { functions } = await call.ports.registry.refresh()
  if (!Object.hasOwn(functions, name)) return
  throw new ApiError('ResourceConflictException', `Function already exist: ${name}`)
}

function refusal(message: string): ApiError {
  return new ApiError('InvalidParameterValueException', message)
}
