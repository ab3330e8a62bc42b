import { IsolaError } from './errors.ts'
import type { ModuleRef } from './bundle.ts'
import type { LambdaRecord } from './lambda.ts'
import type { DispatchNamespace, WranglerRecord } from './wrangler.ts'
import type { FunctionLimitsPatch } from './function-limits.ts'
import type { PolicyPatch } from './policy.ts'
import type { FleetSettings, SettingChange } from './settings.ts'

export type FunctionKind = 'worker' | 'container'

/** A capability handed to a function by name, through `env`. One member per type; more come with their services. */
export type Binding =
  | VariableBinding
  | SecretBinding
  | ServiceBinding
  | VersionMetadataBinding
  | RateLimitBinding
  | AssetsBinding
  | DispatchBinding
  | ModuleBinding

export type VariableBinding =
  | { readonly type: 'text'; readonly name: string; readonly text: string }
  | { readonly type: 'json'; readonly name: string; readonly json: unknown }

/** Another function of the node, of whatever kind, to call with `env.<name>.fetch()`. For kind `worker`. */
export interface ServiceBinding {
  readonly type: 'service'
  readonly name: string
  readonly functionName: string
  /** Of the other's named entrypoints. @default its default export */
  readonly entrypoint?: string
  /** JSON that its entrypoint finds in `ctx.props`. */
  readonly props?: unknown
}

/** A string that only the function sees. `sealed` by the fleet's key; equal secrets of one function are sealed alike. */
export interface SecretBinding {
  readonly type: 'secret'
  readonly name: string
  readonly sealed: string
}

/** What a container function finds in its environment. */
export type EnvironmentBinding = VariableBinding | SecretBinding

/** `{id, tag, timestamp}` of the version itself. */
export interface VersionMetadataBinding {
  readonly type: 'version-metadata'
  readonly name: string
}

/** `env.<name>.limit({ key })` answers `{ success }`: so many calls a key in a period, counted on each node. */
export interface RateLimitBinding {
  readonly type: 'rate-limit'
  readonly name: string
  /** Bindings of one id count together. */
  readonly namespaceId: string
  readonly limit: number
  readonly periodS: 10 | 60
}

/** The version's own static files, by `env.<name>.fetch()`. */
export interface AssetsBinding {
  readonly type: 'assets'
  readonly name: string
}

/** `env.<name>.get(script).fetch()`: a function of the dispatch namespace. */
export interface DispatchBinding {
  readonly type: 'dispatch'
  readonly name: string
  readonly namespace: string
}

/** A module of the version as a global variable, as the service-worker format has them. */
export interface ModuleBinding {
  readonly type: 'module'
  readonly name: string
  readonly module: string
}

/** What a version asks for; `FunctionLimits` says what is in force. */
export interface VersionLimits {
  /** CPU milliseconds an instance may burn without answering before it is killed. @default 10000 */
  readonly cpuMs: number
  /** Memory of one instance, MiB. @default 128 */
  readonly memoryMib: number
}

/** What a version is made of: everything that decides its behaviour, and so everything its id is made from. */
export type VersionContent = WorkerContent | ContainerContent

/** Runs in an isolate. */
export interface WorkerContent {
  readonly kind: 'worker'
  /** Empty where there is no code and all are assets. */
  readonly mainModule: string
  /** How the main module offers its handlers. @default 'module' */
  readonly format?: 'module' | 'service-worker'
  readonly assets?: StaticAssets
  readonly modules: readonly ModuleRef[]
  readonly bindings: readonly Binding[]
  /** `YYYY-MM-DD`, as workerd reads it. */
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
  /** Only what its configuration says. */
  readonly limits: Partial<VersionLimits>
}

/** Files that are served as they are, in front of the code or instead of it. */
export interface StaticAssets {
  /** JSON, `AssetManifest`. */
  readonly manifest: BlobRef
  readonly config: AssetsConfig
}

export interface AssetManifest {
  /** By path: begins with `/`, not percent-encoded. */
  readonly files: Readonly<Record<string, AssetFile>>
}

export interface AssetFile extends BlobRef {
  /** Absent: it is served without one. */
  readonly contentType?: string
}

