import type { FunctionKind, TrafficShare } from './function.ts'
import type { FunctionLimits } from './function-limits.ts'
import type { Policy } from './policy.ts'

/** Everything the router knows, immutable; swapped whole when the registry's head changes. */
export interface Snapshot {
  /** Of the head it was made from; a router never goes back to a lower one. */
  readonly generation: number
  /** Lower case, without port: `<function>.<base-domain>` answers for each function that wants it. */
  readonly baseDomain: string
  readonly functions: readonly SnapshotFunction[]
  /** Where the agent puts static files (`runtime/pool/asset-site.ts`), absolute. Absent: no version has any. */
  readonly assetsDirectory?: string
}

export interface SnapshotFunction {
  readonly name: string
  readonly kind: FunctionKind
  readonly shares: readonly TrafficShare[]
  /** Route patterns in `formatRoutePattern` spelling. */
  readonly patterns: readonly string[]
  readonly baseDomainHost: boolean
  /** Ids of versions that answer on preview hosts; empty when previews are off. */
  readonly previewVersionIds: readonly string[]
  /** Others that can be asked for by their id, by the router's inner door: those with a number or an alias, say. */
  readonly pinnedVersionIds?: readonly string[]
  /** Of those that can be asked for, the ones with static files; whether they are on the disk yet or not. */
  readonly assetVersionIds?: readonly string[]
  /** In force: the function's over the fleet's. */
  readonly policy: Policy
  readonly limits: Pick<FunctionLimits, 'wallMs' | 'requestBytes' | 'responseBytes'> & {
    /** To the head of the response. @default ROUTER_LIMITS.responseTimeoutMs */
    readonly firstByteMs?: number
  }
}
