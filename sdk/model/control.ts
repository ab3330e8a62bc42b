/**
 * The native control API, as both its server (runtime/control) and its client (sdk/client) see it. All paths are
 * under `/v1`, bodies are JSON, `authorization: Bearer <token>` always; errors are `ErrorBody`. Who changes something may
 * say so in `isola-actor`: changes of policy and limits are recorded with it.
 *
 *   GET    /v1/status                               → NodeStatus
 *   POST   /v1/blobs/missing {digests}              → {missing}
 *   PUT    /v1/blobs/:sha256 (raw bytes)            → 204
 *   GET    /v1/functions                            → {functions: FunctionRecord[]}
 *   GET    /v1/functions/:name                      → FunctionRecord
 *   DELETE /v1/functions/:name                      → {generation}
 *   GET    /v1/functions/:name/versions             → {versions: VersionSummary[]}  newest first
 *   POST   /v1/functions/:name/versions  VersionRequest     → Version           trial-started; no traffic yet
 *   POST   /v1/functions/:name/deploy    DeployRequest      → DeployResult      version + 100 % + routes, one swap
 *   POST   /v1/functions/:name/traffic   TrafficRequest     → DeployResult
 *   POST   /v1/functions/:name/rollback  {versionId?}       → DeployResult
 *   GET    /v1/functions/:name/secrets                       → {secrets: {name}[]}   of the newest version
 *   PUT    /v1/functions/:name/secrets/:secret {text}        → DeployResult           a version with it, in service
 *   DELETE /v1/functions/:name/secrets/:secret               → DeployResult
 *   GET    /v1/routes                               → {routes: RouteEntry[]}
 *   PUT    /v1/functions/:name/routes    {pattern, origin?} → {generation}
 *   DELETE /v1/functions/:name/routes    {pattern}          → {generation}
 *   GET    /v1/functions/:name/policy                        → PolicyView
 *   PUT    /v1/functions/:name/policy    PolicyChange, null: unset → PolicyView
 *   GET    /v1/functions/:name/limits                        → LimitsView
 *   PUT    /v1/functions/:name/limits    FunctionLimitsChange, null: unset → LimitsView
 *   GET    /v1/settings                                      → SettingsView
 *   PUT    /v1/settings          SettingsRequest, null: unset → SettingsView
 *   GET    /v1/usage?since=ISO&function=NAME                 → UsageReport      since: or epoch; absent: 24 hours
 *   POST   /v1/images/build?dockerfile=PATH (tar of the context) → NDJSON of ImageEvent
 *   POST   /v1/images/load (tar of `docker save`, or OCI)    → NDJSON of ImageEvent
 *   POST   /v1/images/pull   PullRequest                     → NDJSON of ImageEvent
 *   POST   /v1/functions/:name/invoke (the event)            → the result; `isola-function-error` where the function failed
 *          with `isola-invoke-type: async`                    → 202 {requestId}, worked on later
 *   GET    /v1/functions/:name/dead-letters?limit=N          → {deadLetters: DeadLetterSummary[]}  newest first
 *   GET    /v1/dead-letters/:id                              → DeadLetterView
 *   POST   /v1/dead-letters/:id/redrive                      → {id}               tried again from the start
 *   DELETE /v1/dead-letters/:id                              → {id}
 *   GET    /v1/keys                                          → {keys: AccessKey[]}         of the Lambda API
 *   POST   /v1/keys              {description?}              → NewAccessKey                its secret is told once
 *   DELETE /v1/keys/:id                                      → {accessKeyId}
 *   GET    /metrics                                          → Prometheus text (not under /v1)
 *   GET    /v1/functions/:name/logs?lines=N&follow=1        → NDJSON of LogLine; with follow it stays open
 */
import type {
  Binding,
  ContainerProtocol,
  ContainerSettings,
  ContainerSource,
  Deployment,
  FunctionRoute,
  StaticAssets,
  EnvironmentBinding,
  VersionContent,
  VersionLimits,
  WorkerContent,
} from './function.ts'
import type { ErrorBody } from './errors.ts'
import type {
  FunctionLimits,
  FunctionLimitsCeiling,
  FunctionLimitsCeilingChange,
  FunctionLimitsChange,
  FunctionLimitsPatch,
} from './function-limits.ts'
import type { ScalingStatus } from './node-status.ts'
import type { Policy, PolicyChange, PolicyPatch } from './policy.ts'
import type { FleetSettings, SettingChange } from './settings.ts'
import type { ModuleRef } from './bundle.ts'

export type VersionRequest = WorkerVersionRequest | ContainerVersionRequest

export interface WorkerVersionRequest {
  readonly kind: 'worker'
  /** Empty where there is no code and all are assets. */
  readonly mainModule: string
  /** @default 'module' */
  readonly format?: NonNullable<WorkerContent['format']>
  readonly assets?: StaticAssets
  readonly modules: readonly ModuleRef[]
  readonly bindings: readonly Binding[]
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
  /** Absent fields are the fleet's, or `DEFAULT_FUNCTION_LIMITS`. */
  readonly limits?: Partial<VersionLimits>
  readonly message?: string
  /** For its version metadata. Not part of what the version is. */
  readonly tag?: string
}

