import type { MakeChecker } from './checker.ts'

/** A paused instance has nothing in flight and no `waitUntil` work, and works on nothing before it is resumed. */
export const pausedIsAtRest: MakeChecker = (node, fail) => {
  return {
    onFact(fact, nowMs) {
      if (fact.type === 'frozen') {
        const instance = node.driver.instances.get(fact.id)
        if (instance === undefined) return
        const inFlight = instance.onEndByRequestId.size
        if (inFlight > 0) fail(`${fact.id} is frozen with ${inFlight} requests in flight`)
        if (instance.pendingUntilMs > nowMs)
          fail(
            `${fact.id} is frozen with ${(instance.pendingUntilMs - nowMs).toFixed(0)} ms of waitUntil work left`,
          )
      } else if (fact.type === 'slot') {
        if (node.driver.instances.get(fact.instanceId)?.frozen === true)
          fail(`request ${fact.requestId} is sent to ${fact.instanceId}, which is frozen`)
      }
    },
    everySecond() {
      for (const { id, frozen, onEndByRequestId } of node.driver.instances.values()) {
        if (frozen && onEndByRequestId.size > 0)
          fail(`${id} is frozen with ${onEndByRequestId.size} requests in flight`)
      }
    },
  }
}
