/** What one version should have, from what is known of it: the observation for `decide`, and what follows from its answer. */
import type { ScalingStatus } from '../../sdk/model/node-status.ts'
import { PANIC_WINDOW_MS, STABLE_WINDOW_MS } from './demand-window.ts'
import { IDLE_FALLBACK_MS } from './idle-histogram.ts'
import {
  isOutdated,
  percentOf,
  policyOf,
  presentOf,
  reserveOf,
  type PlannedVersion,
} from './planner-records.ts'
import { type NodeState } from './planner-state.ts'
import { onSilence } from './planner-demand.ts'
import type { StartRefusalCode } from './wire.ts'
import { decide, partOfMin, type PoolObservation, type ScalingDecision } from './scaling.ts'

/** Each version that ticks look at is decided anew at least so often. */
export const DECISION_MS = 1_000

/** Versions without traffic (replaced, previewed) leave sooner than their policy's idle time says. */
const UNWANTED_IDLE_MS_MAX = 10_000
/** Where history says when an instance is needed again, it leaves soon after its last request. */
const UNLOAD_MS = 5_000
/** Of all cores. */
const CPU_FULL = 0.9
/** An instance that can never have a place is not asked for again so long. */
const NEVER_FITS_RETRY_MS = 10_000
const DELAY_TOLD_EVERY_MS = 1_000

export function idleMsOf(version: PlannedVersion): number {
  const { idleMs } = policyOf(version)
  let ms = idleMs === 'auto' ? IDLE_FALLBACK_MS : idleMs
  const { windows } = version.fn
  if (idleMs === 'auto' && windows !== undefined) {
    ms = windows.preWarmMs > 0 ? UNLOAD_MS : windows.keepAliveMs
  }
  return percentOf(version) > 0 ? ms : Math.min(ms, UNWANTED_IDLE_MS_MAX)
}

/** Without what is only predicted: the minimums that somebody asked for. */
export function askedMinOf(version: PlannedVersion): number {
  return partOfMin(Math.max(policyOf(version).min, version.fn.scheduledMin), percentOf(version))
}

/** Decides anew and says what is missing. Starts nothing itself: places are given out by `givePlaces`. */
export function scale(node: NodeState, version: PlannedVersion, nowMs: number): void {
  version.decidedAtMs = nowMs
  if (version.fn.policy === undefined) {
    want(node, version, 0, nowMs)
    return
  }
  const decision = judge(node, version, nowMs)
  version.decision = decision
  version.scaling = decision.state
  node.active.add(version)

  let present = 0
  let outdated = 0
  let inFlight = 0
  for (const instance of version.instances) {
    if (instance.phase === 'draining') continue
    present++
    inFlight += instance.inFlight
    if (isOutdated(instance)) outdated++
  }
  const atRest = inFlight === 0 && version.queued === 0
  // Of those with another limit than the head's, as many are replaced as are wanted for more than their memory.
  const target = outdated > 0 && atRest ? decision.min : decision.desired
  if (outdated > 0 && present - outdated >= target) retireOutdated(node, version)
  else if (present - outdated > decision.max) retireAboveMax(node, version, present - outdated - decision.max)
  let missing = target - (present - outdated) - version.starting
  if (missing > 0 && outdated > 0) {
    const room = decision.max - present - version.starting
    // At max one leaves for the other: it finishes what it has, and a start is soon done.
    if (room <= 0 && version.starting === 0) retireOutdated(node, version, 1)
    missing = Math.min(missing, room > 0 || version.starting > 0 ? room : 1)
  }
  want(node, version, allowed(node, version, missing, nowMs), nowMs)
}

function judge(node: NodeState, version: PlannedVersion, nowMs: number): ScalingDecision {
  return decide(policyOf(version), observe(node, version, nowMs), version.scaling, nowMs)
}

function observe(node: NodeState, version: PlannedVersion, nowMs: number): PoolObservation {
  const { cpus, memoryMib } = node.budget
  let inFlight = 0
  let cpuShare = 0
  for (const instance of version.instances) {
    if (instance.phase === 'draining') continue
    inFlight += instance.inFlight
    cpuShare += instance.cpuShare
  }
  const isMain = version.fn.main === version
  return {
    running: presentOf(version),
    starting: version.starting,
    inFlight,
    queued: version.queued,
    stable: version.window?.mean(STABLE_WINDOW_MS, nowMs) ?? 0,
    panic: version.window?.mean(PANIC_WINDOW_MS, nowMs) ?? 0,
    cpuShare,
    percent: percentOf(version),
    scheduledMin: version.fn.scheduledMin,
    predictedMin: isMain && version.fn.predicted ? 1 : 0,
    restMs: inFlight + version.queued > 0 ? 0 : nowMs - version.lastActiveMs,
    idleMs: idleMsOf(version),
    node: {
      coresMax: Math.max(2, Math.floor(cpus)),
      memoryMax: Math.max(1, Math.floor(memoryMib / Math.max(1, reserveOf(version)))),
      cpuFull: node.cpuShare >= cpus * CPU_FULL,
    },
  }
}

