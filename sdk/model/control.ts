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
 *   GET    /v1/routes                               → {routes: RouteEntry[]}
 *   PUT    /v1/functions/:name/routes    {pattern, origin?} → {generation}
 *   DELETE /v1/functions/:name/routes    {pattern}          → {generation}
 *   GET    /v1/functions/:name/policy                        → PolicyView
 *   PUT    /v1/functions/:name/policy    PolicyPatch, null: unset → PolicyView
 *   GET    /v1/functions/:name/limits                        → LimitsView
 *   PUT    /v1/functions/:name/limits    FunctionLimitsPatch, null: unset → LimitsView
 *   GET    /v1/settings                                      → FleetSettings
 *   PUT    /v1/settings   {policy?, limits?, ceiling?}: patches, null: unset → FleetSettings
 *   GET    /v1/usage?since=ISO&function=NAME                 → UsageReport
 *   GET    /metrics                                          → Prometheus text (not under /v1)
 *   GET    /v1/functions/:name/logs?lines=N&follow=1        → NDJSON of LogLine; with follow it stays open
 */
import type {
  Binding,
  Deployment,
  FunctionKind,
  FunctionRoute,
  VersionContent,
  VersionLimits,
} from './function.ts'
import type { FunctionLimits, FunctionLimitsCeiling, FunctionLimitsPatch } from './function-limits.ts'
import type { ScalingStatus } from './node-status.ts'
import type { Policy, PolicyPatch } from './policy.ts'
import type { SettingChange } from './settings.ts'
import type { ModuleRef } from './bundle.ts'

export interface VersionRequest {
  readonly kind: FunctionKind
  readonly mainModule: string
  readonly modules: readonly ModuleRef[]
  readonly bindings: readonly Binding[]
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
  /** Absent fields take the defaults of `INSTANCE_LIMITS`. */
  readonly limits?: Partial<VersionLimits>
  readonly message?: string
}

export interface DeployRequest extends VersionRequest {
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
  readonly scaling: readonly ScalingStatus[]
  /** Newest first. */
  readonly changes: readonly SettingChange[]
}

export interface LimitsView {
  readonly functionName: string
  readonly limits: FunctionLimits
  readonly set: FunctionLimitsPatch
  readonly ceiling: FunctionLimitsCeiling
  readonly changes: readonly SettingChange[]
}
