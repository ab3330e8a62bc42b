import type { Instance } from '../pool/driver.ts'

/** An instance and what was last heard of it. */
export interface Held {
  readonly instance: Instance
  /** Signs of life the router has counted. */
  progress: number
  /** Requests it has had of the router of now. */
  started: number
  paused: boolean
  draining: boolean
  cpuMsAtSample: number
}

export class HeldInstances {
  readonly #heldById = new Map<string, Held>()

  add(instance: Instance): Held {
    const held: Held = {
      instance,
      progress: 0,
      started: 0,
      paused: false,
      draining: false,
      cpuMsAtSample: instance.usage().cpuMs,
    }
    this.#heldById.set(instance.id, held)
    return held
  }

  get(id: string): Held | undefined {
    return this.#heldById.get(id)
  }

  delete(id: string): void {
    this.#heldById.delete(id)
  }

  all(): readonly Held[] {
    return [...this.#heldById.values()]
  }

  versionIds(): ReadonlySet<string> {
    return new Set(this.all().map(({ instance }) => instance.versionId))
  }

  /** One that may get requests. */
  hasRunning(versionId: string): boolean {
    return this.all().some(({ instance, draining }) => instance.versionId === versionId && !draining)
  }
}
