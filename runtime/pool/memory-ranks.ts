import type { MemoryRank } from './driver.ts'
import { weightOf } from './fair-share.ts'
import { presentOf, type PlannedInstance } from './planner-records.ts'
import { askedMinOf } from './planner-scale.ts'
import type { NodeState } from './planner-state.ts'

/** Of the budget. With less in use the kernel has nothing to choose, and each instance ends at its own limit. */
const TIGHT = 0.7

/**
 * Instances can grow faster than the node measures and makes room. Then the kernel ends one of them, by itself the
 * largest, whoever caused it. Ranks tell it in time whom: what leaves anyway and what belongs to a function with more
 * than its weighted share first, what a minimum keeps last.
 */
export function setMemoryRanks(node: NodeState): void {
  const { memoryMib } = node.budget
  const isTight = node.chargedMib >= memoryMib * TIGHT
  let weights = 0
  if (isTight) {
    for (const fn of node.functionByName.values()) if (fn.heldMib > 0) weights += weightOf(fn)
  }
  for (const instance of node.instanceById.values()) {
    const rank = isTight ? rankOf(instance, memoryMib / weights) : 'ordinary'
    if (instance.memoryRank === rank) continue
    instance.memoryRank = rank
    node.act({ type: 'memory-rank', id: instance.id, rank })
  }
}

function rankOf({ phase, version }: PlannedInstance, shareMib: number): MemoryRank {
  if (phase === 'draining' || version.fn.heldMib > shareMib * weightOf(version.fn)) return 'first'
  return presentOf(version) <= askedMinOf(version) ? 'last' : 'ordinary'
}
