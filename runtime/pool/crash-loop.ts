/**
 * Which versions may be started after they failed, and how many of each.
 *
 * A start that failed is never forgiven: the same code would fail again. Of crashes a few in a row are (a cold start
 * costs milliseconds). After that each fault doubles the wait; when it is over, one instance at a time is tried until
 * it answers. The row ends with a life that was healthy: enough answers, or a minute.
 */
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'

/** An instance that answered so many requests, or lived so long, was healthy. */
export const HEALTHY_ANSWERS = 10
export const HEALTHY_LIFE_MS = 60_000

const CRASHES_FORGIVEN = 4
/** A version that nobody asked for since is forgotten, so long after its wait. */
const FORGET_MS = 600_000
const ROWS_MAX = 1_000

interface Row {
  faults: number
  message: string
  atMs: number
  untilMs: number
  /** The wait was long enough to count: until it answers, one instance at a time. */
  probing: boolean
}

export type StartAllowance =
  | { readonly type: 'any' }
  /** One instance at a time. */
  | { readonly type: 'probe'; readonly message: string; readonly faultAtMs: number }
  | { readonly type: 'none'; readonly waitMs: number; readonly message: string }

const ANY: StartAllowance = { type: 'any' }

export class CrashLoops {
  readonly #rowByVersion = new Map<string, Row>()

  get size(): number {
    return this.#rowByVersion.size
  }

  /** Returns how long it is not started again, in ms. */
  onStartFailed(versionId: string, message: string, nowMs: number): number {
    return this.#onFault(versionId, { forgiven: 0, message }, nowMs)
  }

  /** Of an instance whose life was not healthy. Returns the wait in ms, 0 for none. */
  onCrash(versionId: string, message: string, nowMs: number): number {
    return this.#onFault(versionId, { forgiven: CRASHES_FORGIVEN, message }, nowMs)
  }

  /** Of an instance that is up since `upSinceMs`: one from before the last fault says nothing about the next start. */
  onAnswer(versionId: string, upSinceMs: number): void {
    const row = this.#rowByVersion.get(versionId)
    if (row !== undefined && upSinceMs >= row.atMs) row.probing = false
  }

  onHealthy(versionId: string, upSinceMs: number): void {
    const row = this.#rowByVersion.get(versionId)
    if (row !== undefined && upSinceMs >= row.atMs) this.#rowByVersion.delete(versionId)
  }

  check(versionId: string, nowMs: number): StartAllowance {
    const row = this.#rowByVersion.get(versionId)
    if (row === undefined) return ANY
    const { untilMs, message } = row
    if (nowMs < untilMs) return { type: 'none', waitMs: untilMs - nowMs, message }
    return row.probing ? { type: 'probe', message, faultAtMs: row.atMs } : ANY
  }

  forgetOld(nowMs: number): void {
    for (const [versionId, row] of this.#rowByVersion) {
      if (nowMs - row.untilMs >= FORGET_MS) this.#rowByVersion.delete(versionId)
    }
  }

  #onFault(versionId: string, fault: { forgiven: number; message: string }, nowMs: number): number {
    const row = this.#rowByVersion.get(versionId) ?? {
      faults: 0,
      message: '',
      atMs: nowMs,
      untilMs: nowMs,
      probing: false,
    }
    row.message = fault.message
    // Instances that fail together are one fault: those that were started before the wait began do not prolong it.
    if (nowMs < row.untilMs) return row.untilMs - nowMs
    row.faults++
    row.atMs = nowMs
    const step = row.faults - fault.forgiven
    const { crashBackoffMsMin, crashBackoffMsMax } = INSTANCE_LIMITS
    const waitMs = step <= 0 ? 0 : Math.min(crashBackoffMsMax, crashBackoffMsMin * 2 ** (step - 1))
    row.untilMs = nowMs + waitMs
    if (waitMs > 0) row.probing = true
    this.#keep(versionId, row)
    return waitMs
  }

  /** The newest last; beyond the bound the oldest is forgotten. */
  #keep(versionId: string, row: Row): void {
    this.#rowByVersion.delete(versionId)
    this.#rowByVersion.set(versionId, row)
    if (this.#rowByVersion.size <= ROWS_MAX) return
    for (const oldest of this.#rowByVersion.keys()) {
      this.#rowByVersion.delete(oldest)
      return
    }
  }
}
