/**
 * Messages between the agent and the processes that outlive it. The router (and the egress proxy) listen on a unix
 * socket; the agent connects, again after every restart, and says all it knows. So either side can be killed and the
 * other goes on with what it last heard. One JSON object a line (`channel.ts`).
 */
import type { ExitCause } from '../../sdk/model/node-status.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { Snapshot } from '../../sdk/model/snapshot.ts'

/** An instance as the router needs it. */
export interface InstanceAddress {
  readonly id: string
  readonly functionName: string
  readonly versionId: string
  readonly socketPath: string
}

export type AgentToRouter =
  | { readonly type: 'snapshot'; readonly snapshot: Snapshot }
  /** All running instances, after (re)connecting: the router forgets any other. */
  | { readonly type: 'instances'; readonly instances: readonly InstanceAddress[] }
  | { readonly type: 'instance-up'; readonly instance: InstanceAddress; readonly cold: boolean }
  /** No new requests for it; answered by `instance-drained` when nothing is in flight. */
  | { readonly type: 'instance-drain'; readonly id: string }
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
      readonly code: 'start_failed' | 'crash_loop' | 'node_full'
      readonly message: string
      /** Until then requests are refused at once, without asking again. */
      readonly retryAfterMs: number
    }
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
  /** A connection to it was refused: it is probably gone. */
  | { readonly type: 'instance-unreachable'; readonly id: string; readonly message: string }
  | { readonly type: 'log'; readonly lines: readonly LogLine[]; readonly dropped: number }
  | { readonly type: 'drained' }

/** Sent every 100 ms for instances with something in flight or changed since. */
export interface InstanceLoad {
  readonly id: string
  readonly inFlight: number
  /** Counts heads, body chunks and message frames that came from the instance: unchanged means no sign of life. */
  readonly progress: number
}

export interface VersionLoad {
  readonly functionName: string
  readonly versionId: string
  readonly inFlight: number
  readonly queued: number
  /** Requests since the router started. */
  readonly requests: number
}

export type AgentToEgress =
  /** Accept connections of this instance on `socketPath` (owned by `uid`), once assigned. Answered by `listening`. */
  | { readonly type: 'listen'; readonly id: string; readonly socketPath: string; readonly uid: number }
  | { readonly type: 'assign'; readonly id: string; readonly functionName: string }
  | { readonly type: 'close'; readonly id: string }
  /** All sockets there should be, after (re)connecting: any other is closed. */
  | {
      readonly type: 'sockets'
      readonly sockets: readonly {
        readonly id: string
        readonly socketPath: string
        readonly uid: number
        readonly functionName?: string
      }[]
    }
  /** Replaces all rules. */
  | { readonly type: 'rules'; readonly rules: EgressRules }
  | { readonly type: 'shutdown' }

export interface EgressRules {
  /** CIDR blocks the operator allows although they are private, e.g. `10.1.0.0/16`. */
  readonly allowedCidrs: readonly string[]
  /** Addresses of this node, refused in every spelling. */
  readonly ownAddresses: readonly string[]
  /** Function name → its routes with an origin: a fetch to a matching host goes to the origin. */
  readonly origins: Readonly<Record<string, readonly { readonly pattern: string; readonly origin: string }[]>>
}

export type EgressToAgent =
  | { readonly type: 'hello'; readonly pid: number }
  | { readonly type: 'listening'; readonly id: string }
  /** The socket could not be made: the instance would have no way out. */
  | { readonly type: 'listen-failed'; readonly id: string; readonly message: string }
  | { readonly type: 'log'; readonly lines: readonly { id: string; functionName: string; message: string }[] }
