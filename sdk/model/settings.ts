import type { FunctionLimitsCeiling, FunctionLimitsPatch } from './function-limits.ts'
import type { PolicyPatch } from './policy.ts'

/** What holds for every function of the fleet that does not say otherwise. Part of the head. */
export interface FleetSettings {
  readonly policy: PolicyPatch
  readonly limits: FunctionLimitsPatch
  readonly ceiling: FunctionLimitsCeiling
  /** Newest first, at most `settingChangesMax`. */
  readonly changes: readonly SettingChange[]
}

export const NO_SETTINGS: FleetSettings = { policy: {}, limits: {}, ceiling: {}, changes: [] }

/** One change of a policy or of limits, of a function or of the fleet. */
export interface SettingChange {
  /** ISO 8601, UTC. */
  readonly at: string
  /** Who, as the client says it: `user@host` of the command line, or what `isola-actor` carried. */
  readonly by: string
  readonly what: 'policy' | 'limits' | 'ceiling'
  /** Only the fields that changed; `null` where nothing was or is set. */
  readonly before: Readonly<Record<string, unknown>>
  readonly after: Readonly<Record<string, unknown>>
}
