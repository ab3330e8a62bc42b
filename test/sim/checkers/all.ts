import { rateAndQuotaAreKept } from './admission.ts'
import { neverAboveBudget, neverAboveMax } from './bounds.ts'
import type { MakeChecker } from './checker.ts'
import { brokenIsTriedSeldom } from './crash-loops.ts'
import { neverBelowMin } from './minimums.ts'
import { pausedIsAtRest } from './pauses.ts'
import { everyRequestEndsOnce, everySlotIsReleasedOnce, noRoomBesideAQueue } from './requests.ts'
import { idleIsGone, restIsPaused } from './rest.ts'
import { floodHurtsNobody, sharesFollowWeights, steadyLoadIsSteady } from './shares.ts'
import { nobodyStarves } from './starvation.ts'

/** Every property that every run is held to. */
export const CHECKERS = {
  'never above max': neverAboveMax,
  'never above budget': neverAboveBudget,
  'never below min': neverBelowMin,
  'every request ends once': everyRequestEndsOnce,
  'every slot is released once': everySlotIsReleasedOnce,
  'nobody waits beside a free slot': noRoomBesideAQueue,
  'rate and quota are kept': rateAndQuotaAreKept,
  'what is paused is at rest': pausedIsAtRest,
  'what is at rest is paused': restIsPaused,
  'what is idle is gone': idleIsGone,
  'nobody starves': nobodyStarves,
  'shares follow weights': sharesFollowWeights,
  'a flood hurts nobody': floodHurtsNobody,
  'a steady load is steady': steadyLoadIsSteady,
  'what is broken is tried seldom': brokenIsTriedSeldom,
} satisfies Readonly<Record<string, MakeChecker>>
