import type { VersionSpec } from './node-events.ts'
import { askedMinOf, scale } from './planner-scale.ts'
import { reserveOf, type PlannedFunction, type PlannedInstance } from './planner-records.ts'
import type { NodeState } from './planner-state.ts'
import { tend } from './planner-rest.ts'

/** A new head replaces the wishes, not the instances: what is not wanted any more leaves by the same rules as ever. */
export function applyHead(node: NodeState, specs: readonly VersionSpec[], nowMs: number): void {
  node.headSeen = true
  const before = new Set(node.functionByName.values())
  for (const version of node.versionById.values()) version.spec = undefined
  for (const fn of before) fn.main = undefined
  const policied = new Set<PlannedFunction>()
  for (const spec of specs) {
    const version = node.versionOf(spec.functionName, spec.versionId)
    const { fn } = version
    version.spec = spec
    fn.policy = spec.policy
    policied.add(fn)
    if ((fn.main?.spec?.percent ?? -1) < spec.percent) fn.main = version
  }
  node.blanks.keepClasses(new Set(specs.flatMap(({ blankClass }) => blankClass ?? [])))
  node.predictable.clear()
  for (const fn of policied) {
    if (fn.policy?.idleMs === 'auto') node.predictable.add(fn)
    else forgetHistory(fn)
    node.reweighted.add(fn)
  }
  for (const fn of before) {
    if (policied.has(fn)) continue
    // It was deployed, and is not any more: no trial start of it is waiting for its deploy.
    if (fn.policy !== undefined) endTrials(fn)
    fn.policy = undefined
    forgetHistory(fn)
  }
  for (const instance of node.instanceById.values()) {
    if (instance.reserveMib === 0) foundBefore(node, instance)
  }
  for (const version of node.versionById.values()) {
    if (node.active.has(version) || askedMinOf(version) > 0) scale(node, version, nowMs)
    node.forget(version)
  }
  for (const instance of node.instanceById.values()) {
    instance.checkAtMs = nowMs
    if (instance.version.fn.policy === undefined) tend(node, instance, nowMs)
  }
  for (const fn of before) {
    if (fn.versions.size === 0 && fn.policy === undefined) node.functionByName.delete(fn.name)
  }
}

/** Before a head had said what is to be set aside for it. */
function foundBefore(node: NodeState, instance: PlannedInstance): void {
  instance.reserveMib = reserveOf(instance.version)
  node.charge(instance, instance.chargedMib)
}

function endTrials(fn: PlannedFunction): void {
  for (const { instances } of fn.versions) {
    for (const instance of instances) instance.trialUntilMs = -Infinity
  }
}

function forgetHistory(fn: PlannedFunction): void {
  fn.history = undefined
  fn.windows = undefined
  fn.restSinceMs = undefined
  fn.predicted = false
}
