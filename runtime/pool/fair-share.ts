/**
 * Who gives way on a full node. First what rests, least recently used; minimums last. Then weighted max-min fairness:
 * what a function holds divided by its weight, and who has least goes first. A place moves only if the taker, with it,
 * would still have no more than the giver without it. So each move makes the shares more equal and none is undone.
 *
 * With more busy functions than places some would have none for ever. They take turns: who has none takes the place
 * of an instance that has been up for its turn, a longer one the heavier its function. So do versions of one function
 * that has fewer places than versions: a canary's requests would else be refused for as long as the node is full.
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
/** A turn is as many times as long as its function weighs, up to this: others wait meanwhile, and their queues end. */
const TURN_WEIGHT_MAX = 4

const WAITED_FOR = 2
const MINIMUM = 1
const COMFORT = 0
/** Sums of fractions. */
const EPSILON_MIB = 1e-6

export function weightOf(fn: PlannedFunction): number {
  return fn.policy?.weight ?? 1
}

/** Held and, with it, `moreMib`, by weight. */
function shareOf(fn: PlannedFunction, moreMib = 0): number {
  return (fn.heldMib + moreMib) / weightOf(fn)
}

/**
 * Those with waiting requests before minimums before what is only for comfort. Then who has nothing, in the order of
 * waiting (a turn is longer by weight, not earlier, or the light would never have one); then who has least for its weight.
 */
export function inTurn(a: PlannedVersion, b: PlannedVersion): number {
  const urgency = urgencyOf(b) - urgencyOf(a)
  if (urgency !== 0) return urgency
  const none = Number(hasNone(b)) - Number(hasNone(a))
  if (none !== 0) return none
  if (hasNone(a)) return hungrySinceMs(a) - hungrySinceMs(b) || a.waitingSinceMs - b.waitingSinceMs
  const share = shareOf(a.fn, reserveOf(a)) - shareOf(b.fn, reserveOf(b))
  return Math.abs(share) > EPSILON_MIB ? share : a.waitingSinceMs - b.waitingSinceMs
}

function urgencyOf(version: PlannedVersion): number {
  if (version.queued > 0) return WAITED_FOR
  return presentOf(version) + version.starting < askedMinOf(version) ? MINIMUM : COMFORT
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
    const { version } = instance
    // Whoever waits is about to use it.
    if ((version === taker || version.queued > 0) && !isOutdated(instance)) continue
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
  const urgency = urgencyOf(taker)
  const entitled = hasNone(taker) || isFairMove(taker, instance) || isTurnOfSibling(taker, instance, nowMs)
  if (rank === 2) return urgency === WAITED_FOR && entitled
  if (urgency !== WAITED_FOR && restMs < AT_REST_MS) return false
  return entitled || urgency === MINIMUM || restMs >= KEPT_WARM_MS
}

/** To free `shortMib`: busy, of a function that holds more for its weight than `taker`, or has had its turn. */
export function chooseBusy(
  instances: Iterable<PlannedInstance>,
  { taker, shortMib }: { readonly taker: PlannedVersion; readonly shortMib: number },
  nowMs: number,
): PlannedInstance | undefined {
  const mayTakeTurn = hasNone(taker) && nowMs - hungrySinceMs(taker) >= TURN_WAIT_MS
  let best: PlannedInstance | undefined
  let bestRank = Infinity
  for (const instance of instances) {
    const { version, phase } = instance
    if (phase === 'draining' || version === taker) continue
    let rank = presentOf(version) > askedMinOf(version) ? 0 : 1
    if (!isFairMove(taker, instance, shortMib)) {
      const turnMs = TURN_MS * Math.min(TURN_WEIGHT_MAX, weightOf(version.fn))
      const hasHadTurn = nowMs - instance.upSinceMs >= turnMs
      if (!(mayTakeTurn && hasHadTurn) && !isTurnOfSibling(taker, instance, nowMs)) continue
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

/** Where more than the instance has to go, all of it counts: a move that is begun can then be ended. */
function isFairMove(taker: PlannedVersion, instance: PlannedInstance, shortMib = 0): boolean {
  const giver = instance.version.fn
  // Between versions of one function: the one that has nothing, from the one that has several.
  if (giver === taker.fn) {
    return presentOf(taker) + taker.starting === 0 && presentOf(instance.version) > 1
  }
  const movedMib = Math.max(shortMib, instance.chargedMib)
  return shareOf(taker.fn, reserveOf(taker)) <= shareOf(giver, -movedMib) + EPSILON_MIB
}

/** Between versions of one function: whoever has nothing, from the only one of another that has been up for its turn. */
function isTurnOfSibling(taker: PlannedVersion, instance: PlannedInstance, nowMs: number): boolean {
  return (
    instance.version.fn === taker.fn &&
    instance.version !== taker &&
    presentOf(taker) + taker.starting === 0 &&
    nowMs - taker.waitingSinceMs >= TURN_WAIT_MS &&
    nowMs - instance.upSinceMs >= TURN_MS
  )
}

function hasNone(taker: PlannedVersion): boolean {
  return taker.fn.heldMib === 0
}

/** One that had a place until now has wanted more all the time, and is the last to have the next. */
function hungrySinceMs(version: PlannedVersion): number {
  return Math.max(version.waitingSinceMs, version.fn.noneSinceMs)
}

export function explainMove(taker: PlannedVersion, giver: PlannedFunction): string {
  const held = (fn: PlannedFunction): string =>
    `"${fn.name}" holds ${Math.round(fn.heldMib)} MiB at weight ${weightOf(fn)}`
  return `the node is full and ${taker.queued} requests wait for "${taker.fn.name}": ${held(giver)}, ${held(taker.fn)}`
}
