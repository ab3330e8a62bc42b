/**
 * CPU time of requests, as near as it can be had: an instance is a process and its CPU is known, its requests' is not.
 * What it used since it was last asked is shared among the requests that ended since, by how long each was with it; and no
 * request has more than that. What is left over goes to the next report's: a request may have ended behind the report that
 * was just read. Requests that run one at a time, as under development, get their own.
 */
export interface EndedOnInstance {
  readonly instanceId: string | undefined
  /** How long the instance had it. */
  readonly functionMs: number
}

export class CpuShares {
  readonly #cpuMsOf: (instanceId: string) => number | undefined
  readonly #askedByInstance = new Map<string, number>()
  readonly #leftByInstance = new Map<string, number>()
  /** Used since the report before; while a report is read. */
  readonly #freshByInstance = new Map<string, number>()

  /** `instanceIds`: those there are; what they used so far is nobody's. */
  constructor(cpuMsOf: (instanceId: string) => number | undefined, instanceIds: readonly string[]) {
    this.#cpuMsOf = cpuMsOf
    for (const id of instanceIds) this.#askedByInstance.set(id, cpuMsOf(id) ?? 0)
  }

  /** Milliseconds, in the order of the requests. */
  share(requests: readonly EndedOnInstance[]): readonly number[] {
    const totalByInstance = new Map<string, number>()
    for (const { instanceId, functionMs } of requests) {
      if (instanceId === undefined) continue
      totalByInstance.set(instanceId, (totalByInstance.get(instanceId) ?? 0) + functionMs)
    }
    const usedByInstance = new Map<string, number>()
    for (const id of totalByInstance.keys()) usedByInstance.set(id, this.#usedSince(id))
    for (const [id, usedMs] of usedByInstance) this.#leave(id, usedMs - (totalByInstance.get(id) ?? 0))
    return requests.map(({ instanceId, functionMs }) => {
      const totalMs = totalByInstance.get(instanceId ?? '') ?? 0
      const usedMs = usedByInstance.get(instanceId ?? '') ?? 0
      return totalMs === 0 ? 0 : Math.min(functionMs, (usedMs * functionMs) / totalMs)
    })
  }

  #leave(instanceId: string, leftMs: number): void {
    // Not twice: what nobody claims was the instance's own.
    const fresh = Math.max(0, Math.min(leftMs, this.#freshByInstance.get(instanceId) ?? 0))
    this.#leftByInstance.set(instanceId, fresh)
    if (!this.#askedByInstance.has(instanceId)) this.#leftByInstance.delete(instanceId)
    this.#freshByInstance.delete(instanceId)
  }

  #usedSince(instanceId: string): number {
    const cpuMs = this.#cpuMsOf(instanceId)
    const before = this.#askedByInstance.get(instanceId) ?? 0
    this.#askedByInstance.delete(instanceId)
    // It is gone.
    if (cpuMs === undefined) {
      this.#leftByInstance.delete(instanceId)
      return 0
    }
    this.#askedByInstance.set(instanceId, cpuMs)
    if (this.#askedByInstance.size > INSTANCES_MAX) {
      const [oldest] = this.#askedByInstance.keys()
      this.#askedByInstance.delete(oldest!)
      this.#leftByInstance.delete(oldest!)
    }
    const fresh = Math.max(0, cpuMs - before)
    this.#freshByInstance.set(instanceId, fresh)
    return fresh + (this.#leftByInstance.get(instanceId) ?? 0)
  }
}

const INSTANCES_MAX = 1_000
