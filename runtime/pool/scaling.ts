/**
 * How many instances a version should have, as a pure function of what was seen and of what was decided before.
 *
 * The starting point is Knative's autoscaler: the mean of requests in flight and waiting over a stable window of 60 s,
 * at 70 % of the target concurrency; a panic window of 6 s that takes over at 200 % of what the instances are for, and
 * then only scales up. Two things differ, because an isolate starts in 15 ms: requests that wait are answered at once
 * by as many instances as they need, without waiting for a window; and the CPU of the instances counts too, since one
 * workerd uses one core and requests in flight alone do not show that it is out of it.
 *
 * Every signal is divided by a fixed target and never compared with the present count, so a steady load has one answer.
 * But for a mean that stands right at the step from one count to the next: it crosses it by chance again and again, so an
 * instance that is there is too much only when the load is clearly below the step.
 */
import type { Policy } from '../../sdk/model/policy.ts'
import { STABLE_WINDOW_MS } from './demand-window.ts'

export interface PoolObservation {
  /** Paused ones included, those that leave not. */
  readonly running: number
  readonly starting: number
  readonly inFlight: number
  readonly queued: number
  /** Requests in flight and waiting, as a mean over the stable and the panic window. */
  readonly stable: number
  readonly panic: number
  /** Cores that the running instances use together. */
  readonly cpuShare: number
  /** Percent of the function's traffic this version gets: its part of the minimums. */
  readonly percent: number
  /** Minimum that a schedule asks for now. */
  readonly scheduledMin: number
  /** Minimum because the next request is expected: see `IdleHistogram`. */
  readonly predictedMin: number
  /** Since the last sign of a request. */
  readonly restMs: number
  /** After so long at rest nothing is kept but the minimum. */
  readonly idleMs: number
  readonly node: {
    /** Most instances of one version where the policy does not say. */
    readonly coresMax: number
    /** As many instances as the memory of the whole node has room for. */
    readonly memoryMax: number
    /** Every core is in use: more instances would not get more of them. */
    readonly cpuFull: boolean
  }
}

/** What a decision remembers for the next one. */
export interface ScalingState {
  readonly panicUntilMs: number
  readonly panicMost: number
  /** What was wanted within the scale-down delay: ever less, ever later. */
  readonly peaks: readonly { readonly wanted: number; readonly untilMs: number }[]
}

export interface ScalingDecision {
  readonly desired: number
  /** Without the scale-down delay: how many would be started if there were none. */
  readonly wanted: number
  readonly min: number
  readonly max: number
  readonly panicking: boolean
  /** In words, with the values. */
  readonly reason: string
  readonly state: ScalingState
}

export const INITIAL_SCALING_STATE: ScalingState = { panicUntilMs: -Infinity, panicMost: 0, peaks: [] }

/** Of the target concurrency: room for what arrives while the next instance starts. */
const TARGET_UTILISATION = 0.7
/** Of what the running instances are for. */
const PANIC_THRESHOLD = 2
/** Of one instance's target: only when fewer would be so far below theirs is one of those that are there too much. */
const SETTLED_MARGIN = 0.25
/** Of a core: beyond it requests wait inside the instance, where no queue can see them. */
const CPU_SATURATION = 0.85
/** One decision may ask for so many times the running instances, or for `SCALE_UP_FLOOR` where there are few. */
const SCALE_UP_RATE_MAX = 4
const SCALE_UP_FLOOR = 4
/** What was wanted is kept so long. */
const SCALE_DOWN_DELAY_MS = STABLE_WINDOW_MS
/** Sums of floating point numbers: 35.000000001 requests need no second instance. */
const EPSILON = 1e-6

interface Signal {
  readonly count: number
  readonly reason: string
}

export function decide(
  policy: Policy,
  seen: PoolObservation,
  state: ScalingState,
  nowMs: number,
): ScalingDecision {
  const most = boundAbove(policy, seen)
  const least = boundBelow(policy, seen, most)
  const demand = seen.inFlight + seen.queued
  if (demand === 0 && seen.restMs >= seen.idleMs) {
    const reason =
      least.count > 0
        ? least.reason
        : Number.isFinite(seen.restMs)
          ? `no demand for ${seconds(seen.restMs)} (idle after ${seconds(seen.idleMs)})`
          : 'no demand'
    return {
      desired: least.count,
      wanted: least.count,
      min: least.count,
      max: most.count,
      panicking: false,
      reason,
      state: INITIAL_SCALING_STATE,
    }
  }

  const target = targetPerInstance(policy)
  const panicLoad = seen.panic / (target * Math.max(1, seen.running))
  const panicUntilMs = panicLoad >= PANIC_THRESHOLD ? nowMs + STABLE_WINDOW_MS : state.panicUntilMs
  const panicking = nowMs < panicUntilMs
  let { count: wanted, reason } = strongestSignal(policy, seen, panicking ? panicLoad : undefined)
  const panicMost = panicking ? Math.max(wanted, state.panicMost) : 0
  if (panicMost > wanted) {
    wanted = panicMost
    reason = `panic: held at ${panicMost} for ${seconds(panicUntilMs - nowMs)} more (${reason})`
  }

  const present = seen.running + seen.starting
  const settled = Math.min(present, roundUp(seen.stable / target + SETTLED_MARGIN))
  if (settled > wanted && seen.stable > 0) {
    wanted = settled
    reason = `${seen.stable.toFixed(1)} requests on average over 60 s are hardly less than ${settled - 1} at ${target.toFixed(1)} ${settled === 2 ? 'is' : 'are'} for`
  }
  // The memory of a window keeps instances; it is no reason to start one.
  if (demand === 0 && wanted > present) wanted = present
  if (demand === 0 && wanted <= 1 && present > 0) {
    wanted = 1
    reason =
      least.count > 0
        ? least.reason
        : `no demand: kept for ${seconds(seen.idleMs - seen.restMs)} more (idle after ${seconds(seen.idleMs)})`
  }
  const stepMost = Math.max(present, SCALE_UP_FLOOR, seen.running * SCALE_UP_RATE_MAX)
  if (wanted > stepMost) {
    wanted = stepMost
    reason = `${reason}; not more than ${stepMost} in this step`
  }
  if (wanted < least.count) ({ count: wanted, reason } = least)
  if (wanted > most.count) {
    wanted = most.count
    reason = `${reason}; held at ${most.reason}`
  }

  const peaks = withPeak(state.peaks, wanted, nowMs)
  const peak = peaks[0]!
  const kept = Math.min(peak.wanted, present, most.count)
  if (kept > wanted) {
    reason = `kept at ${kept}: scale-down waits ${seconds(peak.untilMs - nowMs)} more (${wanted} now: ${reason})`
  }
  return {
    desired: Math.max(wanted, kept),
    wanted,
    min: least.count,
    max: most.count,
    panicking,
    reason,
    state: { panicUntilMs, panicMost, peaks },
  }
}

