import type { Policy } from '../../sdk/model/policy.ts'

/**
 * How many instances a version should have, as a pure function of what was seen. Two signals call for more: requests
 * beyond the target concurrency, and instances whose process is out of CPU (one workerd uses one core, so requests
 * in flight alone do not show it). Fewer is not decided here: an instance leaves when it has been idle long enough.
 */
export interface PoolObservation {
  /** Running and not draining. */
  readonly running: number
  readonly starting: number
  readonly inFlight: number
  readonly queued: number
  /** Mean share of one core that the running instances used over the last second, 0–1. */
  readonly cpuShare: number
  /** Percent of the function's traffic this version gets: its part of `min`. */
  readonly percent: number
}

export interface ScalingDecision {
  readonly desired: number
  /** In words, with the values. */
  readonly reason: string
}

/** Of the target concurrency: room for what arrives while the next instance starts. */
const TARGET_UTILISATION = 0.7
/** Of a core: beyond it requests wait inside the instance, where no queue can see them. */
const CPU_SATURATION = 0.85

export interface ScalingMachine {
  /** Most instances of one version where the policy does not say. */
  readonly instancesMax: number
}

export function decideInstances(
  policy: Policy,
  observation: PoolObservation,
  machine: ScalingMachine,
): ScalingDecision {
  const max = policy.max === 0 ? machine.instancesMax : policy.max
  const min = Math.min(max, Math.ceil((policy.min * observation.percent) / 100))
  const demand = observation.inFlight + observation.queued
  const perInstance = Math.max(1, policy.concurrency * TARGET_UTILISATION)
  const present = observation.running + observation.starting

  let desired = min
  let reason = min > 0 ? `min ${min}` : 'no demand'
  const byConcurrency = Math.ceil(demand / perInstance)
  if (byConcurrency > desired) {
    desired = byConcurrency
    reason = `${demand} requests at a target of ${perInstance.toFixed(1)} per instance`
  }
  if (
    observation.running > 0 &&
    observation.starting === 0 &&
    demand > 0 &&
    observation.cpuShare > CPU_SATURATION
  ) {
    // One at a time: each changes the share the next decision sees.
    if (present + 1 > desired) {
      desired = present + 1
      reason = `instances use ${Math.round(observation.cpuShare * 100)} % of a core each`
    }
  }
  if (desired > max) {
    desired = max
    reason = `${reason}; held at max ${max}`
  }
  return { desired, reason }
}
