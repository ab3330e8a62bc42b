import { IsolaError } from './errors.ts'
import type { ModuleRef } from './bundle.ts'
import type { FunctionLimitsPatch } from './function-limits.ts'
import type { PolicyPatch } from './policy.ts'
import type { FleetSettings, SettingChange } from './settings.ts'

export type FunctionKind = 'worker' | 'container'

/** A capability handed to a function by name, through `env`. One member per type; more come with their services. */
export type Binding =
  | { readonly type: 'text'; readonly name: string; readonly text: string }
  | { readonly type: 'json'; readonly name: string; readonly json: unknown }

/** What a version asks for; `FunctionLimits` says what is in force. */
export interface VersionLimits {
  /** CPU milliseconds an instance may burn without answering before it is killed. @default 10000 */
  readonly cpuMs: number
  /** Memory of one instance, MiB. @default 128 */
  readonly memoryMib: number
}

/** What a version is made of: everything that decides its behaviour, and so everything its id is made from. */
export interface VersionContent {
  readonly kind: FunctionKind
  readonly mainModule: string
  readonly modules: readonly ModuleRef[]
  readonly bindings: readonly Binding[]
  /** `YYYY-MM-DD`, as workerd reads it. */
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
  /** Only what its configuration says. */
  readonly limits: Partial<VersionLimits>
}

/** Immutable. The id is the SHA-256 of the canonical JSON of function name and content, first 32 hex digits. */
export interface Version {
  readonly id: string
  readonly functionName: string
  readonly content: VersionContent
  /** ISO 8601, UTC. Not part of the id. */
  readonly createdAt: string
  readonly message: string
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
  /** Of policy and limits; newest first, at most `settingChangesMax`. */
  readonly changes?: readonly SettingChange[]
}

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
