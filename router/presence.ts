import type { Admission } from '../runtime/pool/admission.ts'
import type { Refusal } from '../runtime/pool/pool.ts'
import type { ServedVersion } from './served-version.ts'

/** A request within the bounds of its function: let in once, however often it is placed anew, and out once. */
export class Presence {
  #at: ServedVersion | undefined
  /** The one that let it in: that of the function may be another by now. */
  #admission: Admission | undefined

  get isEmpty(): boolean {
    return this.#at === undefined
  }

  enter(served: ServedVersion, nowMs: number): Refusal | undefined {
    const before = this.#at
    if (before === served) return undefined
    if (this.#admission !== served.admission) {
      this.leave(nowMs)
      const refusal = served.admission.enter(nowMs)
      if (refusal !== undefined) return refusal
      this.#admission = served.admission
    } else before?.occupancy.leave(nowMs)
    served.occupancy.enter(nowMs)
    this.#at = served
    return undefined
  }

  /** Without being work for an instance: a static file is none. */
  admit({ admission }: ServedVersion, nowMs: number): Refusal | undefined {
    if (this.#admission === admission) return undefined
    this.leave(nowMs)
    const refusal = admission.enter(nowMs)
    if (refusal === undefined) this.#admission = admission
    return refusal
  }

  leave(nowMs: number): void {
    this.#admission?.leave()
    this.#admission = undefined
    this.#at?.occupancy.leave(nowMs)
    this.#at = undefined
  }
}