/** What is absent of `settings` is `DEFAULT_CONTAINER_SETTINGS`. */
export interface ContainerVersionRequest {
  readonly kind: 'container'
  readonly protocol: ContainerProtocol
  readonly source: ContainerSource
  readonly bindings: readonly EnvironmentBinding[]
  readonly limits?: Partial<VersionLimits>
  readonly settings?: Partial<ContainerSettings>
  readonly message?: string
}

export type DeployRequest = VersionRequest & Hosting

/** Where a function answers. */
export interface Hosting {
  /** Replace the function's `config` routes; its `operator` routes stay. */
  readonly routes: readonly { readonly pattern: string }[]
  readonly baseDomainHost: boolean
  readonly previewHosts: boolean
}

export interface TrafficRequest {
  /** Ids may be shortened to 8 or more leading digits where that is unambiguous. */
  readonly shares: readonly { readonly versionId: string; readonly percent: number }[]
  readonly message?: string
}

export interface DeployResult {
  readonly functionName: string
  readonly deployment: Deployment
  readonly generation: number
  /** Where it answers now, ready for a browser. */
  readonly urls: readonly string[]
  /** Milliseconds from the request to the router having the new table in force. */
  readonly liveMs: number
  /** Milliseconds of that spent on the trial start; absent where nothing had to be started. */
  readonly trialMs?: number
}

export interface VersionSummary {
  readonly id: string
  readonly createdAt: string
  readonly message: string
  readonly content: VersionContent
  /** 0 where it receives no traffic. */
  readonly percent: number
  /** Absent where previews are off or the version is no longer among the recent. */
  readonly previewUrl?: string
}

export interface RouteEntry extends FunctionRoute {
  readonly functionName: string
}

/** A function's policy as it is in force here, with where it comes from and what it leads to now. */
export interface PolicyView {
  readonly functionName: string
  readonly policy: Policy
  /** Of it, what is set for this function; the rest is the fleet's or the default. */
  readonly set: PolicyPatch
  /** What is set for the fleet. */
  readonly fleet: PolicyPatch
  readonly scaling: readonly ScalingStatus[]
  /** Of the policy, newest first. */
  readonly changes: readonly SettingChange[]
}

export interface LimitsView {
  readonly functionName: string
  /** In force for the version with most of the traffic. */
  readonly limits: FunctionLimits
  /** What is set for this function. */
  readonly set: FunctionLimitsPatch
  /** What the versions in service ask for, most traffic first. It lies between the fleet's and what is set here. */
  readonly versions: readonly { readonly versionId: string; readonly limits: Partial<VersionLimits> }[]
  /** What is set for the fleet. */
  readonly fleet: FunctionLimitsPatch
  readonly ceiling: FunctionLimitsCeiling
  /** Of the limits, newest first. */
  readonly changes: readonly SettingChange[]
}

/** Patches; `null` unsets a field. What is absent stays. */
export interface SettingsRequest {
  readonly policy?: PolicyChange
  readonly limits?: FunctionLimitsChange
  readonly ceiling?: FunctionLimitsCeilingChange
}

export interface SettingsView extends FleetSettings {
  /** What is above the ceiling, set or asked for before it was lowered, and so is held down to it. */
  readonly held: readonly HeldLimit[]
}

export interface HeldLimit {
  /** Absent: the fleet's own limit. */
  readonly functionName?: string
  /** Where it is a version of the function that asks. */
  readonly versionId?: string
  readonly field: keyof FunctionLimitsCeiling
  readonly wanted: number
  readonly ceiling: number
}

export interface UsageQuery {
  /** From the hour that holds it on. @default 24 hours ago */
  readonly sinceMs?: number
  /** @default all functions */
  readonly functionName?: string
}

/**
 * An image on its way to the node, line by line; the last is `image` or `error`. The image is then a `source` by its id;
 * one that no version names is removed after a while.
 */
export type ImageEvent =
  /** What the builder or the registry says, as text for a terminal. */
  | { readonly type: 'log'; readonly text: string }
  | { readonly type: 'image'; readonly image: ImageSummary }
  | { readonly type: 'error'; readonly error: ErrorBody['error'] }

export interface ImageSummary {
  /** `sha256:` and 64 hex digits. */
  readonly imageId: string
  readonly sizeBytes: number
  /** As OCI names it: `amd64`, `arm64`. */
  readonly architecture: string
}

export interface PullRequest {
  /** `registry/name:tag` or `registry/name@sha256:…`. */
  readonly reference: string
  /** Used for this pull, and kept nowhere. */
  readonly username?: string
  readonly password?: string
}
