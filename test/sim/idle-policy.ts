/** How long the one instance of a function stays after each request, and what that costs: no ticks, one step per request. */
import { DEFAULT_POLICY } from '../../sdk/model/policy.ts'
import { IdleHistogram, type IdleWindows } from '../../runtime/pool/idle-histogram.ts'
import { newFunction, newVersion } from '../../runtime/pool/planner-records.ts'
import { idleMsOf } from '../../runtime/pool/planner-scale.ts'
import type { IdleRequest } from './idle-arrivals.ts'

/** The spans, from the end of a request on, in which an instance is there if no other request comes. */
export type WarmSpans = readonly (readonly [fromMs: number, untilMs: number])[]

export interface IdlePolicy {
  /** A request has ended; `gapMs`: that lay before it, if any did. */
  spans(gapMs: number | undefined): WarmSpans
}

export interface IdleOutcome {
  readonly requests: number
  readonly cold: number
  readonly warmMs: number
}

export class FixedIdle implements IdlePolicy {
  readonly #spans: WarmSpans

  constructor(idleMs: number) {
    this.#spans = [[0, idleMs]]
  }

  spans(): WarmSpans {
    return this.#spans
  }
}

/** The planner's own histogram and idle time. */
export class AutoIdle implements IdlePolicy {
  readonly #version = newVersion('v1', newFunction('f', 0))
  #history: IdleHistogram | undefined

  constructor() {
    const policy = { ...DEFAULT_POLICY, idleMs: 'auto' as const }
    this.#version.fn.policy = policy
    this.#version.spec = {
      functionName: 'f',
      versionId: 'v1',
      percent: 100,
      policy,
      memoryMib: 0,
      reserveMib: 0,
    }
  }

  spans(gapMs: number | undefined): WarmSpans {
    if (gapMs !== undefined) {
      this.#history ??= new IdleHistogram()
      this.#history.record(gapMs)
    }
    const windows: IdleWindows | undefined = this.#history?.windows()
    this.#version.fn.windows = windows
    const stays = [0, idleMsOf(this.#version)] as const
    if (windows === undefined || windows.preWarmMs === 0) return [stays]
    return [stays, [windows.preWarmMs, windows.preWarmMs + windows.keepAliveMs]]
  }
}

export function runIdlePolicy(
  policy: IdlePolicy,
  requests: Iterable<IdleRequest>,
  untilMs: number,
): IdleOutcome {
  let count = 0
  let cold = 0
  let warmMs = 0
  let restSinceMs: number | undefined
  let spans: WarmSpans = []
  for (const { atMs, durationMs } of requests) {
    count++
    const endMs = atMs + durationMs
    // While another is still being answered nothing rests.
    if (restSinceMs !== undefined && atMs <= restSinceMs) {
      warmMs += Math.max(0, endMs - restSinceMs)
      restSinceMs = Math.max(restSinceMs, endMs)
      continue
    }
    const gapMs = restSinceMs === undefined ? undefined : atMs - restSinceMs
    if (gapMs === undefined) cold++
    else {
      if (!spans.some(([fromMs, toMs]) => gapMs >= fromMs && gapMs < toMs)) cold++
      warmMs += warmWithin(spans, gapMs)
    }
    warmMs += durationMs
    restSinceMs = endMs
    spans = policy.spans(gapMs)
  }
  if (restSinceMs !== undefined) warmMs += warmWithin(spans, Math.max(0, untilMs - restSinceMs))
  return { requests: count, cold, warmMs }
}

function warmWithin(spans: WarmSpans, gapMs: number): number {
  let sum = 0
  for (const [fromMs, untilMs] of spans) sum += Math.max(0, Math.min(gapMs, untilMs) - fromMs)
  return sum
}