/** How many of `missing` may be started at all, whatever the places. Who waits for nothing is told. */
function allowed(node: NodeState, version: PlannedVersion, missing: number, nowMs: number): number {
  if (missing <= 0) {
    version.obstacle = undefined
    return 0
  }
  const reserveMib = reserveOf(version)
  const name = version.fn.name
  if (reserveMib > node.budget.memoryMib) {
    refuse(
      node,
      version,
      {
        code: 'node_full',
        message: `an instance of "${name}" is expected to take ${mib(reserveMib)} and the node has ${mib(node.budget.memoryMib)} for all: give it less memory or the node more`,
        retryAfterMs: NEVER_FITS_RETRY_MS,
      },
      nowMs,
    )
    return 0
  }
  if (nowMs < version.startAfterMs) {
    // What exactly is for the operator: it may name files and addresses of the node.
    tellDelay(node, version, 'it could not start one and tries again every second, see its log', nowMs)
    return 0
  }
  const allowance = node.crashLoops.check(version.id, nowMs)
  if (allowance.type === 'any') {
    // Who waited for a place before waits for the same reason still.
    if (version.missing === 0) version.obstacle = undefined
    return missing
  }
  if (allowance.type === 'probe') {
    version.obstacle = `one instance at a time until it answers: it kept failing (${allowance.message})`
    let unproven = version.starting
    for (const { upSinceMs } of version.instances) if (upSinceMs >= allowance.faultAtMs) unproven++
    return unproven > 0 ? 0 : 1
  }
  refuse(
    node,
    version,
    {
      code: 'crash_loop',
      message: `function "${name}" keeps failing and rests before it is tried again: ${allowance.message}`,
      retryAfterMs: Math.ceil(allowance.waitMs),
    },
    nowMs,
  )
  return 0
}

/** Who waits goes on waiting, and is told why at the deadline. */
export function tellDelay(node: NodeState, version: PlannedVersion, reason: string, nowMs: number): void {
  if (version.queued === 0 || nowMs - version.delayToldAtMs < DELAY_TOLD_EVERY_MS) return
  version.delayToldAtMs = nowMs
  node.act({ type: 'delay', versionId: version.id, reason })
}

export function refuse(
  node: NodeState,
  version: PlannedVersion,
  refusal: {
    readonly code: StartRefusalCode
    readonly message: string
    readonly retryAfterMs: number
  },
  nowMs: number,
): void {
  version.obstacle = refusal.message
  // Instances that serve go on; only where there is none is waiting hopeless.
  if (version.queued === 0 || presentOf(version) + version.starting > 0) return
  onSilence(version, nowMs)
  node.act({ type: 'refuse', versionId: version.id, ...refusal })
}

function want(node: NodeState, version: PlannedVersion, missing: number, nowMs: number): void {
  if (missing > version.missing) node.unsettled = true
  if (missing > 0 && version.missing === 0) version.waitingSinceMs = nowMs
  version.missing = missing
  if (missing > 0) node.wanting.add(version)
  else node.wanting.delete(version)
}

function retireOutdated(node: NodeState, version: PlannedVersion, countMax = Infinity): void {
  let count = 0
  for (const instance of version.instances) {
    if (instance.phase === 'draining' || !isOutdated(instance)) continue
    if (count++ >= countMax) return
    node.drain(
      instance,
      `its memory limit of ${mib(instance.memoryMib!)} is now ${mib(version.spec!.memoryMib)}`,
    )
  }
}

/** A max that was lowered holds at once: whoever has least to do finishes it and leaves. */
function retireAboveMax(node: NodeState, version: PlannedVersion, count: number): void {
  const staying = [...version.instances].filter(
    (instance) => instance.phase !== 'draining' && !isOutdated(instance),
  )
  staying.sort((a, b) => a.inFlight - b.inFlight || a.lastActiveMs - b.lastActiveMs)
  for (const instance of staying.slice(0, count)) {
    node.drain(instance, `${staying.length} instances, and max is ${version.decision!.max}`)
  }
}

export function explain(node: NodeState, nowMs: number): ScalingStatus[] {
  const statuses: ScalingStatus[] = []
  for (const version of node.versionById.values()) {
    if (version.fn.policy === undefined) continue
    const obstacle = obstacleOf(node, version, nowMs)
    if (!node.active.has(version) && obstacle === undefined) continue
    const { desired, reason, panicking, min } = judge(node, version, nowMs)
    const present = presentOf(version)
    if (present + version.starting + version.queued + min === 0 && obstacle === undefined) continue
    let paused = 0
    for (const { phase } of version.instances) if (phase === 'paused') paused++
    statuses.push({
      functionName: version.fn.name,
      versionId: version.id,
      desired,
      running: present - paused,
      paused,
      starting: version.starting,
      reason,
      ...(obstacle !== undefined && { obstacle }),
      stableConcurrency: version.window?.mean(STABLE_WINDOW_MS, nowMs) ?? 0,
      panicConcurrency: version.window?.mean(PANIC_WINDOW_MS, nowMs) ?? 0,
      panicking,
    })
  }
  return statuses
}

/** Of a version that keeps failing as it is now, whoever asked for it last. */
function obstacleOf(node: NodeState, version: PlannedVersion, nowMs: number): string | undefined {
  const allowance = node.crashLoops.check(version.id, nowMs)
  if (allowance.type !== 'none') return version.obstacle
  return `it keeps failing and is tried again in ${(allowance.waitMs / 1_000).toFixed(1)} s: ${allowance.message}`
}

export function mib(value: number): string {
  return `${Math.round(value)} MiB`
}
