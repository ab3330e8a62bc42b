/**
 * What wrangler's API keeps of a function beside what every function has. A version's id is 32 hex digits, which with
 * hyphens is the UUID that wrangler wants.
 */
export interface WranglerRecord {
  /** 32 hex digits, for as long as the function is. */
  readonly tag: string
  readonly tags: readonly string[]
  /** ISO 8601, UTC. */
  readonly createdAt: string
  readonly modifiedAt: string
  /** What is set for the script and not for a version; as wrangler sent it. */
  readonly settings: ScriptSettings
  /** By version id. */
  readonly annotations: Readonly<Record<string, VersionAnnotations>>
  /** Hosts of custom domains; their routes stand with the others. */
  readonly customDomains: readonly string[]
}

export interface ScriptSettings {
  readonly logpush?: boolean
  readonly observability?: unknown
  readonly tailConsumers?: readonly unknown[]
  readonly streamingTailConsumers?: readonly unknown[]
}

export interface VersionAnnotations {
  readonly message?: string
  readonly tag?: string
  readonly alias?: string
  readonly triggeredBy?: 'upload' | 'secret' | 'rollback' | 'promotion'
  readonly placement?: unknown
}

export interface DispatchNamespace {
  /** UUID. */
  readonly id: string
  readonly createdAt: string
  readonly modifiedAt: string
  /** Script name → the function that it is; such functions answer on no host. */
  readonly functionByScript: Readonly<Record<string, string>>
}
