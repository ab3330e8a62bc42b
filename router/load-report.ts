import type { PooledInstance } from '../runtime/pool/pool.ts'
import type { InstanceLoad, VersionLoad } from '../runtime/pool/wire.ts'
import type { ServedVersion } from './served-version.ts'

interface Load {
  readonly instances: InstanceLoad[]
  readonly versions: VersionLoad[]
}

/** What was said last, so that only changes are said again; numbers that become zero are said once. */
export class LoadReport {
  #saidOfInstance = new WeakMap<PooledInstance, InstanceLoad>()
  #saidOfVersion = new WeakMap<ServedVersion, VersionLoad>()

  /** For an agent that has just come: everything counts as changed. */
  forget(): void {
    this.#saidOfInstance = new WeakMap()
    this.#saidOfVersion = new WeakMap()
  }

  make(served: Iterable<ServedVersion>, nowMs: number): Load {
    const load: Load = { instances: [], versions: [] }
    for (const version of served) {
      this.#addVersion(version, nowMs, load.versions)
      for (const instance of version.pool.instances) this.#addInstance(instance, load.instances)
    }
    return load
  }

  #addVersion(version: ServedVersion, nowMs: number, loads: VersionLoad[]): void {
    const { functionName, versionId, inFlight, queued, requests } = version.pool
    // Every time: what is not said is zero, and the next mean must not be thinned by the time since.
    const concurrency = round(version.occupancy.take(nowMs))
    const said = this.#saidOfVersion.get(version)
    const isQuiet = inFlight === 0 && queued === 0 && concurrency === 0
    const wasQuiet = said?.inFlight === 0 && said.queued === 0 && said.concurrency === 0
    if (isQuiet && wasQuiet && said.requests === requests) return
    const load = { functionName, versionId, inFlight, queued, requests, concurrency }
    this.#saidOfVersion.set(version, load)
    loads.push(load)
  }

  #addInstance(instance: PooledInstance, loads: InstanceLoad[]): void {
    const { id, inFlight, progress, started, paused } = instance
    const said = this.#saidOfInstance.get(instance)
    const isAsSaid =
      said?.inFlight === 0 &&
      inFlight === 0 &&
      said.progress === progress &&
      said.started === started &&
      said.paused === paused
    if (isAsSaid) return
    const load = { id, inFlight, progress, started, paused }
    this.#saidOfInstance.set(instance, load)
    loads.push(load)
  }
}

function round(mean: number): number {
  return Math.round(mean * 1_000) / 1_000
}
