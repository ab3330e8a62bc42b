/**
 * Messages between the agent and the processes that outlive it. The router (and the egress proxy) listen on a unix
 * socket; the agent connects, again after every restart, and says all it knows. So either side can be killed and the
 * other goes on with what it last heard. One JSON object a line (`channel.ts`).
 */
import type { ExitCause } from '../../sdk/model/node-status.ts'
import type { RouterMetrics } from '../../sdk/model/router-metrics.ts'
import type { EgressLimit } from '../../sdk/model/function-limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { Snapshot } from '../../sdk/model/snapshot.ts'

/** An instance as the router needs it. */
export interface InstanceAddress {
  readonly id: string
  readonly functionName: string
  readonly versionId: string
  readonly socketPath: string
  /** How the router freezes and thaws it; absent where the machine cannot. */
  readonly freezer?: Freezer
}

/** A file of the kernel's (cgroup freezer), and what is written to it. Only the router writes it while it has the instance. */
export interface Freezer {
  readonly file: string
  readonly frozen: string
  readonly thawed: string
}

/** Why no instance of a version can be had. */
export type StartRefusalCode = 'start_failed' | 'crash_loop' | 'node_full' | 'engine_unavailable'

export type AgentToRouter =
  | { readonly type: 'snapshot'; readonly snapshot: Snapshot }
  /** All running instances, after (re)connecting: the router forgets any other. */
  | { readonly type: 'instances'; readonly instances: readonly InstanceAddress[] }
  | { readonly type: 'instance-up'; readonly instance: InstanceAddress; readonly cold: boolean }
  /** No new requests for it; answered by `instance-drained` when nothing is in flight. */
  | { readonly type: 'instance-drain'; readonly id: string }
  /**
   * Freeze it, if nothing is in flight and `started` is still the number the agent saw before it found no `waitUntil` work
   * pending. Answered by `instance-paused` or `pause-refused`. The router alone freezes and thaws: two writers would race.
   */
  | { readonly type: 'instance-pause'; readonly id: string; readonly started: number }
  /** It ended, or is about to be killed for `cause`. Its requests fail with the cause's error. */
  | {
      readonly type: 'instance-gone'
      readonly id: string
      readonly cause: ExitCause
      readonly message: string
    }
  /** No instance of the version can be had for now; whoever waits is refused. */
  | {
      readonly type: 'start-refused'
      readonly versionId: string
      readonly code: StartRefusalCode
      readonly message: string
      /** Until then requests are refused at once, without asking again. */
      readonly retryAfterMs: number
    }
  /** The node can start no other instance for now: whoever waits goes on waiting, and the refusal at the deadline says so. */
  | { readonly type: 'start-delayed'; readonly versionId: string; readonly message: string }
  /** The functions that somebody tails: of their requests the log tells more. Replaces those named before. */
  | { readonly type: 'tails'; readonly functionNames: readonly string[] }
  /** Stop accepting, finish what is in flight until the deadline, say `drained`, exit. */
  | { readonly type: 'shutdown'; readonly timeoutMs: number }

export type RouterToAgent =
  | {
      readonly type: 'hello'
      readonly pid: number
      /** As it was asked for: an agent that wants another starts another router. */
      readonly httpHost: string
      readonly httpPort: number
      readonly generation: number
    }
  /** The snapshot of this generation is in force. */
  | { readonly type: 'applied'; readonly generation: number }
  /** Requests wait and no free slot is left. Sent at once, and again with every `load` while it is so. */
  | {
      readonly type: 'need'
      readonly functionName: string
      readonly versionId: string
      readonly queued: number
    }
  | {
      readonly type: 'load'
      readonly instances: readonly InstanceLoad[]
      readonly versions: readonly VersionLoad[]
    }
  | { readonly type: 'instance-drained'; readonly id: string }
  | { readonly type: 'instance-paused'; readonly id: string }
  | { readonly type: 'pause-refused'; readonly id: string }
  /** Thawed for a request. */
  | { readonly type: 'instance-resumed'; readonly id: string }
  /** Every second, if anything changed. */
  | { readonly type: 'metrics'; readonly metrics: RouterMetrics }
  /** A connection to it was refused: it is probably gone. */
  | { readonly type: 'instance-unreachable'; readonly id: string; readonly message: string }
  | {
      readonly type: 'log'
      readonly lines: readonly LogLine[]
      readonly dropped: number
      /** Of requests of functions that are tailed. */
      readonly tailed?: readonly TailedRequest[]
      /** Tailed requests that are missing there: there were too many. */
      readonly untold?: number
    }
  | { readonly type: 'drained' }

