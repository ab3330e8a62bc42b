import type { VersionSpec } from '../../../runtime/pool/node-events.ts'
import type { SimulatedNode } from '../simulated-node.ts'
import { chargedMibOfNode, maxOf, wantedInstances, type MakeChecker } from './checker.ts'

/** How long a lowered max may take to be kept. */
const LOWERED_MS_MAX = 5_000

/** No version has more instances than its policy's max, those that start included. */
export const neverAboveMax: MakeChecker = (node, fail) => {
  const aboveSinceMs = new Map<string, number>()
  return {
    onFact(fact) {
      if (fact.type !== 'start') return
      const spec = node.fleet.specs().find(({ versionId }) => versionId === fact.versionId)
      if (spec === undefined) return
      const count = countOf(node, spec)
      if (count > maxOf(node, spec))
        fail(`${fact.versionId} has ${count} instances and max is ${maxOf(node, spec)}`)
    },
    everySecond(nowMs) {
      for (const spec of node.fleet.specs()) {
        const { versionId } = spec
        const count = countOf(node, spec)
        if (count <= maxOf(node, spec) || !node.agentIsUp) aboveSinceMs.delete(versionId)
        else if (!aboveSinceMs.has(versionId)) aboveSinceMs.set(versionId, nowMs)
        else if (nowMs - aboveSinceMs.get(versionId)! > LOWERED_MS_MAX)
          fail(
            `${versionId} has had ${count} instances for over ${LOWERED_MS_MAX} ms and max is ${maxOf(node, spec)}`,
          )
      }
    },
  }
}

/** Those with another memory limit than the head's serve until their successors do. */
function countOf(node: SimulatedNode, { versionId, memoryMib }: VersionSpec): number {
  return wantedInstances(node, versionId).filter(({ memoryLimitMib }) => memoryLimitMib === memoryMib).length
}

/** Nothing is started that does not fit in the node's memory beside all that is there, as far as that was measured. */
export const neverAboveBudget: MakeChecker = (node, fail) => ({
  onFact(fact) {
    if (fact.type !== 'start') return
    const chargedMib = chargedMibOfNode(node)
    const { memoryMib } = node.scenario.budget
    if (chargedMib > memoryMib)
      fail(`${fact.versionId} is started and the instances take ${chargedMib.toFixed(0)} of ${memoryMib} MiB`)
  },
})
