/** What truly happens in a run, as the checkers see it: not what router or agent believe. */
import type { ExitCause } from '../../sdk/model/node-status.ts'
import type { VersionSpec } from '../../runtime/pool/node-events.ts'

export type Fact =
  | { readonly type: 'head'; readonly versions: readonly VersionSpec[] }
  | { readonly type: 'prewarm'; readonly functionName: string; readonly min: number }
  /** The planner asked for an instance; it is on its way. */
  | {
      readonly type: 'start'
      readonly id: string
      readonly functionName: string
      readonly versionId: string
      readonly reason: string
    }
  | { readonly type: 'start-failed'; readonly id: string; readonly versionId: string; readonly full: boolean }
  | { readonly type: 'running'; readonly id: string; readonly versionId: string }
  /** The planner wants it gone. */
  | { readonly type: 'retire'; readonly id: string; readonly reason: string }
  | { readonly type: 'gone'; readonly id: string; readonly versionId: string; readonly cause: ExitCause }
  | { readonly type: 'frozen'; readonly id: string }
  | { readonly type: 'thawed'; readonly id: string }
  | { readonly type: 'arrived'; readonly requestId: number; readonly functionName: string }
  /** It runs on an instance from now on. */
  | { readonly type: 'slot'; readonly requestId: number; readonly instanceId: string; readonly cold: boolean }
  | { readonly type: 'released'; readonly requestId: number; readonly instanceId: string }
  | { readonly type: 'queued'; readonly requestId: number; readonly versionId: string }
  | {
      readonly type: 'finished'
      readonly requestId: number
      readonly functionName: string
      /** `answered`, `failed` with its instance, or the code of the refusal. */
      readonly outcome: string
    }
  | { readonly type: 'delay'; readonly versionId: string; readonly reason: string }
  | { readonly type: 'refuse'; readonly versionId: string; readonly code: string; readonly message: string }
  | { readonly type: 'agent'; readonly up: boolean }
  | { readonly type: 'router'; readonly up: boolean }

/** One line of a timeline. */
export function formatFact(fact: Fact, nowMs: number): string {
  const { type, ...rest } = fact
  const words =
    fact.type === 'head'
      ? fact.versions.map(
          ({ versionId, percent, policy }) => `${versionId} ${percent} % ${JSON.stringify(policy)}`,
        )
      : Object.entries(rest).map(([name, value]) => `${name}=${String(value)}`)
  return `${(nowMs / 1_000).toFixed(4).padStart(10)} s  ${type.padEnd(13)}${words.join(' ')}`
}
