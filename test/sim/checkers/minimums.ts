import type { VersionSpec } from '../../../runtime/pool/node-events.ts'
import type { SimulatedNode } from '../simulated-node.ts'
import { chargedMib, chargedMibOfNode, maxOf, wantedInstances, type MakeChecker } from './checker.ts'

/** With room: a start without a blank, behind a few others; without, somebody who rests must leave before it. */
const START_MS_MAX = 5_000
/** What is needed that often is kept for its own function. */
const KEPT_WARM_MS = 10_000
/** After a fault the version may have to wait for its backoff. */
const BACKOFF_MS_MAX = 65_000

/** A minimum is there but for the time of a start, unless the node is full with what is busy and other minimums. */
export const neverBelowMin: MakeChecker = (node, fail) => {
  /** Below it, and with a place that could be had. */
  const possibleSinceMs = new Map<string, number>()
  const faultAtMs = new Map<string, number>()
  const activeAtMs = new Map<string, number>()
  const restMsMax = (spec: VersionSpec, nowMs: number): number => {
    let most = Number.NEGATIVE_INFINITY
    for (const other of node.fleet.specs()) {
      if (other.versionId === spec.versionId) continue
      const resting = wantedInstances(node, other.versionId)
        .filter(({ state, onEndByRequestId }) => state === 'running' && onEndByRequestId.size === 0)
        .map(({ id }) => nowMs - (activeAtMs.get(id) ?? 0))
      // Of those that rest, only what is above the minimum.
      const surplus = wantedInstances(node, other.versionId).length - askedMin(node, other)
      if (surplus > 0) most = Math.max(most, ...resting)
    }
    return most
  }
  return {
    onFact(fact, nowMs) {
      if (fact.type === 'slot' || fact.type === 'released') activeAtMs.set(fact.instanceId, nowMs)
      else if (fact.type === 'running') activeAtMs.set(fact.id, nowMs)
      if (fact.type === 'agent' || fact.type === 'head' || fact.type === 'prewarm') {
        possibleSinceMs.clear()
      } else if (fact.type === 'start-failed') faultAtMs.set(fact.versionId, nowMs)
      else if (fact.type === 'gone' && fact.cause !== 'stopped') faultAtMs.set(fact.versionId, nowMs)
    },
    everySecond(nowMs) {
      if (!node.agentIsUp) return
      for (const spec of node.fleet.specs()) {
        const min = askedMin(node, spec)
        if (min === 0) continue
        const { versionId } = spec
        const running = wantedInstances(node, versionId).filter(({ state }) => state === 'running').length
        const faultMs = nowMs - (faultAtMs.get(versionId) ?? Number.NEGATIVE_INFINITY)
        const isFull =
          chargedMibOfNode(node) + waitedForMib(node, versionId) + spec.reserveMib >
          node.scenario.budget.memoryMib
        const isPossible =
          faultMs >= BACKOFF_MS_MAX &&
          wouldFit(node, spec, min) &&
          (!isFull || restMsMax(spec, nowMs) > KEPT_WARM_MS)
        if (running >= min || !isPossible) possibleSinceMs.delete(versionId)
        else if (!possibleSinceMs.has(versionId)) possibleSinceMs.set(versionId, nowMs)
        else if (nowMs - possibleSinceMs.get(versionId)! > START_MS_MAX)
          fail(
            `${versionId} has ${running} instances and min is ${min}, for over ${START_MS_MAX} ms with a place to be had`,
          )
      }
    },
  }
}

/** Requests that wait go before minimums that nobody waits for. */
function waitedForMib(node: SimulatedNode, butVersionId: string): number {
  let sumMib = 0
  for (const { versionId, pool } of node.router?.servedByVersionId.values() ?? []) {
    if (versionId === butVersionId || pool.queued === 0) continue
    sumMib += node.fleet.functions.get(pool.functionName)?.reserveMib ?? 0
  }
  return sumMib
}

export function askedMin(node: SimulatedNode, spec: VersionSpec): number {
  const min = Math.max(spec.policy.min, node.fleet.minByFunction.get(spec.functionName) ?? 0)
  return Math.min(Math.ceil((min * spec.percent) / 100), maxOf(node, spec))
}

/** Whether the minimum had a place if all others had no more than theirs. */
function wouldFit(node: SimulatedNode, wanted: VersionSpec, min: number): boolean {
  let takenMib = min * wanted.reserveMib
  for (const spec of node.fleet.specs()) {
    if (spec.versionId === wanted.versionId) continue
    const count = askedMin(node, spec)
    const charges = wantedInstances(node, spec.versionId).map(chargedMib)
    takenMib += charges
      .sort((a, b) => b - a)
      .slice(0, count)
      .reduce((sum, mib) => sum + mib, 0)
  }
  for (const instance of wantedInstances(node, wanted.versionId))
    takenMib += Math.max(0, chargedMib(instance) - wanted.reserveMib)
  return takenMib <= node.scenario.budget.memoryMib
}
