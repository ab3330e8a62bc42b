import type { MakeChecker } from './checker.ts'

/** A tick of the router, and the worst order of events around it. */
const DEADLINE_SLACK_MS = 150

/** Every request ends exactly once, and none waits beyond its queue's deadline. */
export const everyRequestEndsOnce: MakeChecker = (node, fail) => {
  /** Undefined: it does not wait. */
  const queuedById = new Map<number, { readonly versionId: string; readonly sinceMs: number } | undefined>()
  let newest = -1
  let changedAtMs = 0
  const stillOpen = (requestId: number, what: string): boolean => {
    if (queuedById.has(requestId)) return true
    fail(`request ${requestId} ${what} after it had ended`)
    return false
  }
  const checkDeadline = (requestId: number, nowMs: number): void => {
    const queued = queuedById.get(requestId)
    const pool = queued && node.router?.servedByVersionId.get(queued.versionId)?.pool
    if (queued === undefined || pool === undefined) return
    // As the policy is now: a change of it holds for those who wait already.
    const lateMs = nowMs - Math.max(queued.sinceMs + pool.policy.queueTimeoutMs, changedAtMs)
    if (lateMs > DEADLINE_SLACK_MS)
      fail(`request ${requestId} waited ${lateMs.toFixed(0)} ms beyond its deadline`)
  }
  const checkAll = (nowMs: number): void => {
    for (const requestId of queuedById.keys()) checkDeadline(requestId, nowMs)
  }
  return {
    onFact(fact, nowMs) {
      switch (fact.type) {
        case 'arrived':
          if (fact.requestId <= newest) fail(`request ${fact.requestId} came twice`)
          newest = fact.requestId
          queuedById.set(fact.requestId, undefined)
          break
        case 'queued':
          if (stillOpen(fact.requestId, 'queued'))
            queuedById.set(fact.requestId, { versionId: fact.versionId, sinceMs: nowMs })
          break
        case 'slot':
          if (!stillOpen(fact.requestId, 'got a slot')) return
          checkDeadline(fact.requestId, nowMs)
          queuedById.set(fact.requestId, undefined)
          break
        case 'finished':
          if (!stillOpen(fact.requestId, `ended as ${fact.outcome}`)) return
          checkDeadline(fact.requestId, nowMs)
          queuedById.delete(fact.requestId)
          break
        case 'head':
        case 'agent':
        case 'router':
          changedAtMs = nowMs
          break
        default:
      }
    },
    everySecond(nowMs) {
      if (Math.round(nowMs / 1_000) % 5 === 0) checkAll(nowMs)
    },
    atEnd(nowMs) {
      checkAll(nowMs)
    },
  }
}

/** A slot is released exactly once, and no instance works on more than its concurrency. */
export const everySlotIsReleasedOnce: MakeChecker = (node, fail) => {
  const instanceIdByRequestId = new Map<number, string>()
  const countByInstanceId = new Map<string, number>()
  return {
    onFact(fact) {
      if (fact.type === 'router' && !fact.up) {
        instanceIdByRequestId.clear()
        countByInstanceId.clear()
      } else if (fact.type === 'slot') {
        const { requestId, instanceId } = fact
        if (instanceIdByRequestId.has(requestId))
          fail(`request ${requestId} has slots on ${instanceIdByRequestId.get(requestId)} and ${instanceId}`)
        instanceIdByRequestId.set(requestId, instanceId)
        countByInstanceId.set(instanceId, (countByInstanceId.get(instanceId) ?? 0) + 1)
      } else if (fact.type === 'released') {
        const { requestId, instanceId } = fact
        if (instanceIdByRequestId.get(requestId) !== instanceId)
          fail(`request ${requestId} released a slot on ${instanceId} that it did not have`)
        instanceIdByRequestId.delete(requestId)
        countByInstanceId.set(instanceId, countByInstanceId.get(instanceId)! - 1)
      }
    },
    everySecond() {
      for (const { pool } of node.router?.servedByVersionId.values() ?? []) {
        for (const { id, inFlight } of pool.instances) {
          const truly = countByInstanceId.get(id) ?? 0
          if (truly !== inFlight)
            fail(`${id} of ${pool.versionId} works on ${truly} requests and its pool counts ${inFlight}`)
        }
      }
    },
  }
}

/** Nobody waits while an instance has room. */
export const noRoomBesideAQueue: MakeChecker = (node, fail) => {
  const concurrencyMaxByVersionId = new Map<string, number>()
  return {
    onFact(fact) {
      if (fact.type !== 'slot') return
      const instance = node.driver.instances.get(fact.instanceId)
      const pool = instance && node.router?.servedByVersionId.get(instance.versionId)?.pool
      if (pool === undefined) return
      const pooled = pool.instances.find(({ id }) => id === fact.instanceId)
      if (pooled !== undefined && pooled.inFlight > pool.policy.concurrency)
        fail(
          `${fact.instanceId} got its ${pooled.inFlight}th request and concurrency is ${pool.policy.concurrency}`,
        )
    },
    everySecond() {
      for (const { pool } of node.router?.servedByVersionId.values() ?? []) {
        const { queued, versionId, policy } = pool
        // Raised: whoever waits is served with the next request that ends.
        const before = concurrencyMaxByVersionId.get(versionId) ?? policy.concurrency
        concurrencyMaxByVersionId.set(versionId, policy.concurrency)
        if (queued === 0 || policy.concurrency > before) continue
        const free = pool.instances.find(
          ({ draining, inFlight }) => !draining && inFlight < policy.concurrency,
        )
        if (free !== undefined)
          fail(
            `${queued} requests wait for ${versionId} and ${free.id} works on ${free.inFlight} of ${policy.concurrency}`,
          )
      }
    },
  }
}