/** As wrangler's `assets`. */
export interface AssetsConfig {
  /** @default 'auto-trailing-slash' */
  readonly htmlHandling?: 'auto-trailing-slash' | 'force-trailing-slash' | 'drop-trailing-slash' | 'none'
  /** @default 'none' */
  readonly notFoundHandling?: 'single-page-application' | '404-page' | 'none'
  /** Paths that go to the code first, `!` before those that do not; true: all. @default false */
  readonly runWorkerFirst?: boolean | readonly string[]
  /** Text of the file `_redirects`. */
  readonly redirects?: string
  /** Text of the file `_headers`. */
  readonly headers?: string
}

/** Runs in a container. Its bindings are environment variables: `text` and `secret` as they are, `json` as JSON. */
export interface ContainerContent {
  readonly kind: 'container'
  /** `lambda`: events by AWS's Runtime API. `http`: it listens on `$PORT`. */
  readonly protocol: ContainerProtocol
  readonly source: ContainerSource
  readonly bindings: readonly EnvironmentBinding[]
  readonly limits: Partial<VersionLimits>
  readonly settings: ContainerSettings
}

export type ContainerProtocol = 'lambda' | 'http'

export const CONTAINER_RUNTIMES = ['nodejs24', 'python3'] as const
export type ContainerRuntime = (typeof CONTAINER_RUNTIMES)[number]

export type ContainerSource =
  /** A zip archive, unpacked at `/var/task`, on a runtime of isola's; always of protocol `lambda`. */
  | {
      readonly type: 'code'
      readonly runtime: ContainerRuntime
      /** `file.export`, as AWS reads it; e.g. `index.handler`. */
      readonly handler: string
      readonly archive: BlobRef
    }
  | {
      readonly type: 'image'
      /** As the engine names it: `sha256:` and 64 hex digits. */
      readonly imageId: string
      /** Instead of the image's own. */
      readonly entryPoint?: readonly string[]
      readonly command?: readonly string[]
      readonly workingDirectory?: string
    }

/** Bytes by reference. */
export interface BlobRef {
  /** Lower-case hex SHA-256 of the bytes. */
  readonly sha256: string
  readonly sizeBytes: number
}

export interface ContainerSettings {
  /** Of one invocation of protocol `lambda`, 1000–900000 ms. */
  readonly timeoutMs: number
  /** Cores, 0.1–16. */
  readonly cpus: number
  /** Of `/tmp`, MiB. What lies there counts as memory of the instance. */
  readonly ephemeralStorageMib: number
  /** Whether it reaches the public internet. Else it has no network at all. */
  readonly egress: boolean
  /** Protocol `lambda`: whether responses stream through (Function URL's `RESPONSE_STREAM`) instead of being collected. */
  readonly responseStreaming: boolean
  /** Protocol `http`: where it listens; what `$PORT` says. */
  readonly port: number
}

export const DEFAULT_CONTAINER_SETTINGS: ContainerSettings = {
  timeoutMs: 30_000,
  cpus: 1,
  ephemeralStorageMib: 64,
  egress: false,
  responseStreaming: false,
  port: 8080,
}

export type WorkerVersion = Version<WorkerContent>
export type ContainerVersion = Version<ContainerContent>

export function isWorkerVersion(version: Version): version is WorkerVersion {
  return version.content.kind === 'worker'
}

export function isContainerVersion(version: Version): version is ContainerVersion {
  return version.content.kind === 'container'
}

/** The functions that a version may call, each once. */
export function servicesOf({ bindings }: VersionContent): readonly string[] {
  const names = bindings.flatMap((binding) => (binding.type === 'service' ? [binding.functionName] : []))
  return [...new Set(names)]
}

/** Everything a version needs from the blob store. */
export function blobsOf(content: VersionContent): readonly BlobRef[] {
  if (content.kind === 'worker') {
    // The files of assets stand in their manifest, which is a blob itself.
    return content.assets === undefined ? content.modules : [...content.modules, content.assets.manifest]
  }
  return content.source.type === 'code' ? [content.source.archive] : []
}

/** Immutable. The id is the SHA-256 of the canonical JSON of function name and content, first 32 hex digits. */
export interface Version<Content extends VersionContent = VersionContent> {
  readonly id: string
  readonly functionName: string
  readonly content: Content
  /** ISO 8601, UTC. Not part of the id. */
  readonly createdAt: string
  readonly message: string
  /** What it was called by who made it, for version metadata. Not part of the id. */
  readonly tag?: string
}

