import type { ExitCause, InstanceState } from '../../sdk/model/node-status.ts'
import type { FunctionKind, Version, VersionContent } from '../../sdk/model/function.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { Freezer } from './wire.ts'

/**
 * What a kind of function must offer the agent: instances that start, say how they are, and end. The isolate driver
 * is one implementation, containers the next; nothing above asks which it holds.
 */
export interface InstanceDriver {
  /** What confines and limits an instance on this machine, in words. */
  readonly sandbox: string
  readonly limits: string

  /** Instances that an earlier agent left running; the dead and the unclaimed are cleared away. */
  adopt(): Promise<readonly Instance[]>

  /** Starts blanks of the class until `count` wait. Safe to call again; a blank is claimed by `start` without a word. */
  keepBlanks(blankClass: string, count: number): void

  /**
   * A running instance of `version`, ready for its first request. Throws `start_failed` with the function's own
   * message (a syntax error, a throw at load, no fetch handler, a start that takes over `startTimeoutMs`), and
   * `version_refused` for what could never start. Every other code is the node's own fault, `node_full` for want of room.
   */
  start(version: Version, options?: Partial<StartOptions>): Promise<Instance>

  /** What a new instance of a version takes and begins as. `content` is absent until the version's document was read. */
  foresee(version: {
    readonly kind: FunctionKind
    readonly content?: VersionContent
    readonly memoryMib: number
  }): Foresight

  /** Blanks as processes, for `isola status`. */
  blanks(): readonly BlankStatus[]

  /** Of every process there is, also of those that are just starting. */
  pids(): readonly number[]

  /** Ends blanks and helpers, and every instance not yet stopped. Leaves no process behind. */
  close(): Promise<void>
}

export interface BlankStatus {
  readonly blankClass: string
  readonly pid: number
  readonly memoryBytes: number
  readonly cpuMs: number
}

export interface Foresight {
  /** Expected before it is measured, MiB. */
  readonly reserveMib: number
  /** Which blanks it can begin as; absent: none. E.g. `worker`, `nodejs24/256`, `sandbox`. */
  readonly blankClass?: string
}

/** `first` to be ended, before any other; `last`: only if nothing else is left. */
export type MemoryRank = 'first' | 'ordinary' | 'last'

export interface StartOptions {
  /** In force now. @default what the version asks for, else `DEFAULT_FUNCTION_LIMITS` */
  readonly memoryMib: number
  readonly cpuMs: number
}

export interface Instance {
  readonly id: string
  readonly functionName: string
  readonly versionId: string
  readonly pid: number
  /** Unix socket that speaks HTTP/1.1. */
  readonly socketPath: string
  readonly startedAtMs: number
  /** Limit it was started with, MiB. */
  readonly memoryMib: number
  readonly freezer: Freezer | undefined
  readonly state: InstanceState
  /** Set once the instance has ended. */
  readonly exit: ExitReport | undefined
  /** Settles once, when the process is gone. Never rejects. */
  readonly exited: Promise<ExitReport>

  /** Its share of the processors relative to other instances; 100 is ordinary. Does nothing where the machine cannot. */
  setCpuWeight(weight: number): void
  /** Whom the kernel ends where instances together have used up the node's memory. Does nothing where the machine cannot. */
  setMemoryRank(rank: MemoryRank): void
  /** Synchronous and cheap: read by the watchdog many times a second. Zeroes once the instance is gone. */
  usage(): { readonly cpuMs: number; readonly memoryBytes: number }
  /** `waitUntil` promises not yet settled; 0 if the instance does not answer within a second, and at once if it is frozen. */
  pendingWork(): Promise<number>
  /** SIGTERM, then SIGKILL after `graceMs`. The caller has drained it. One that is frozen is thawed first, here and in `kill`. */
  stop(options: { readonly graceMs: number }): Promise<ExitReport>
  /** SIGKILL at once; `cause` becomes the report's cause, and `message`, if given, its words: a limit may have changed since the start. */
  kill(cause: ExitCause, message?: string): void
}

export interface ExitReport {
  readonly cause: ExitCause
  /** For a person, with values: "memory limit of 128 MiB reached", "exit code 1". */
  readonly message: string
  /** What the function itself said last; for its log alone, because it may hold what visitors must not see. */
  readonly detail?: string
  /** CPU of its whole life, where it could still be read. */
  readonly cpuMs?: number
}

/** Headers between the router and an instance, beside the ordinary ones. No client can send those that start with `isola-`. */
export const INSTANCE_HEADERS = {
  /** To the instance: `[\w.:-]{1,128}`; its log lines carry it. */
  requestId: 'x-request-id',
  /** To the instance: `http` or `https`, the scheme of `request.url`; hidden from the function. Absent: `http`. */
  proto: 'isola-proto',
  /** What `request.cf` would be made of; the router lets nobody send it. */
  cf: 'isola-cf',
  /** From the instance: an `ErrorCode`, where the function gave no answer of its own. */
  error: 'isola-error',
} as const

/** Where a driver sends what its instances write. Must not throw and must not block. */
export type LogSink = (line: LogLine) => void
