import { INSTANCE_LIMITS } from '../../../sdk/model/limits.ts'
import type { Broken } from '../scenario.ts'
import type { MakeChecker } from './checker.ts'

/** Crashes that are forgiven before the first wait. */
const FORGIVEN = 4
const LAST_ANSWER_MS_MAX = 5_000

/** A version that cannot run is started ever less often, and serves again once it can. */
export const brokenIsTriedSeldom: MakeChecker = (node, fail) => {
  const broken = node.scenario.functions.find(({ behaviour }) => behaviour.broken !== undefined)
  const span = broken?.behaviour.broken
  if (broken === undefined || span === undefined) return {}
  let starts = 0
  let firstFaultMs: number | undefined
  let lastAnswerMs = Number.NEGATIVE_INFINITY
  return {
    onFact(fact, nowMs) {
      if (fact.type === 'finished' && fact.functionName === broken.name && fact.outcome === 'answered')
        lastAnswerMs = nowMs
      if (nowMs < span.fromMs || nowMs >= span.untilMs) return
      if (fact.type === 'start-failed' && fact.versionId === `${broken.name}.v1`) firstFaultMs ??= nowMs
      if (fact.type === 'gone' && fact.cause === 'crashed') firstFaultMs ??= nowMs
      if (fact.type !== 'start' || fact.functionName !== broken.name) return
      starts++
      const most = startsMax(span, nowMs - (firstFaultMs ?? nowMs), node.scenario.startsAtOnceMax)
      if (starts > most)
        fail(
          `${broken.name} was started ${starts} times, ${nowMs - (firstFaultMs ?? nowMs)} ms after its first fault: at most ${most}`,
        )
    },
    atEnd(nowMs) {
      if (nowMs - lastAnswerMs > LAST_ANSWER_MS_MAX)
        fail(
          `${broken.name} could run again since ${(span.untilMs / 1_000).toFixed(1)} s, and its last answer was at ${(lastAnswerMs / 1_000).toFixed(1)} s`,
        )
    },
  }
}

/** Those under way at once, those that are forgiven, and then one for each wait that is over. */
function startsMax({ how, fromMs }: Broken, sinceFirstMs: number, startsAtOnceMax: number): number {
  // Before it broke it ran: what was started then does not count, and what was wanted then is started now.
  const atFirst = startsAtOnceMax + (fromMs > 0 ? startsAtOnceMax : 0)
  let count = how === 'start' ? atFirst : atFirst + FORGIVEN + startsAtOnceMax
  let waitMs: number = INSTANCE_LIMITS.crashBackoffMsMin
  for (let atMs = waitMs; atMs <= sinceFirstMs; atMs += waitMs) {
    count++
    waitMs = Math.min(INSTANCE_LIMITS.crashBackoffMsMax, waitMs * 2)
  }
  return count
}