export interface TrafficShare {
  readonly versionId: string
  /** Whole or fractional percent, > 0; the shares of a deployment sum to 100. */
  readonly percent: number
}

export interface Deployment {
  readonly id: string
  readonly shares: readonly TrafficShare[]
  /** ISO 8601, UTC. */
  readonly createdAt: string
  readonly message: string
  /** The deployment this one replaced: rollback's default target. */
  readonly previousId?: string
}

/** `config` routes are replaced by each deploy; `operator` routes stay until they are removed by hand. */
export interface FunctionRoute {
  /** `host/path`, as `parseRoutePattern` reads it. */
  readonly pattern: string
  readonly source: 'config' | 'operator'
  /** `http(s)://host[:port]`: where the function's own `fetch` for this route's host goes. Absent: public DNS. */
  readonly origin?: string
}

/** A function as the head document carries it. */
export interface FunctionRecord {
  readonly name: string
  readonly kind: FunctionKind
  readonly deployment: Deployment
  /** Newest first, at most `recentVersionsMax`: those that preview hosts answer for. */
  readonly recentVersionIds: readonly string[]
  readonly routes: readonly FunctionRoute[]
  /** Whether `<function>.<base-domain>` answers. */
  readonly baseDomainHost: boolean
  /** Whether `<version>-<function>.<base-domain>` answers. */
  readonly previewHosts: boolean
  /** What is set for this function; the rest is the fleet's. */
  readonly policy: PolicyPatch
  /** As the policy. What the version asks for lies between the fleet's and these. */
  readonly limits?: FunctionLimitsPatch
  /** Of events that are worked on later. Absent fields are `DEFAULT_ASYNC_SETTINGS`. */
  readonly asyncInvoke?: Partial<AsyncSettings>
  /** What wrangler's API keeps of it, in the shapes of that API. */
  readonly wrangler?: WranglerRecord
  /** What the Lambda API keeps of it, in the shapes of that API. */
  readonly lambda?: LambdaRecord
  /** Of policy and limits; newest first, at most `settingChangesMax`. */
  readonly changes?: readonly SettingChange[]
}

/** Versions with a number in the Lambda API: they can be called by it, whatever the traffic and however old. */
export function numberedVersionIds({ lambda }: FunctionRecord): readonly string[] {
  return [...new Set((lambda?.versions ?? []).map(({ versionId }) => versionId))]
}

/** How often and how long an event is tried. */
export interface AsyncSettings {
  /** After the first try. @default 2 */
  readonly retriesMax: number
  /** An event older than this is not tried again, s. @default 21600 */
  readonly maxAgeS: number
}

export const DEFAULT_ASYNC_SETTINGS: AsyncSettings = { retriesMax: 2, maxAgeS: 21_600 }

/** The one mutable document of the registry. Everything live is named here; a deploy is one swap of it. */
export interface Head {
  readonly formatVersion: 1
  /** Grows by one with every swap, never reused. */
  readonly generation: number
  /** Of the write that made it: tells a writer whether an unclear outcome was its own success. */
  readonly writeId: string
  readonly functions: Readonly<Record<string, FunctionRecord>>
  /** Absent until something is set. */
  readonly settings?: FleetSettings
  /** By name. Absent until there is one. */
  readonly dispatchNamespaces?: Readonly<Record<string, DispatchNamespace>>
}

const FUNCTION_NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

/** Lower-case letters, digits and inner dashes, 1–63: a DNS label. Throws `invalid_argument`. */
export function parseFunctionName(text: string): string {
  if (FUNCTION_NAME.test(text)) return text
  throw new IsolaError(
    'invalid_argument',
    `function name ${JSON.stringify(text)} is not usable: use 1 to 63 of a-z, 0-9 and inner "-", because it becomes a host name`,
  )
}

/** How many leading characters of a version id a preview host carries. */
export const PREVIEW_ID_LENGTH = 8

/** First label of a version's preview host: `<8 of the id>-<function>`. */
export function previewLabel(versionId: string, functionName: string): string {
  return `${versionId.slice(0, PREVIEW_ID_LENGTH)}-${functionName}`
}
