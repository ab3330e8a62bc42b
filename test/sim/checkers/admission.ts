import type { MakeChecker } from './checker.ts'

/** No more requests are let in than rate and burst allow, and no more are in flight or waiting than the quota. */
export const rateAndQuotaAreKept: MakeChecker = (node, fail) => {
  const policyByFunction = new Map<string, string>()
  const bucketByFunction = new Map<string, { tokens: number; atMs: number }>()
  const openByFunction = new Map<string, number>()
  const functionByRequestId = new Map<number, string>()
  const letIn = new Set<number>()
  const enter = (requestId: number, nowMs: number): void => {
    if (letIn.has(requestId)) return
    letIn.add(requestId)
    const functionName = functionByRequestId.get(requestId)!
    const open = (openByFunction.get(functionName) ?? 0) + 1
    openByFunction.set(functionName, open)
    const served = [...(node.router?.servedByVersionId.values() ?? [])]
    const { quota, ratePerS, burst } = served.find((version) => version.functionName === functionName)!
      .admission.policy
    const known = policyByFunction.get(functionName)
    policyByFunction.set(functionName, `${quota} ${ratePerS} ${burst}`)
    // What is set has changed: who was let in before stays, and the bucket is another.
    if (known !== policyByFunction.get(functionName)) {
      bucketByFunction.delete(functionName)
      return
    }
    if (quota > 0 && open > quota)
      fail(`${open} requests of ${functionName} are let in and its quota is ${quota}`)
    if (ratePerS === 0) return
    const capacity = Math.max(1, burst, ratePerS)
    const bucket = bucketByFunction.get(functionName) ?? { tokens: capacity, atMs: nowMs }
    bucketByFunction.set(functionName, bucket)
    bucket.tokens = Math.min(capacity, bucket.tokens + ((nowMs - bucket.atMs) * ratePerS) / 1_000) - 1
    bucket.atMs = nowMs
    if (bucket.tokens < -0.001)
      fail(`${functionName} is let in beyond its rate of ${ratePerS} a second and burst of ${capacity}`)
  }
  return {
    onFact(fact, nowMs) {
      switch (fact.type) {
        case 'arrived':
          functionByRequestId.set(fact.requestId, fact.functionName)
          break
        case 'queued':
        case 'slot':
          enter(fact.requestId, nowMs)
          break
        case 'finished':
          functionByRequestId.delete(fact.requestId)
          if (letIn.delete(fact.requestId))
            openByFunction.set(fact.functionName, openByFunction.get(fact.functionName)! - 1)
          break
        // Everything begins anew with the router.
        case 'router':
          policyByFunction.clear()
          bucketByFunction.clear()
          openByFunction.clear()
          letIn.clear()
          break
        default:
      }
    },
  }
}
