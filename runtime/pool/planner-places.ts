/**
 * Gives out the places of the node: whose start is next while there are fewer starts than may be and memory for it,
 * who makes room where there is none, and what those who wait are told.
 *
 * Places that are being freed are promised in the same order, so that nobody who comes later takes what was made free
 * for another; what lies beyond all promises is for everybody.
 */
import { chooseBusy, chooseResting, explainMove, inTurn } from './fair-share.ts'
import { mib, tellDelay } from './planner-scale.ts'
import { reserveOf, startingOf, type PlannedVersion } from './planner-records.ts'
import { type NodeState } from './planner-state.ts'

/** Of those who wait at a time; the rest is looked at when these have their place. */
const SEARCHES_MAX = 16
/**
 * Of the starts at once, for one function, also while nobody else waits: a start cannot be taken back, and one that hangs
 * while it is loaded keeps its turn for ten seconds. Half of them are one for each core: more would not be faster.
 */
const STARTS_OF_ONE_SHARE = 0.5
/** Sums of fractions. */
const EPSILON_MIB = 1e-6

export function givePlaces(node: NodeState, nowMs: number): void {
  node.unsettled = false
  const waiting = [...node.wanting].sort(inTurn)
  const startsOfOneMax = Math.max(1, Math.floor(node.startsAtOnceMax * STARTS_OF_ONE_SHARE))
  let promisedMib = 0
  let searches = 0
  while (waiting.length > 0) {
    if (node.startById.size >= node.startsAtOnceMax) return
    const version = waiting[0]!
    if (startingOf(version.fn) >= startsOfOneMax) {
      waiting.shift()
      continue
    }
    const needMib = promisedMib + reserveOf(version)
    if (hasRoom(node, { reserveMib: reserveOf(version), needMib }, nowMs)) {
      node.beginStart(version, version.decision?.reason ?? 'wanted', nowMs)
      version.missing--
      if (version.missing === 0) {
        node.wanting.delete(version)
        waiting.shift()
      }
      // Its function holds more now: whoever has less is next.
      waiting.sort(inTurn)
      continue
    }
    if (searches++ < SEARCHES_MAX && makeRoom(node, version, needMib, nowMs)) promisedMib = needMib
    delay(node, version, nowMs)
    waiting.shift()
  }
}

function hasRoom(
  node: NodeState,
  { reserveMib, needMib }: { readonly reserveMib: number; readonly needMib: number },
  nowMs: number,
): boolean {
  // Also for one that is expected to take nothing.
  if (nowMs < node.fullUntilMs) return false
  const freeMib = node.freeMib(nowMs) + EPSILON_MIB
  return reserveMib <= freeMib && needMib <= freeMib + node.leavingMib
}

/** Whether there will be room: where nobody has to give way, what is free is for whom it is enough. */
function makeRoom(node: NodeState, taker: PlannedVersion, needMib: number, nowMs: number): boolean {
  const shortMib = (): number => needMib - node.freeMib(nowMs) - node.leavingMib - EPSILON_MIB
  while (shortMib() > 0) {
    const resting = chooseResting(node.instanceById.values(), taker, nowMs)
    if (resting === undefined) break
    const restS = ((nowMs - resting.lastActiveMs) / 1_000).toFixed(1)
    node.drain(resting, `at rest for ${restS} s, and the node is full: makes room for "${taker.fn.name}"`)
  }
  // A busy one only for requests that wait, and one at a time: what it takes to leave is not known.
  if (shortMib() <= 0 || taker.fn.awaited !== undefined) return true
  if (taker.queued === 0) return false
  const busy = chooseBusy(node.instanceById.values(), { taker, shortMib: shortMib() }, nowMs)
  if (busy === undefined) return false
  taker.fn.awaited = busy
  busy.leavesFor = taker.fn
  // Whatever else it waits for, its turn is over.
  busy.version.waitingSinceMs = nowMs
  node.drain(busy, explainMove(taker, busy.version.fn))
  return true
}

function delay(node: NodeState, version: PlannedVersion, nowMs: number): void {
  const { budget, instanceById } = node
  const full =
    nowMs < node.fullUntilMs
      ? 'the machine had no place for another instance'
      : `the node is full: ${mib(node.chargedMib)} of ${mib(budget.memoryMib)} are taken by ${instanceById.size} instances`
  const coming = node.leavingMib > 0 ? `, ${mib(node.leavingMib)} of them by instances that leave` : ''
  version.obstacle = `${full}${coming}, and another of "${version.fn.name}" needs ${mib(reserveOf(version))}`
  tellDelay(node, version, version.obstacle, nowMs)
}

/** Instances have grown beyond the budget: what rests goes, so that the machine need not choose. */
export function relieve(node: NodeState, nowMs: number): void {
  while (node.chargedMib - node.leavingMib > node.budget.memoryMib) {
    const resting = chooseResting(node.instanceById.values(), undefined, nowMs)
    if (resting === undefined) return
    node.drain(
      resting,
      `at rest, and instances take ${mib(node.chargedMib)} of the node's ${mib(node.budget.memoryMib)}`,
    )
  }
}
