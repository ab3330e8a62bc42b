/** A node that has so many places, of 100 MiB each, and functions that fill them. */
import type { VersionSpec } from '../../runtime/pool/node-events.ts'
import type { PolicyPatch } from '../../sdk/model/policy.ts'
import { specOf, Timeline } from './planner-timeline.ts'

const policy = { concurrency: 1, max: 100, idleMs: 3_600_000 }

export function placed(functionName: string, more: PolicyPatch = {}, reserveMib = 100): VersionSpec {
  return specOf(functionName, { ...policy, ...more }, { reserveMib })
}
export function nodeOf(places: number): Timeline {
  return new Timeline({ budget: { memoryMib: places * 100, cpus: 4 }, startsAtOnceMax: 100 })
}
/** As many busy instances as there may be, without a queue. */
export function busy(node: Timeline, functionName: string, count: number): void {
  node.need(functionName, count)
  while (node.of(functionName).length < count) node.need(functionName, count)
  node.requests(functionName, count)
  node.run(100)
}
