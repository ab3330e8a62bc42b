/**
 * What the planner hears and what it wants done. The supervisor turns what happens on the node into events and carries
 * out the actions; the simulator does the same in virtual time. Nothing else changes the planner's state.
 */
import type { ExitCause } from '../../sdk/model/node-status.ts'
import type { Policy } from '../../sdk/model/policy.ts'
import type { MemoryRank } from './driver.ts'
import type { InstanceLoad, StartRefusalCode, VersionLoad } from './wire.ts'

/** What instances may use together on this node. */
export interface NodeBudget {
  readonly memoryMib: number
  readonly cpus: number
}

/** A version that a head wants. One that is not named any more may finish its requests and leaves soon. */
export interface VersionSpec {
  readonly functionName: string
  readonly versionId: string
  /** 0 for a version that only a preview host reaches. */
  readonly percent: number
  readonly policy: Policy
  /** Limit of one instance, MiB. */
  readonly memoryMib: number
  /** What an instance is expected to take until it is measured. */
  readonly reserveMib: number
  /** Which blanks an instance can begin as; absent: none. */
  readonly blankClass?: string
}

/** An instance that the planner did not ask for: taken over from an earlier agent, or a trial start's. */
export interface FoundInstance {
  readonly id: string
  readonly functionName: string
  readonly versionId: string
  /** Limit it was started with, MiB; one that the head does not want any more is replaced. Absent: taken as right. */
  readonly memoryMib?: number
}

/**
 * Whose fault a failed start is. `full`: the machine has no place for any now. `engine`: what runs its kind is not there. Only
 * `version` counts against the version.
 */
export type StartFault = 'version' | 'node' | 'full' | 'engine'

export type NodeEvent =
  /** Replaces all versions. Instances of a function that is not among them at all go at once. */
  | { readonly type: 'head'; readonly versions: readonly VersionSpec[] }
  /** Minimums that schedules ask for at this time, by function; replaces all. */
  | { readonly type: 'prewarm'; readonly minByFunction: ReadonlyMap<string, number> }
  | {
      readonly type: 'load'
      readonly instances: readonly InstanceLoad[]
      readonly versions: readonly VersionLoad[]
    }
  | {
      readonly type: 'need'
      readonly functionName: string
      readonly versionId: string
      readonly queued: number
    }
  | { readonly type: 'found'; readonly instance: FoundInstance }
  | {
      readonly type: 'started'
      readonly startId: number
      readonly instanceId: string
      /** As of `FoundInstance`. */
      readonly memoryMib?: number
    }
  | {
      readonly type: 'start-failed'
      readonly startId: number
      readonly fault: StartFault
      readonly message: string
    }
  /** Once a second, of every instance. `cpuShare`: of one core since the last. */
  | {
      readonly type: 'usage'
      readonly instances: readonly {
        readonly id: string
        readonly memoryMib: number
        readonly cpuShare: number
      }[]
      /** Memory that the blanks of each class take altogether. */
      readonly blanksMib: ReadonlyMap<string, number>
    }
  /** Answers to the action `pause`. */
  | { readonly type: 'paused'; readonly id: string }
  | { readonly type: 'pause-refused'; readonly id: string }
  /** The router thawed it for a request. */
  | { readonly type: 'resumed'; readonly id: string }
  /** `answered`: responses it has given in its life. */
  | {
      readonly type: 'ended'
      readonly id: string
      readonly cause: ExitCause
      readonly message: string
      readonly answered: number
    }
  /** No router: nothing is in flight and nothing waits. */
  | { readonly type: 'router-lost' }
  /** Every 100 ms. */
  | { readonly type: 'tick' }

export type NodeAction =
  | {
      readonly type: 'start'
      /** Answered by `started` or `start-failed`. */
      readonly startId: number
      readonly functionName: string
      readonly versionId: string
      /** In words, with values: for the log and `isola scale`. */
      readonly reason: string
    }
  /** Freeze it if it is at rest: answered by `paused` or `pause-refused`. */
  | { readonly type: 'pause'; readonly id: string }
  /** Drain, wait for `waitUntil` work, stop. Answered by `ended`, in the end. */
  | { readonly type: 'retire'; readonly id: string; readonly reason: string }
  /** Who waits for the version waits for the node, not for the version: the reason goes into the refusal at the deadline. */
  | { readonly type: 'delay'; readonly versionId: string; readonly reason: string }
  /** Nobody can be served by the version for now. */
  | {
      readonly type: 'refuse'
      readonly versionId: string
      readonly code: StartRefusalCode
      readonly message: string
      readonly retryAfterMs: number
    }
  /** Blanks of the class that should wait, beside those being claimed. */
  | { readonly type: 'blanks'; readonly blankClass: string; readonly count: number }
  /** Share of the processors of one instance, relative to others; 100 is ordinary. */
  | { readonly type: 'cpu-weight'; readonly id: string; readonly weight: number }
  | { readonly type: 'memory-rank'; readonly id: string; readonly rank: MemoryRank }
