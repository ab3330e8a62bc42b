import type { InstanceLoad, VersionLoad } from '../pool/wire.ts'
import type { SlotGauge } from './node-metrics.ts'

/** What the router last said of slots and queues. It says only what changed. */
export class SlotTable {
  readonly #inFlightById = new Map<string, number>()
  readonly #queuedByVersion = new Map<string, VersionLoad>()

  onLoad(instances: readonly InstanceLoad[], versions: readonly VersionLoad[]): void {
    for (const { id, inFlight } of instances) this.#inFlightById.set(id, inFlight)
    for (const load of versions) {
      if (load.queued > 0) this.#queuedByVersion.set(load.versionId, load)
      else this.#queuedByVersion.delete(load.versionId)
    }
  }

  /** Another router: nothing is in flight or waits that it has not named. */
  onRouterChange(): void {
    this.#inFlightById.clear()
    this.#queuedByVersion.clear()
  }

  /** All instances there are, once a second. Not at an instance's end: a report that was under way would name it after. */
  onSample(instances: readonly { readonly id: string }[]): void {
    const present = new Set(instances.map(({ id }) => id))
    for (const id of this.#inFlightById.keys()) if (!present.has(id)) this.#inFlightById.delete(id)
  }

  /** `instances`: those that take requests, with how many at a time. */
  gauges(
    instances: readonly {
      readonly id: string
      readonly functionName: string
      readonly versionId: string
      readonly concurrency: number
    }[],
  ): SlotGauge[] {
    const gaugeByVersion = new Map<string, { -readonly [Field in keyof SlotGauge]: SlotGauge[Field] }>()
    for (const { functionName, versionId, queued } of this.#queuedByVersion.values())
      gaugeByVersion.set(versionId, { functionName, versionId, used: 0, free: 0, queued })
    for (const { id, functionName, versionId, concurrency } of instances) {
      let gauge = gaugeByVersion.get(versionId)
      if (gauge === undefined) {
        gauge = { functionName, versionId, used: 0, free: 0, queued: 0 }
        gaugeByVersion.set(versionId, gauge)
      }
      const used = this.#inFlightById.get(id) ?? 0
      gauge.used += used
      gauge.free += Math.max(0, concurrency - used)
    }
    return [...gaugeByVersion.values()]
  }
}
