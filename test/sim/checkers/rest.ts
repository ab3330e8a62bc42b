import { wantedInstances, type MakeChecker } from './checker.ts'
import { askedMin } from './minimums.ts'

/** Reports every 100 ms, looks every second, and a message that stalls. */
const NOTICE_MS = 2_500
/** Of a version that the head does not name. */
const UNWANTED_IDLE_MS = 10_000

/** A version without requests keeps no more than its minimum, once its idle time is over. */
export const idleIsGone: MakeChecker = (node, fail) => {
  const activeAtMs = new Map<string, number>()
  const versionIdByInstance = new Map<string, string>()
  let changedAtMs = 0
  return {
    onFact(fact, nowMs) {
      switch (fact.type) {
        case 'running':
          versionIdByInstance.set(fact.id, fact.versionId)
          activeAtMs.set(fact.versionId, nowMs)
          break
        case 'queued':
          activeAtMs.set(fact.versionId, nowMs)
          break
        case 'slot':
        case 'released': {
          const versionId = versionIdByInstance.get(fact.instanceId)
          if (versionId !== undefined) activeAtMs.set(versionId, nowMs)
          break
        }
        case 'gone':
          versionIdByInstance.delete(fact.id)
          break
        case 'head':
        case 'prewarm':
        case 'agent':
        case 'router':
          changedAtMs = nowMs
          break
        default:
      }
    },
    everySecond(nowMs) {
      if (!node.agentIsUp || nowMs - changedAtMs < NOTICE_MS) return
      const specs = new Map(node.fleet.specs().map((spec) => [spec.versionId, spec]))
      const versionIds = new Set([...node.driver.instances.values()].map(({ versionId }) => versionId))
      for (const versionId of versionIds) {
        const spec = specs.get(versionId)
        if (spec?.policy.idleMs === 'auto') continue
        const { policy } = node.fleet.functions.get(versionId.split('.')[0]!) ?? {}
        const idleMs = spec?.policy.idleMs ?? unwantedIdleMs(policy?.idleMs)
        const restMs = nowMs - Math.max(changedAtMs, activeAtMs.get(versionId) ?? 0)
        if (restMs < idleMs + NOTICE_MS) continue
        const instances = wantedInstances(node, versionId)
        if (
          instances.some(({ onEndByRequestId, state }) => onEndByRequestId.size > 0 || state === 'starting')
        )
          continue
        const min = spec === undefined ? 0 : askedMin(node, spec)
        if (instances.length > min)
          fail(
            `${versionId} has ${instances.length} instances after ${restMs.toFixed(0)} ms without requests (idle ${idleMs} ms, min ${min})`,
          )
      }
    },
  }
}

/** Undefined: its function is deleted. */
function unwantedIdleMs(idleMs: number | 'auto' | undefined): number {
  if (idleMs === undefined) return 0
  return idleMs === 'auto' ? UNWANTED_IDLE_MS : Math.min(idleMs, UNWANTED_IDLE_MS)
}

/** An instance at rest is frozen after its policy's time. */
export const restIsPaused: MakeChecker = (node, fail) => {
  const restSinceMs = new Map<string, number>()
  return {
    onFact(fact, nowMs) {
      if (fact.type === 'slot' || fact.type === 'released') restSinceMs.set(fact.instanceId, nowMs)
      else if (fact.type === 'running') restSinceMs.set(fact.id, nowMs)
      else if (fact.type === 'gone') restSinceMs.delete(fact.id)
      else if (fact.type === 'head' || fact.type === 'agent' || fact.type === 'router') {
        for (const id of restSinceMs.keys()) restSinceMs.set(id, nowMs)
      }
    },
    everySecond(nowMs) {
      if (!node.agentIsUp || node.router === undefined) return
      for (const instance of node.driver.instances.values()) {
        const { id, frozen, retiring, pendingUntilMs, onEndByRequestId, functionName } = instance
        const pauseMs = node.fleet.functions.get(functionName)?.policy.pauseMs ?? 0
        const sinceMs = restSinceMs.get(id)
        if (sinceMs === undefined || pauseMs === 0 || frozen || retiring || onEndByRequestId.size > 0)
          continue
        const restMs = nowMs - Math.max(sinceMs, pendingUntilMs)
        // Refused for its waitUntil work, it is asked again after the same time.
        if (restMs > 2 * pauseMs + NOTICE_MS)
          fail(`${id} has been at rest for ${restMs.toFixed(0)} ms and is not paused (pause ${pauseMs} ms)`)
      }
    },
  }
}
