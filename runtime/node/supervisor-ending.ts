import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { Instance } from '../pool/driver.ts'
import { hasPendingWork } from './pending-work.ts'

/**
 * How an instance ends that nobody is angry with: the router sends it nothing new and says when nothing is in flight;
 * then its `waitUntil` work may finish; then it is stopped. All within one deadline.
 */
export interface EndingOptions {
  /** Asks the router to send it nothing more. False where there is no router: nothing is in flight then. */
  tellDrain(id: string): boolean
  /** A frozen instance has nothing pending, or it would not have been frozen; and it cannot be asked. */
  isPaused(id: string): boolean
}

const WORK_POLL_MS = 100

export class Endings {
  readonly #options: EndingOptions
  readonly #drainedById = new Map<string, () => void>()
  readonly #endingById = new Map<string, Promise<void>>()

  constructor(options: EndingOptions) {
    this.#options = options
  }

  /** An instance that is ending already goes on with the deadline it has, or with this one if that is sooner. */
  async finish(instance: Instance, deadlineMs: number): Promise<void> {
    const ending = this.#endingById.get(instance.id) ?? this.#begin(instance, deadlineMs)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(() => {
        resolve(instance.stop({ graceMs: INSTANCE_LIMITS.stopGraceMs }).then(() => undefined))
      }, deadlineMs)
    })
    await Promise.race([ending, late])
    clearTimeout(timer)
  }

  onDrained(id: string): void {
    this.#drainedById.get(id)?.()
  }

  onRouterLost(): void {
    for (const drained of this.#drainedById.values()) drained()
  }

  #begin(instance: Instance, deadlineMs: number): Promise<void> {
    const ending = this.#end(instance, deadlineMs)
    this.#endingById.set(instance.id, ending)
    void ending.finally(() => this.#endingById.delete(instance.id))
    return ending
  }

  async #end(instance: Instance, deadlineMs: number): Promise<void> {
    const until = performance.now() + deadlineMs
    await this.#drain(instance, deadlineMs)
    while (instance.exit === undefined && performance.now() < until) {
      if (this.#options.isPaused(instance.id) || !(await hasPendingWork(instance))) break
      await new Promise((resolve) => setTimeout(resolve, WORK_POLL_MS))
    }
    await instance.stop({ graceMs: INSTANCE_LIMITS.stopGraceMs })
  }

  async #drain({ id }: Instance, deadlineMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const drained = new Promise<void>((resolve) => {
      this.#drainedById.set(id, resolve)
      timer = setTimeout(resolve, deadlineMs)
    })
    if (this.#options.tellDrain(id)) await drained
    clearTimeout(timer)
    this.#drainedById.delete(id)
  }
}
