/** From the fields of CreateFunction and UpdateFunction… to what isola deploys. */
import { createHash } from 'node:crypto'
import type { ContainerVersionRequest } from '../../sdk/model/control.ts'
import type {
  VariableBinding,
  EnvironmentBinding,
  ContainerContent,
  ContainerRuntime,
  ContainerSource,
} from '../../sdk/model/function.ts'
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { ApiError } from './api-error.ts'
import { checkArchive } from './archive-check.ts'
import type { CodeFields, ConfigurationFields } from './fields.ts'
import type { LambdaApiPorts } from './ports.ts'

/** What a request says of the code: its bytes, or the name of an image. */
export type CodeChange =
  | { readonly type: 'archive'; readonly bytes: Uint8Array; readonly sha256: string }
  | { readonly type: 'image'; readonly reference: string }

type ImageSource = Extract<ContainerSource, { type: 'image' }>

/** Throws `InvalidParameterValueException`, also for an archive that is none. */
export async function readCode({ ZipFile, ImageUri }: CodeFields): Promise<CodeChange | undefined> {
  if (ZipFile !== undefined && ImageUri !== undefined) {
    throw refusal('Please do not provide other FunctionCode parameters when providing an ImageUri.')
  }
  if (ImageUri !== undefined) {
    if (!/^[\w.:/@-]{1,1024}$/.test(ImageUri)) {
      throw refusal(`Source image ${ImageUri.slice(0, 200)} is not valid. Provide a valid source image.`)
    }
    return { type: 'image', reference: ImageUri }
  }
  if (ZipFile === undefined) return undefined
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(ZipFile)) {
    throw new ApiError('SerializationException', 'Code.ZipFile is not base64: send the archive encoded so.')
  }
  const bytes = Buffer.from(ZipFile, 'base64')
  if (bytes.byteLength === 0) throw refusal('Uploaded file must be a non-empty zip')
  await checkArchive(bytes)
  return { type: 'archive', bytes, sha256: createHash('sha256').update(bytes).digest('hex') }
}

/** Stores the archive, or has the image brought here. Takes as long as that does. */
export async function bringCode(ports: LambdaApiPorts, code: CodeChange): Promise<string> {
  if (code.type === 'image') return (await ports.resolveImage(code.reference)).imageId
  await ports.registry.putBlob(code.sha256, code.bytes)
  return code.sha256
}

/** `before` with what the fields change. Code that is an image gets its id by `withImage`. Throws `InvalidParameterValueException`. */
export function changedContent(
  before: ContainerContent,
  fields: ConfigurationFields,
  code?: CodeChange,
): ContainerContent {
  const { Timeout, MemorySize, EphemeralStorage, Environment } = fields
  return {
    ...before,
    source: changedSource(before.source, fields, code),
    bindings:
      Environment === undefined
        ? before.bindings
        : withSecretsOf(before, readEnvironment(Environment.Variables ?? {})),
    limits: { ...before.limits, ...(MemorySize !== undefined && { memoryMib: MemorySize }) },
    settings: {
      ...before.settings,
      ...(Timeout !== undefined && { timeoutMs: Timeout * 1_000 }),
      ...(EphemeralStorage && { ephemeralStorageMib: EphemeralStorage.Size }),
    },
  }
}

/** A secret stays until it is deleted, or a variable takes its name. */
function withSecretsOf(
  { bindings }: ContainerContent,
  variables: readonly VariableBinding[],
): readonly EnvironmentBinding[] {
  const names = new Set(variables.map(({ name }) => name))
  return [...variables, ...bindings.filter(({ type, name }) => type === 'secret' && !names.has(name))]
}

/** The image, once it is there. */
export function withImage(content: ContainerContent, imageId: string): ContainerContent {
  return content.source.type === 'image' ? { ...content, source: { ...content.source, imageId } } : content
}

export function versionRequest(content: ContainerContent, message: string): ContainerVersionRequest {
  const { kind, protocol, source, bindings, limits, settings } = content
  return { kind, protocol, source, bindings, limits, settings, message }
}

/** The one tag that means something; no field of AWS's says what network a function has. */
export const EGRESS_TAG = 'isola:egress'

export function wantsEgress(tags: Readonly<Record<string, string>>): boolean {
  return Object.hasOwn(tags, EGRESS_TAG) && tags[EGRESS_TAG] === 'true'
}

