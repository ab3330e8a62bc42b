/**
 * Why an instance ended. `stopped` is ours (idle, replaced, shutdown); the others are faults: of the function, but for
 * `node_out_of_memory`, whose victim was below its own limit.
 */
export const EXIT_CAUSES = [
  'stopped',
  'crashed',
  'out_of_memory',
  'node_out_of_memory',
  'cpu_limit',
  'start_failed',
  'killed',
] as const
export type ExitCause = (typeof EXIT_CAUSES)[number]

export type InstanceState = 'blank' | 'starting' | 'running' | 'draining' | 'paused' | 'gone'

/** One process of a node, as `isola status` lists it. */
export interface ProcessStatus {
  readonly role: 'agent' | 'router' | 'egress' | 'lambda' | 'instance' | 'blank'
  readonly pid: number
  readonly state: InstanceState
  readonly memoryBytes: number
  /** CPU milliseconds, user and system, since its start. */
  readonly cpuMs: number
  readonly function?: string
  readonly version?: string
  readonly instance?: string
  /** Of a blank: what can begin as it, e.g. `worker`, `nodejs24/256/64`, `sandbox`. */
  readonly blankClass?: string
}

/** Why a version has as many instances as it has, on this node. */
export interface ScalingStatus {
  readonly functionName: string
  readonly versionId: string
  readonly desired: number
  readonly running: number
  readonly paused: number
  readonly starting: number
  /** Why so many are desired, in words of isola alone, with the values. */
  readonly reason: string
  /** Why it has not got what is desired; may hold the function's own words. Absent: nothing is in the way. */
  readonly obstacle?: string
  /** Mean requests in flight and waiting over the stable and the panic window. */
  readonly stableConcurrency: number
  readonly panicConcurrency: number
  readonly panicking: boolean
}

export interface EventStatus {
  readonly functionName: string
  /** Those that are being tried included. */
  readonly waiting: number
  /** Dead letters. */
  readonly dead: number
}

export interface NodeStatus {
  readonly version: string
  readonly dataDirectory: string
  readonly httpUrl: string
  readonly controlUrl: string
  readonly baseDomain: string
  readonly generation: number
  /** What confines an instance here, in words, e.g. "namespaces, own uid, no capabilities (unshare)". */
  readonly sandbox: string
  /** What limits an instance here, in words, e.g. "cgroup v1: memory, cpu, pids". */
  readonly limits: string
  /** What instances may use together. */
  readonly budget: { readonly memoryMib: number; readonly cpus: number }
  readonly scaling: readonly ScalingStatus[]
  /** Of functions with events that wait to be worked on, or that failed for good. */
  readonly events: readonly EventStatus[]
  readonly processes: readonly ProcessStatus[]
}
