/** An instance's life as the supervisor reports it: started or not, measured, ended. */
import { HEALTHY_ANSWERS, HEALTHY_LIFE_MS } from './crash-loop.ts'
import { setMemoryRanks } from './memory-ranks.ts'
import type { NodeEvent } from './node-events.ts'
import { onSilence } from './planner-demand.ts'
import { relieve } from './planner-places.ts'
import { reserveOf } from './planner-records.ts'
import { refuse, scale } from './planner-scale.ts'
import type { NodeState } from './planner-state.ts'

type EventOf<Type extends NodeEvent['type']> = Extract<NodeEvent, { readonly type: Type }>

/** After a start that failed for the node's reasons. */
const NODE_FAULT_MS = 1_000
/** A trial start's instance whose function is not deployed by then leaves. */
const TRIAL_MS = 10_000

export function onFound(node: NodeState, { instance: found }: EventOf<'found'>, nowMs: number): void {
  const { id, functionName, versionId, memoryMib } = found
  if (node.instanceById.has(id)) return
  const version = node.versionOf(functionName, versionId)
  const instance = node.addInstance({ id, version, memoryMib, reserveMib: reserveOf(version) }, nowMs)
  if (node.headSeen) {
    instance.trialUntilMs = nowMs + TRIAL_MS
    scale(node, version, nowMs)
  }
}

export function onStarted(node: NodeState, event: EventOf<'started'>, nowMs: number): void {
  const { version, memoryMib: plannedMib, reservedMib } = node.endStart(event.startId)
  // Outdated is only what the head has changed under. One that is otherwise than planned would be so again, for ever.
  const isAsWanted = event.memoryMib === version.spec?.memoryMib
  const memoryMib = isAsWanted ? (event.memoryMib ?? plannedMib) : (plannedMib ?? event.memoryMib)
  node.addInstance({ id: event.instanceId, version, memoryMib, reserveMib: reservedMib }, nowMs)
  scale(node, version, nowMs)
}

export function onStartFailed(
  node: NodeState,
  { startId, fault, message }: EventOf<'start-failed'>,
  nowMs: number,
): void {
  const { version } = node.endStart(startId)
  switch (fault) {
    case 'full':
      node.fullUntilMs = nowMs + NODE_FAULT_MS
      break
    case 'node':
      version.startAfterMs = nowMs + NODE_FAULT_MS
      version.obstacle = `the node could not start one and tries again every second: ${message}`
      break
    case 'engine': {
      version.startAfterMs = nowMs + NODE_FAULT_MS
      // Which socket is for the operator; who asked had better not wait for an engine to be installed.
      const what = `function "${version.fn.name}" needs this node's container engine, which does not answer: "isola doctor" there says what is missing`
      const refusal = { code: 'engine_unavailable', message: what, retryAfterMs: NODE_FAULT_MS } as const
      refuse(node, version, refusal, nowMs)
      break
    }
    case 'version': {
      const retryAfterMs = node.crashLoops.onStartFailed(version.id, message, nowMs)
      const what = `function "${version.fn.name}" did not start: ${message}`
      refuse(node, version, { code: 'start_failed', message: what, retryAfterMs }, nowMs)
    }
  }
  scale(node, version, nowMs)
  node.forget(version)
}

export function onUsage(node: NodeState, { instances }: EventOf<'usage'>, nowMs: number): void {
  node.cpuShare = 0
  for (const { id, memoryMib, cpuShare } of instances) {
    const instance = node.instanceById.get(id)
    if (instance === undefined) continue
    node.charge(instance, memoryMib)
    instance.cpuShare = cpuShare
    node.cpuShare += cpuShare
    if (node.crashLoops.size > 0 && nowMs - instance.upSinceMs >= HEALTHY_LIFE_MS) {
      node.crashLoops.onHealthy(instance.version.id, instance.upSinceMs)
    }
  }
  relieve(node, nowMs)
  setMemoryRanks(node)
  node.unsettled ||= node.wanting.size > 0
}

export function onEnded(
  node: NodeState,
  { id, cause, message, answered }: EventOf<'ended'>,
  nowMs: number,
): void {
  const instance = node.instanceById.get(id)
  if (instance === undefined) return
  const { version } = instance
  node.removeInstance(instance)
  // Whatever the driver lacked, there is more of it now.
  node.fullUntilMs = -Infinity
  if (cause === 'crashed' || cause === 'out_of_memory') {
    const healthy = answered >= HEALTHY_ANSWERS || nowMs - instance.upSinceMs >= HEALTHY_LIFE_MS
    if (healthy) node.crashLoops.onHealthy(version.id, instance.upSinceMs)
    else node.crashLoops.onCrash(version.id, message, nowMs)
  }
  scale(node, version, nowMs)
  node.forget(version)
}

/** Nothing is in flight; what was asked of it is not answered any more, and the next router counts from zero. */
export function onRouterLost(node: NodeState, nowMs: number): void {
  for (const instance of node.instanceById.values()) {
    instance.inFlight = 0
    instance.started = 0
    instance.progress = 0
    instance.pauseAfterMs = nowMs
    instance.checkAtMs = nowMs
  }
  for (const version of node.versionById.values()) {
    version.requests = 0
    onSilence(version, nowMs)
  }
}
