/**
 * Who gives way on a full node. First what rests, least recently used; minimums last. Then weighted max-min fairness:
 * what a function holds divided by its weight, and who has least goes first. A place moves only if the taker, with it,
 * would still have no more than the giver without it. So each move makes the shares more equal and none is undone.
 *
 * With more busy functions than places some would have none for ever. They take turns: who has none takes the place
 * of an instance that has been up for its turn, a longer one the heavier its function.
 */
import { type PlannedFunction, type PlannedInstance, type PlannedVersion } from './planner-records.ts'
import { isOutdated, percentOf, presentOf, reserveOf } from './planner-records.ts'
import { askedMinOf } from './planner-scale.ts'

/** A function with more than its giver gets only what has rested so long: a neighbour with steady requests stays warm. */
const KEPT_WARM_MS = 10_000
/** Where nobody waits yet, only what has rested this long makes room. */
const AT_REST_MS = 1_000
/** A function with nothing takes a busy place only after so long, and only of one that has been up for its turn. */
const TURN_WAIT_MS = 500
const TURN_MS = 2_000

const EPSILON_MIB = 1e-6

export function weightOf(fn: PlannedFunction): number {
  return fn.policy?.weight ?? 1
}

/** Held and, with it, `moreMib`, by weight. */
export function shareOf(fn: PlannedFunction, moreMib = 0): number {
  return (fn.heldMib + moreMib) / weightOf(fn)
}

/** Those with waiting requests before minimums before what is only for comfort; then who has least for its weight. */
export function nextInTurn(versions: readonly PlannedVersion[]): number {
  let best = 0
  for (let index = 1; index < versions.length; index++) {
    if (goesBefore(versions[index]!, versions[best]!)) best = index
  }
  return best
}

function goesBefore(a: PlannedVersion, b: PlannedVersion): boolean {
  const urgency = urgencyOf(a) - urgencyOf(b)
  if (urgency !== 0) return urgency > 0
  const share = shareOf(a.fn, reserveOf(a)) - shareOf(b.fn, reserveOf(b))
  if (Math.abs(share) > EPSILON_MIB) return share < 0
  return a.waitingSinceMs < b.waitingSinceMs
}

function urgencyOf(version: PlannedVersion): number {
  if (version.queued > 0) return 2
  return presentOf(version) + version.starting < askedMinOf(version) ? 1 : 0
}

/** At rest, the first to go; for `taker`, or for the node's own sake. */
export function chooseResting(
  instances: Iterable<PlannedInstance>,
  taker: PlannedVersion | undefined,
  nowMs: number,
): PlannedInstance | undefined {
  let best: PlannedInstance | undefined
  let bestRank = Infinity
  for (const instance of instances) {
    if (instance.phase === 'draining' || instance.inFlight > 0) continue
    if (instance.version === taker && !isOutdated(instance)) continue
    const rank = restRank(instance)
    if (rank > bestRank || (rank === bestRank && instance.lastActiveMs >= best!.lastActiveMs)) continue
    if (taker !== undefined && !mayTakeResting(taker, instance, rank, nowMs)) continue
    best = instance
    bestRank = rank
  }
  return best
}

/** 0: nobody wants it. 1: somebody may come. 2: a minimum. */
function restRank(instance: PlannedInstance): number {
  const { version } = instance
  if (percentOf(version) === 0 || isOutdated(instance)) return 0
  return presentOf(version) > askedMinOf(version) ? 1 : 2
}

function mayTakeResting(
  taker: PlannedVersion,
  instance: PlannedInstance,
  rank: number,
  nowMs: number,
): boolean {
  if (rank === 0) return true
  const restMs = nowMs - instance.lastActiveMs
  const urgent = taker.queued > 0
  if (rank === 2) return urgent && (isFairMove(taker, instance) || hasNone(taker))
  if (!urgent && restMs < AT_REST_MS) return false
  return restMs >= KEPT_WARM_MS || hasNone(taker) || isFairMove(taker, instance)
}

/** Busy, of a function that holds more for its weight than `taker`, or has had its turn. */
export function chooseBusy(
  instances: Iterable<PlannedInstance>,
  taker: PlannedVersion,
  nowMs: number,
): PlannedInstance | undefined {
  const mayTakeTurn = hasNone(taker) && nowMs - taker.waitingSinceMs >= TURN_WAIT_MS
  let best: PlannedInstance | undefined
  let bestRank = Infinity
  for (const instance of instances) {
    const { version, phase } = instance
    if (phase === 'draining' || version === taker) continue
    let rank = presentOf(version) > askedMinOf(version) ? 0 : 1
    if (!isFairMove(taker, instance)) {
      const turnMs = (TURN_MS * weightOf(version.fn)) / weightOf(taker.fn)
      if (!mayTakeTurn || nowMs - instance.upSinceMs < turnMs) continue
      rank += 2
    }
    if (rank > bestRank || (rank === bestRank && !givesBefore(instance, best!))) continue
    best = instance
    bestRank = rank
  }
  return best
}

function givesBefore(a: PlannedInstance, b: PlannedInstance): boolean {
  const share = shareOf(a.version.fn) - shareOf(b.version.fn)
  if (Math.abs(share) > EPSILON_MIB) return share > 0
  if (a.inFlight !== b.inFlight) return a.inFlight < b.inFlight
  return a.lastActiveMs < b.lastActiveMs
}

function isFairMove(taker: PlannedVersion, instance: PlannedInstance): boolean {
  const giver = instance.version.fn
  // Between versions of one function: the one that has nothing, from the one that has several.
  if (giver === taker.fn) {
    return presentOf(taker) + taker.starting === 0 && presentOf(instance.version) > 1
  }
  return shareOf(taker.fn, reserveOf(taker)) <= shareOf(giver, -instance.chargedMib) + EPSILON_MIB
}

function hasNone(taker: PlannedVersion): boolean {
  return taker.fn.heldMib < EPSILON_MIB
}

export function explainMove(taker: PlannedVersion, giver: PlannedFunction): string {
  const held = (fn: PlannedFunction): string =>
    `"${fn.name}" holds ${Math.round(fn.heldMib)} MiB at weight ${weightOf(fn)}`
  return `the node is full and ${taker.queued} requests wait for "${taker.fn.name}": ${held(giver)}, ${held(taker.fn)}`
}