function changedSource(
  before: ContainerSource,
  fields: ConfigurationFields,
  code: CodeChange | undefined,
): ContainerSource {
  const { Runtime, Handler, ImageConfig } = fields
  if (before.type === 'image') {
    if (code?.type === 'archive') {
      throw refusal('Please provide ImageUri when updating a function with packageType Image.')
    }
    if (Runtime !== undefined || Handler !== undefined) {
      throw refusal(
        'Runtime and Handler are not applicable to functions of package type Image: set ImageConfig.',
      )
    }
    return ImageConfig === undefined ? before : imageSource(before.imageId, ImageConfig)
  }
  if (code?.type === 'image') {
    throw refusal('Please do not provide ImageUri when updating a function with packageType Zip.')
  }
  if (ImageConfig !== undefined && Object.keys(ImageConfig).length > 0) {
    throw refusal('ImageConfig is not applicable to functions of package type Zip: set Handler.')
  }
  return {
    ...before,
    ...(Runtime !== undefined && { runtime: readRuntime(Runtime) }),
    ...(Handler !== undefined && { handler: Handler }),
    ...(code && { archive: { sha256: code.sha256, sizeBytes: code.bytes.byteLength } }),
  }
}

export function imageSource(
  imageId: string,
  { EntryPoint, Command, WorkingDirectory }: NonNullable<ConfigurationFields['ImageConfig']>,
): ImageSource {
  return {
    type: 'image',
    imageId,
    ...(EntryPoint && EntryPoint.length > 0 && { entryPoint: EntryPoint }),
    ...(Command && Command.length > 0 && { command: Command }),
    ...(WorkingDirectory && { workingDirectory: WorkingDirectory }),
  }
}

/** Throws `InvalidParameterValueException` that lists what there is. */
export function readRuntime(runtime: string): ContainerRuntime {
  if (runtime === 'nodejs24.x') return 'nodejs24'
  if (/^python3(?:\.\d{1,2})?$/.test(runtime)) return 'python3'
  throw refusal(
    `Value '${runtime.slice(0, 100)}' at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [nodejs24.x, python3.* (the node's Python, whatever the minor version)]. For any other runtime deploy an image.`,
  )
}

/** Throws `InvalidParameterValueException`. */
export function checkArchitecture(asked: readonly string[] | undefined, architecture: string): void {
  if (asked?.[0] === undefined || asked[0] === architecture) return
  throw refusal(
    `Architectures is [${asked[0]}] and this node runs ${architecture}: leave it out, or ask for ${architecture}.`,
  )
}

const RESERVED =
  /^(?:_HANDLER|_X_AMZN_TRACE_ID|AWS_DEFAULT_REGION|AWS_REGION|AWS_EXECUTION_ENV|AWS_LAMBDA_.*|AWS_ACCESS_KEY|AWS_ACCESS_KEY_ID|AWS_SECRET_ACCESS_KEY|AWS_SECRET_KEY|AWS_SESSION_TOKEN|AWS_SECURITY_TOKEN|LAMBDA_TASK_ROOT|LAMBDA_RUNTIME_DIR|PORT)$/

function readEnvironment(variables: Readonly<Record<string, string>>): readonly VariableBinding[] {
  const names = Object.keys(variables)
  const reserved = names.filter((name) => RESERVED.test(name))
  const unable =
    'Lambda was unable to configure your environment variables because the environment variables you have provided'
  if (reserved.length > 0) {
    throw refusal(
      `${unable} contains reserved keys that are currently not supported for modification. Reserved keys used in this request: ${reserved.join(', ')}`,
    )
  }
  const wrong = names.find((name) => !/^[A-Za-z][A-Za-z0-9_]*$/.test(name))
  if (wrong !== undefined) {
    throw new ApiError(
      'ValidationException',
      `1 validation error detected: Value '${wrong.slice(0, 100)}' at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])*]`,
    )
  }
  const sizeBytes = Buffer.byteLength(JSON.stringify(variables))
  if (sizeBytes > LAMBDA_API_LIMITS.environmentBytesMax) {
    throw refusal(`${unable} exceeded the 4KB limit: as JSON they have ${sizeBytes} bytes.`)
  }
  return names.map((name) => ({ type: 'text', name, text: variables[name] ?? '' }))
}

function refusal(message: string): ApiError {
  return new ApiError('InvalidParameterValueException', message)
}
