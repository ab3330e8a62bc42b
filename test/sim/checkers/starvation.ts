import type { SimulatedNode } from '../simulated-node.ts'
import { wantedInstances, type MakeChecker } from './checker.ts'

/** Of the lightest function among equals; one twice as heavy keeps its place twice as long. */
const TURN_MS = 2_000
const WAIT_MS = 1_000
const SLACK_MS = 2_000

/**
 * A version that requests wait for all the time has an instance within a time that follows from weights and service
 * times, however full the node is: as many rounds as there are functions for a place, each as long as a turn of the
 * heaviest, its longest request and a start.
 */
export const nobodyStarves: MakeChecker = (node, fail) => {
  const boundMs = starvationMsMax(node)
  const hungrySinceMs = new Map<string, number>()
  const faulty = new Set<string>()
  return {
    onFact(fact) {
      if (fact.type === 'agent' || fact.type === 'router' || fact.type === 'head') hungrySinceMs.clear()
      // Its turn may lie between two looks.
      else if (fact.type === 'running') hungrySinceMs.delete(fact.versionId)
      // Its own fault has its own wait.
      else if (fact.type === 'start-failed') faulty.add(fact.versionId)
      else if (fact.type === 'gone' && fact.cause !== 'stopped') faulty.add(fact.versionId)
    },
    everySecond(nowMs) {
      if (!node.agentIsUp) return
      for (const [versionId, { pool }] of node.router?.servedByVersionId ?? []) {
        const isServed = wantedInstances(node, versionId).some(({ state }) => state === 'running')
        if (pool.queued === 0 || isServed || faulty.has(versionId)) hungrySinceMs.delete(versionId)
        else if (!hungrySinceMs.has(versionId)) hungrySinceMs.set(versionId, nowMs)
        else if (nowMs - hungrySinceMs.get(versionId)! > boundMs)
          fail(
            `${pool.queued} requests wait for ${versionId}, which has had no instance for ${nowMs - hungrySinceMs.get(versionId)!} ms (bound ${boundMs.toFixed(0)} ms)`,
          )
      }
    },
  }
}

function starvationMsMax({ scenario }: SimulatedNode): number {
  const { functions, budget } = scenario
  const most = (numbers: readonly number[]): number => Math.max(...numbers)
  const places = Math.max(
    1,
    Math.floor(budget.memoryMib / most(functions.map(({ reserveMib }) => reserveMib))),
  )
  const weights = functions.map(({ policy }) => policy.weight)
  const turnMs = (TURN_MS * most(weights)) / Math.min(...weights)
  const drainMs = most(
    functions.map(
      ({ behaviour: { waitMs, cpuMs, waitUntil, waitUntilMs }, policy }) =>
        waitMs[1] + cpuMs[1] * policy.concurrency + (waitUntil > 0 ? waitUntilMs[1] : 0),
    ),
  )
  const startMs = 10 * most(functions.map(({ behaviour }) => behaviour.startMs[1]))
  return (Math.ceil(functions.length / places) + 1) * (turnMs + WAIT_MS + drainMs + startMs) + SLACK_MS
}
