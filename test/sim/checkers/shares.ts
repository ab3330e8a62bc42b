import type { SimulatedNode } from '../simulated-node.ts'
import { wantedInstances, type Checker, type MakeChecker } from './checker.ts'

const NO_CHECK: Checker = {}
const EPSILON = 1e-6

/** Until starts, drains and windows have brought the node from empty to full. */
const SETTLED_MS = 8_000
/** A place moves from one to the other now and then. */
const OFF_MS_MAX = 3_000

/**
 * Functions that all want the whole node have places in proportion to their weights: no place could move to where it
 * would make the shares more equal. Between two functions that means: give or take one.
 */
export const sharesFollowWeights: MakeChecker = (node, fail) => {
  const { scenario } = node
  if (scenario.family !== 'contention') return NO_CHECK
  let offSinceMs: number | undefined
  return {
    everySecond(nowMs) {
      if (nowMs < SETTLED_MS) return
      const off = describeUnfairness(node)
      if (off === undefined) offSinceMs = undefined
      else offSinceMs ??= nowMs
      if (offSinceMs !== undefined && nowMs - offSinceMs > OFF_MS_MAX)
        fail(`for over ${OFF_MS_MAX} ms places are not as weights are: ${off}`)
    },
  }
}

function describeUnfairness(node: SimulatedNode): string | undefined {
  const { functions, budget } = node.scenario
  const places = Math.floor(budget.memoryMib / functions[0]!.reserveMib)
  const weightSum = functions.reduce((sum, { policy }) => sum + policy.weight, 0)
  const shares = functions.map(({ name, policy: { weight } }) => ({
    name,
    weight,
    count: wantedInstances(node, `${name}.v1`).length,
    ideal: (places * weight) / weightSum,
  }))
  const isFair = shares.every((giver) =>
    shares.every(
      (taker) =>
        giver === taker || (taker.count + 1) / taker.weight > (giver.count - 1) / giver.weight - EPSILON,
    ),
  )
  const isNear =
    functions.length > 2 || shares.every(({ count, ideal }) => Math.abs(count - ideal) <= 1 + EPSILON)
  const isUsed = shares.reduce((sum, { count }) => sum + count, 0) >= places - 1
  if (isFair && isNear && isUsed) return undefined
  return shares
    .map(
      ({ name, weight, count, ideal }) =>
        `${name} has ${count} at weight ${weight}, its share is ${ideal.toFixed(2)}`,
    )
    .join('; ')
}

/** While a flood comes, a place of it ends its request, drains, and another starts. */
const NEIGHBOUR_WAIT_MS_MAX = 3_000
/** Once it is there. */
const FLOOD_SETTLED_MS = 3_000

/** Who stays below the own share is served as if there were no flood: no refusal, and no long wait. */
export const floodHurtsNobody: MakeChecker = (node, fail) => {
  if (node.scenario.family !== 'flood') return NO_CHECK
  const arrivedAtMs = new Map<number, number>()
  return {
    onFact(fact, nowMs) {
      if (fact.type === 'arrived' && fact.functionName !== 'flood') arrivedAtMs.set(fact.requestId, nowMs)
      else if (fact.type === 'slot') {
        const waitedMs = nowMs - (arrivedAtMs.get(fact.requestId) ?? nowMs)
        if (waitedMs > NEIGHBOUR_WAIT_MS_MAX)
          fail(`a neighbour's request ${fact.requestId} waited ${waitedMs.toFixed(0)} ms beside a flood`)
      } else if (fact.type === 'finished' && fact.functionName !== 'flood') {
        const { outcome, functionName, requestId } = fact
        arrivedAtMs.delete(requestId)
        if (outcome !== 'answered' && outcome !== 'client_gone' && nowMs > FLOOD_SETTLED_MS)
          fail(`request ${requestId} of ${functionName} ended as ${outcome} beside a flood`)
      }
    },
  }
}

const STEADY_SETTLED_MS = 120_000
/** In ten minutes. */
const CHANGES_EVEN_MAX = 2
/** Chance brings more at once than on average now and then; who is started for them stays for a minute. */
const CHANGES_POISSON_MAX = 24

/** At a constant load the number of instances hardly ever changes. */
export const steadyLoadIsSteady: MakeChecker = (node, fail) => {
  if (node.scenario.family !== 'steady') return NO_CHECK
  const counts = new Map<string, number>()
  const changes = new Map<string, number>()
  return {
    everySecond(nowMs) {
      if (nowMs < STEADY_SETTLED_MS) return
      for (const { name, arrivals } of node.scenario.functions) {
        const count = wantedInstances(node, `${name}.v1`).length
        const before = counts.get(name) ?? count
        counts.set(name, count)
        if (count === before) continue
        const changed = (changes.get(name) ?? 0) + 1
        changes.set(name, changed)
        const most = arrivals.type === 'even' ? CHANGES_EVEN_MAX : CHANGES_POISSON_MAX
        if (changed > most)
          fail(
            `the number of instances of ${name} has changed ${changed} times in ${nowMs - STEADY_SETTLED_MS} ms`,
          )
      }
    },
  }
}
