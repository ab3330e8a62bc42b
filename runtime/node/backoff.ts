import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'

/**
 * When a version may be started again after it failed. A few faults in a row are forgiven at once (a cold start costs
 * milliseconds); after them each doubles the wait. An instance that answered anything ends the row.
 */
const FORGIVEN_FAULTS = 4

export class Backoff {
  readonly #faultsByVersion = new Map<string, { count: number; untilMs: number; message: string }>()

  /** A start that failed is never forgiven: the same code would fail again. Returns the wait in ms, 0 for none. */
  onFault(
    versionId: string,
    fault: { readonly atStart: boolean; readonly message: string },
    nowMs: number,
  ): number {
    const faults = this.#faultsByVersion.get(versionId) ?? { count: 0, untilMs: 0, message: '' }
    faults.count++
    faults.message = fault.message
    const step = fault.atStart ? faults.count : faults.count - FORGIVEN_FAULTS
    const { crashBackoffMsMin, crashBackoffMsMax } = INSTANCE_LIMITS
    const waitMs = step <= 0 ? 0 : Math.min(crashBackoffMsMax, crashBackoffMsMin * 2 ** (step - 1))
    faults.untilMs = nowMs + waitMs
    this.#faultsByVersion.set(versionId, faults)
    return waitMs
  }

  onAnswer(versionId: string): void {
    this.#faultsByVersion.delete(versionId)
  }

  /** What stands in the way of a start now, if anything does. */
  check(versionId: string, nowMs: number): { readonly waitMs: number; readonly message: string } | undefined {
    const faults = this.#faultsByVersion.get(versionId)
    if (faults === undefined || faults.untilMs <= nowMs) return undefined
    return { waitMs: faults.untilMs - nowMs, message: faults.message }
  }
}