/** Never nothing, whatever a damaged head says: loads are divided by it. */
function targetPerInstance({ concurrency }: Policy): number {
  return Math.round((concurrency >= 1 ? concurrency : 1) * TARGET_UTILISATION * 1e6) / 1e6
}

/** Of a minimum of its function, what a version with so much of the traffic has to keep. */
export function partOfMin(min: number, percent: number): number {
  return roundUp((min * percent) / 100)
}

function strongestSignal(policy: Policy, seen: PoolObservation, panicLoad: number | undefined): Signal {
  const target = targetPerInstance(policy)
  const per = (load: number): number => roundUp(load / target)
  const aim = `a target of ${target.toFixed(1)} per instance`
  const demand = seen.inFlight + seen.queued
  let strongest: Signal = {
    count: per(seen.stable),
    reason: `${requests(seen.stable)} requests on average over 60 s at ${aim}`,
  }
  if (panicLoad !== undefined && per(seen.panic) > strongest.count) {
    const instances = Math.max(1, seen.running)
    strongest = {
      count: per(seen.panic),
      reason: `panic: ${requests(seen.panic)} over 6 s is ${Math.round(panicLoad * 100)} % of what ${instances} ${instances === 1 ? 'instance is' : 'instances are'} for`,
    }
  }
  // While there is a free slot nobody waits, and the windows are soon enough.
  const short = seen.queued > 0 || demand > seen.running * policy.concurrency
  // Room on top of one slot each there is none: a single request must not start two.
  const slots = Math.max(1, target)
  const bySlots = roundUp(demand / slots)
  if (short && bySlots >= strongest.count) {
    strongest = {
      count: bySlots,
      reason: `${seen.queued} waiting and ${seen.inFlight} in flight at a target of ${slots.toFixed(1)} per instance`,
    }
  }
  const present = seen.running + seen.starting
  const byCpu = roundUp(seen.cpuShare / CPU_SATURATION)
  const count = seen.node.cpuFull ? Math.min(byCpu, present) : byCpu
  if (demand > 0 && count > strongest.count) {
    const full = count < byCpu ? '; the node has no free core' : ''
    strongest = {
      count,
      reason: `instances use ${seen.cpuShare.toFixed(2)} cores at a target of ${CPU_SATURATION} each${full}`,
    }
  }
  return strongest
}

function boundAbove(policy: Policy, { node }: PoolObservation): Signal {
  const byPolicy: Signal =
    policy.max > 0
      ? { count: policy.max, reason: `max ${policy.max}` }
      : { count: node.coresMax, reason: `max ${node.coresMax} by the node's cores` }
  if (byPolicy.count <= node.memoryMax) return byPolicy
  return { count: node.memoryMax, reason: `max ${node.memoryMax} by the node's memory` }
}

function boundBelow(policy: Policy, seen: PoolObservation, most: Signal): Signal {
  const part = (min: number): number => partOfMin(min, seen.percent)
  const ofShare = seen.percent < 100 ? ` (${seen.percent} % of the traffic)` : ''
  let least: Signal = { count: part(policy.min), reason: `min ${part(policy.min)}${ofShare}` }
  if (part(seen.scheduledMin) > least.count) {
    const count = part(seen.scheduledMin)
    least = { count, reason: `min ${count} by schedule${ofShare}` }
  }
  if (seen.predictedMin > least.count) {
    least = {
      count: seen.predictedMin,
      reason: `warm for the next request, which its history expects by now`,
    }
  }
  if (least.count <= most.count) return least
  return { count: most.count, reason: `${least.reason}; held at ${most.reason}` }
}

/** The latest of equals, and before it only what was more. */
function withPeak(peaks: ScalingState['peaks'], wanted: number, nowMs: number): ScalingState['peaks'] {
  const kept = peaks.filter((peak) => peak.untilMs > nowMs && peak.wanted > wanted)
  kept.push({ wanted, untilMs: nowMs + SCALE_DOWN_DELAY_MS })
  return kept
}

function roundUp(value: number): number {
  return Math.max(0, Math.ceil(value - EPSILON))
}

function requests(mean: number): string {
  return mean.toFixed(mean < 1 ? 2 : 1)
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)} s`
}
