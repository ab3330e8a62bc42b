/** The records of the planner: a function, its versions, the instances of those; and what follows from one record alone. */
import { DEFAULT_POLICY, type Policy } from '../../sdk/model/policy.ts'
import type { MemoryRank } from './driver.ts'
import type { DemandWindow } from './demand-window.ts'
import type { IdleHistogram, IdleWindows } from './idle-histogram.ts'
import type { VersionSpec } from './node-events.ts'
import { INITIAL_SCALING_STATE, type ScalingDecision, type ScalingState } from './scaling.ts'

export interface PlannedFunction {
  readonly name: string
  /** Of the head that is in force; undefined where it does not name the function. */
  policy: Policy | undefined
  readonly versions: Set<PlannedVersion>
  /** With the most traffic: the one that is warmed ahead of the next request. */
  main: PlannedVersion | undefined
  scheduledMin: number
  /** Requests in flight and waiting, of all versions. */
  level: number
  /** Charged for its instances and starts; those that leave are not counted. */
  heldMib: number
  /** Since when it holds nothing. */
  noneSinceMs: number
  /** Leaves for this function: until it has, no other busy one is taken for it. */
  awaited: PlannedInstance | undefined
  /** Only with `idle: auto`. */
  history: IdleHistogram | undefined
  windows: IdleWindows | undefined
  restSinceMs: number | undefined
  /** The next request is expected now. */
  predicted: boolean
}

export interface PlannedVersion {
  readonly id: string
  readonly fn: PlannedFunction
  /** Undefined for one that the head does not name. */
  spec: VersionSpec | undefined
  readonly instances: Set<PlannedInstance>
  starting: number
  queued: number
  requests: number
  level: number
  lastActiveMs: number
  window: DemandWindow | undefined
  scaling: ScalingState
  decision: ScalingDecision | undefined
  decidedAtMs: number
  /** Instances that are to be started as soon as there is a place. */
  missing: number
  waitingSinceMs: number
  delayToldAtMs: number
  /** A start failed for the node's reasons: none before. */
  startAfterMs: number
  /** Why it has not got what it wants. */
  obstacle: string | undefined
}

export interface PlannedInstance {
  readonly id: string
  readonly version: PlannedVersion
  /** Its limit. */
  readonly memoryMib: number | undefined
  readonly upSinceMs: number
  /** Set aside for it, whatever becomes of its version. */
  reserveMib: number
  phase: 'running' | 'paused' | 'draining'
  chargedMib: number
  cpuShare: number
  inFlight: number
  progress: number
  started: number
  lastActiveMs: number
  /** Not asked to pause before. */
  pauseAfterMs: number
  /** Not looked at by ticks before. */
  checkAtMs: number
  /** One of a function that no head has named yet is kept until then: a trial start comes before its deploy. */
  trialUntilMs: number
  cpuWeight: number | undefined
  memoryRank: MemoryRank | undefined
  /** It was busy, and makes room for this function. */
  leavesFor: PlannedFunction | undefined
}

export interface PlannedStart {
  readonly version: PlannedVersion
  readonly reservedMib: number
  readonly memoryMib: number | undefined
}

export function policyOf(version: PlannedVersion): Policy {
  return version.spec?.policy ?? version.fn.policy ?? DEFAULT_POLICY
}

export function percentOf(version: PlannedVersion): number {
  return version.spec?.percent ?? 0
}

/** What an instance of it is expected to take; one that no head names takes what its siblings do. */
export function reserveOf(version: PlannedVersion): number {
  return version.spec?.reserveMib ?? version.fn.main?.spec?.reserveMib ?? 0
}

export function isOutdated(instance: PlannedInstance): boolean {
  const limitMib = instance.version.spec?.memoryMib
  return instance.memoryMib !== undefined && limitMib !== undefined && instance.memoryMib !== limitMib
}

/** Running and paused. */
export function presentOf(version: PlannedVersion): number {
  let present = 0
  for (const { phase } of version.instances) if (phase !== 'draining') present++
  return present
}

export function startingOf(fn: PlannedFunction): number {
  let count = 0
  for (const { starting } of fn.versions) count += starting
  return count
}

export function newFunction(name: string, scheduledMin: number): PlannedFunction {
  return {
    name,
    policy: undefined,
    versions: new Set(),
    main: undefined,
    scheduledMin,
    level: 0,
    heldMib: 0,
    noneSinceMs: -Infinity,
    awaited: undefined,
    history: undefined,
    windows: undefined,
    restSinceMs: undefined,
    predicted: false,
  }
}

export function newVersion(id: string, fn: PlannedFunction): PlannedVersion {
  return {
    id,
    fn,
    spec: undefined,
    instances: new Set(),
    starting: 0,
    queued: 0,
    requests: 0,
    level: 0,
    lastActiveMs: -Infinity,
    window: undefined,
    scaling: INITIAL_SCALING_STATE,
    decision: undefined,
    decidedAtMs: -Infinity,
    missing: 0,
    waitingSinceMs: 0,
    delayToldAtMs: -Infinity,
    startAfterMs: -Infinity,
    obstacle: undefined,
  }
}

export function newInstance(
  made: Pick<PlannedInstance, 'id' | 'version' | 'memoryMib' | 'reserveMib'>,
  nowMs: number,
): PlannedInstance {
  return {
    ...made,
    upSinceMs: nowMs,
    phase: 'running',
    chargedMib: 0,
    cpuShare: 0,
    inFlight: 0,
    progress: 0,
    started: 0,
    lastActiveMs: nowMs,
    pauseAfterMs: nowMs,
    checkAtMs: nowMs,
    trialUntilMs: -Infinity,
    cpuWeight: undefined,
    memoryRank: undefined,
    leavesFor: undefined,
  }
}
