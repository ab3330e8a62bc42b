/** The ladder of an instance that rests: running, paused, gone. */
import { idleMsOf, scale } from './planner-scale.ts'
import { policyOf, presentOf, type PlannedInstance } from './planner-records.ts'
import { type NodeState } from './planner-state.ts'

/** One more than is wanted leaves once it has rested so long: requests that come and go are seen every 100 ms. */
const SURPLUS_REST_MS = 1_000
const CHECK_MS = 1_000
/** An answer to `pause` that has not come by then does not come any more. */
const PAUSE_ANSWER_MS = 10_000

export function tend(node: NodeState, instance: PlannedInstance, nowMs: number): void {
  if (instance.phase === 'draining') return
  const { version } = instance
  if (version.fn.policy === undefined) {
    if (node.headSeen && nowMs >= instance.trialUntilMs) {
      node.drain(instance, `function "${version.fn.name}" is not deployed`)
    } else instance.checkAtMs = Math.max(instance.trialUntilMs, nowMs + 1)
    return
  }
  if (instance.inFlight > 0) {
    instance.checkAtMs = nowMs + CHECK_MS
    return
  }
  const restMs = nowMs - instance.lastActiveMs
  const idleMs = idleMsOf(version)
  if (restMs >= Math.min(idleMs, SURPLUS_REST_MS)) {
    if (version.decidedAtMs < nowMs) scale(node, version, nowMs)
    if (leave(node, instance, { restMs, idleMs })) return
  }
  const { pauseMs } = policyOf(version)
  const pauseAtMs = Math.max(instance.lastActiveMs + pauseMs, instance.pauseAfterMs)
  const pausable = pauseMs > 0 && instance.phase === 'running'
  if (pausable && nowMs >= pauseAtMs) {
    instance.pauseAfterMs = nowMs + PAUSE_ANSWER_MS
    node.act({ type: 'pause', id: instance.id })
  }
  instance.checkAtMs = Math.min(
    nowMs + CHECK_MS,
    restMs < idleMs ? instance.lastActiveMs + idleMs : Infinity,
    pausable && pauseAtMs > nowMs ? pauseAtMs : Infinity,
  )
}

function leave(
  node: NodeState,
  instance: PlannedInstance,
  { restMs, idleMs }: { readonly restMs: number; readonly idleMs: number },
): boolean {
  const { version } = instance
  const { decision } = version
  // Retired within the decision just made.
  if (decision === undefined || (instance.phase as string) === 'draining') return true
  const present = presentOf(version)
  if (restMs >= idleMs && present > decision.wanted) {
    node.drain(instance, `idle for ${Math.round(restMs / 100) / 10} s`)
    return true
  }
  if (restMs < SURPLUS_REST_MS || present <= decision.desired) return false
  const longest = longestAtRest(version.instances)
  if (longest !== undefined) {
    node.drain(longest, `${present} instances, and ${decision.desired} wanted: ${decision.reason}`)
  }
  return longest === instance
}

function longestAtRest(instances: Iterable<PlannedInstance>): PlannedInstance | undefined {
  let longest: PlannedInstance | undefined
  for (const instance of instances) {
    if (instance.phase === 'draining' || instance.inFlight > 0) continue
    if (longest === undefined || instance.lastActiveMs < longest.lastActiveMs) longest = instance
  }
  return longest
}

export function onPauseRefused(instance: PlannedInstance, nowMs: number): void {
  instance.pauseAfterMs = nowMs + policyOf(instance.version).pauseMs
  instance.checkAtMs = nowMs
}