export interface TailedRequest {
  /** Index of its line. */
  readonly line: number
  /** Request line and headers as the instance got them. */
  readonly head: string
  /** Milliseconds from its slot on; absent if it had none. */
  readonly functionMs?: number | undefined
}

/** Sent every 100 ms for instances with something in flight or changed since. */
export interface InstanceLoad {
  readonly id: string
  readonly inFlight: number
  /** Counts heads, body chunks and message frames that came from the instance: unchanged means no sign of life. */
  readonly progress: number
  /** Requests that took a slot on it since the router has it. */
  readonly started: number
  readonly paused: boolean
}

export interface VersionLoad {
  readonly functionName: string
  readonly versionId: string
  readonly inFlight: number
  readonly queued: number
  /** Requests since the router started. */
  readonly requests: number
  /**
   * Requests in flight or waiting, as a mean over the 100 ms or so before this report: a request that came and went
   * between two reports counts too. A version that a report leaves out had none.
   */
  readonly concurrency: number
}

export type AgentToEgress =
  /** Accept connections of this instance on `socketPath` (owned by `uid`), once assigned. Answered by `listening`. */
  | { readonly type: 'listen'; readonly id: string; readonly socketPath: string; readonly uid: number }
  /** `services`: functions that it may call by a service binding. */
  | {
      readonly type: 'assign'
      readonly id: string
      readonly functionName: string
      readonly services?: readonly string[]
    }
  | { readonly type: 'close'; readonly id: string }
  /** All sockets there should be, after (re)connecting: any other is closed. */
  | {
      readonly type: 'sockets'
      readonly sockets: readonly {
        readonly id: string
        readonly socketPath: string
        readonly uid: number
        readonly functionName?: string
        readonly services?: readonly string[]
      }[]
    }
  /** Replaces all rules. */
  | { readonly type: 'rules'; readonly rules: EgressRules }
  /**
   * What the router said of instances, passed on as it comes: their subrequests are counted against it. `started` and
   * `inFlight` as in `InstanceLoad`; at rest (nothing in flight) the count begins anew.
   */
  | {
      readonly type: 'load'
      readonly instances: readonly {
        readonly id: string
        readonly started: number
        readonly inFlight: number
      }[]
    }
  | { readonly type: 'shutdown' }

export interface EgressRules {
  /** CIDR blocks the operator allows although they are private, e.g. `10.1.0.0/16`. */
  readonly allowedCidrs: readonly string[]
  /** Addresses of this node, refused in every spelling. */
  readonly ownAddresses: readonly string[]
  /** Function name → its routes with an origin: a fetch to a matching host goes to the origin. */
  readonly origins: Readonly<Record<string, readonly { readonly pattern: string; readonly origin: string }[]>>
  /** By function name; who is not named has the defaults. */
  readonly limits: Readonly<Record<string, { readonly subrequests: number; readonly egress: EgressLimit }>>
  /** Dispatch namespace → script → the function that it is. Absent: there are none. */
  readonly dispatch?: Readonly<Record<string, Readonly<Record<string, string>>>>
}

export type EgressToAgent =
  | { readonly type: 'hello'; readonly pid: number }
  | { readonly type: 'listening'; readonly id: string }
  /** Every second, of functions whose numbers changed (all, first): sums since the process started, which `epoch` names. */
  | {
      readonly type: 'traffic'
      readonly epoch: string
      readonly functions: readonly {
        readonly functionName: string
        /** That were asked for; the refused are among them. */
        readonly requests: number
        readonly refused: number
        /** Over connections to the outside, heads included, as they are inside TLS. */
        readonly bytesOut: number
        readonly bytesIn: number
      }[]
    }
  /** The socket could not be made: the instance would have no way out. */
  | { readonly type: 'listen-failed'; readonly id: string; readonly message: string }
  | { readonly type: 'log'; readonly lines: readonly { id: string; functionName: string; message: string }[] }
