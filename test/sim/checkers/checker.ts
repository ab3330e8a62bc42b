import type { VersionSpec } from '../../../runtime/pool/node-events.ts'
import type { Fact } from '../facts.ts'
import type { SimulatedInstance } from '../simulated-driver.ts'
import type { SimulatedNode } from '../simulated-node.ts'

/** Watches one property over a whole run. It knows what truly happens, and says so the moment the property is broken. */
export interface Checker {
  onFact?(fact: Fact, nowMs: number): void
  /** Between events: everything that happens at one time has happened. */
  everySecond?(nowMs: number): void
  atEnd?(nowMs: number): void
}

export type MakeChecker = (node: SimulatedNode, fail: (message: string) => void) => Checker

/** Of a version, all that are there or on their way, but those that the planner wants gone. */
export function wantedInstances(node: SimulatedNode, versionId: string): SimulatedInstance[] {
  const instances: SimulatedInstance[] = []
  for (const instance of node.driver.instances.values()) {
    if (instance.versionId === versionId && !instance.retiring) instances.push(instance)
  }
  return instances
}

/** What the planner is to charge for an instance: what it takes or, until that is known, is expected to take. */
export function chargedMib(instance: SimulatedInstance): number {
  return Math.max(instance.measuredMib, instance.reserveMib)
}

export function chargedMibOfNode(node: SimulatedNode): number {
  let sum = 0
  for (const instance of node.driver.instances.values()) sum += chargedMib(instance)
  return sum
}

/** Most instances of a version. */
export function maxOf(node: SimulatedNode, { policy }: VersionSpec): number {
  return policy.max === 0 ? Math.max(2, node.scenario.budget.cpus) : policy.max
}
