import type { ExitCause, NodeStatus } from '../../sdk/model/node-status.ts'
import type { RouterMetrics, VersionMetrics } from '../../sdk/model/router-metrics.ts'
import type { EgressTraffic } from './egress-hold.ts'
import { renderMetrics } from './node-metrics-text.ts'
import { createNamedSums, createVersionSums, type NamedSums, type RunningSums } from './node-metrics-sums.ts'
import type { InstanceSample } from './usage-meter.ts'

/**
 * What this node tells Prometheus. Counters are kept here from what router, egress proxy and supervisor report; what
 * is so at the moment is asked for when it is rendered. Counters begin at zero with each agent, as Prometheus expects.
 *
 * Series of a version go an hour after it left the routes and its last instance ended, and those of a deleted function a
 * minute after: the last of them is scraped, and nothing grows with the number of deploys.
 */
export interface NodeMetricsOptions {
  /** Asked at each rendering. */
  collect(): NodeGauges
  /** Whether the router serves it. */
  isLive(functionName: string, versionId: string): boolean
  hasFunction(functionName: string): boolean
  /** Milliseconds on a clock that nobody sets. */
  readonly monotonicMs?: () => number
}

export interface NodeGauges {
  readonly status: Pick<NodeStatus, 'version' | 'budget' | 'events' | 'scaling' | 'processes'>
  readonly versions: readonly SlotGauge[]
}

/** The slots of a version's running instances. */
export interface SlotGauge {
  readonly functionName: string
  readonly versionId: string
  readonly used: number
  readonly free: number
  /** Requests that wait for one. */
  readonly queued: number
}

/** Everything there is to tell, as it is rendered. */
export interface MetricsState {
  readonly gauges: NodeGauges
  readonly routed: readonly VersionMetrics[]
  readonly unrouted: NamedSums
  readonly connections: number
  readonly cpu: readonly {
    readonly functionName: string
    readonly versionId: string
    readonly cpuMs: number
  }[]
  /** By function: ends by cause. */
  readonly ends: ReadonlyMap<string, ReadonlyMap<ExitCause, number>>
  /** By function: `requests`, `refused`, `bytesOut`, `bytesIn`. */
  readonly egress: ReadonlyMap<string, NamedSums>
}

interface VersionEntry {
  readonly functionName: string
  readonly versionId: string
  readonly routed: RunningSums<VersionMetrics>
  cpuMs: number
  goneSinceMs: number | undefined
}

interface FunctionEntry {
  readonly ends: Map<ExitCause, number>
  readonly egress: RunningSums<NamedSums>
  goneSinceMs: number | undefined
}

const VERSION_KEPT_MS = 3_600_000
const FUNCTION_KEPT_MS = 60_000
const FORGET_EVERY_MS = 10_000

export class NodeMetrics {
  readonly #options: NodeMetricsOptions
  readonly #monotonicMs: () => number
  readonly #versions = new Map<string, VersionEntry>()
  readonly #functions = new Map<string, FunctionEntry>()
  readonly #unrouted = createNamedSums()
  #connections = 0
  #instanceById = new Map<string, InstanceSample>()
  #forgotAtMs = 0

  constructor(options: NodeMetricsOptions) {
    this.#options = options
    this.#monotonicMs = options.monotonicMs ?? (() => performance.now())
  }

  onRouter({ epoch, versions, unrouted, connections }: RouterMetrics): void {
    for (const version of versions)
      this.#version(version.functionName, version.versionId).routed.set(epoch, version)
    this.#unrouted.set(epoch, Object.fromEntries(unrouted.map(({ code, count }) => [code, count])))
    this.#connections = connections
  }

  onTraffic({ epoch, functions }: EgressTraffic): void {
    for (const { functionName, ...sums } of functions) this.#function(functionName).egress.set(epoch, sums)
  }

  /** All instances there are, once a second. */
  onSample(instances: readonly InstanceSample[]): void {
    const sampled = instances.map((instance) => {
      this.#addCpu(instance)
      // One that is just gone reads as zero.
      const cpuMs = Math.max(instance.cpuMs, this.#instanceById.get(instance.id)?.cpuMs ?? 0)
      return [instance.id, { ...instance, cpuMs }] as const
    })
    this.#instanceById = new Map(sampled)
    const nowMs = this.#monotonicMs()
    if (nowMs - this.#forgotAtMs < FORGET_EVERY_MS) return
    this.#forgotAtMs = nowMs
    this.#forgetGone(nowMs)
  }

  /** `cpuMs`: of its whole life, where it could still be read. */
  onInstanceEnd(
    instance: Pick<InstanceSample, 'id' | 'functionName' | 'versionId'> & {
      readonly cause: ExitCause
      readonly cpuMs?: number | undefined
    },
  ): void {
    const { id, functionName, cause, cpuMs } = instance
    if (cpuMs !== undefined) this.#addCpu({ ...instance, cpuMs })
    this.#instanceById.delete(id)
    const { ends } = this.#function(functionName)
    ends.set(cause, (ends.get(cause) ?? 0) + 1)
  }

  render(): Promise<{ readonly contentType: string; readonly text: string }> {
    const versions = [...this.#versions.values()]
    return renderMetrics({
      gauges: this.#options.collect(),
      routed: versions.flatMap(({ routed }) => routed.total ?? []),
      unrouted: this.#unrouted.total ?? {},
      connections: this.#connections,
      cpu: versions.filter(({ cpuMs }) => cpuMs > 0),
      ends: new Map([...this.#functions].map(([name, { ends }]) => [name, ends])),
      egress: new Map(
        [...this.#functions].flatMap(([name, { egress }]) =>
          egress.total === undefined ? [] : [[name, egress.total] as const],
        ),
      ),
    })
  }

  #addCpu(instance: Pick<InstanceSample, 'id' | 'functionName' | 'versionId' | 'cpuMs'>): void {
    const before = this.#instanceById.get(instance.id)?.cpuMs ?? 0
    const version = this.#version(instance.functionName, instance.versionId)
    version.cpuMs += Math.max(0, instance.cpuMs - before)
  }

  #version(functionName: string, versionId: string): VersionEntry {
    const name = `${functionName}/${versionId}`
    let entry = this.#versions.get(name)
    if (entry === undefined) {
      const routed = createVersionSums()
      entry = { functionName, versionId, routed, cpuMs: 0, goneSinceMs: undefined }
      this.#versions.set(name, entry)
    }
    return entry
  }

  #function(functionName: string): FunctionEntry {
    let entry = this.#functions.get(functionName)
    if (entry === undefined) {
      entry = { ends: new Map(), egress: createNamedSums(), goneSinceMs: undefined }
      this.#functions.set(functionName, entry)
    }
    return entry
  }

  #forgetGone(nowMs: number): void {
    const { isLive, hasFunction } = this.#options
    const instances = [...this.#instanceById.values()]
    const versionsInUse = new Set(instances.map(({ versionId }) => versionId))
    const functionsInUse = new Set(instances.map(({ functionName }) => functionName))
    const isGone = (
      entry: { goneSinceMs: number | undefined },
      isInUse: boolean,
      keptMs: number,
    ): boolean => {
      entry.goneSinceMs = isInUse ? undefined : (entry.goneSinceMs ?? nowMs)
      return entry.goneSinceMs !== undefined && nowMs - entry.goneSinceMs >= keptMs
    }
    for (const [name, entry] of this.#versions) {
      const { functionName, versionId } = entry
      const isInUse = versionsInUse.has(versionId) || isLive(functionName, versionId)
      const keptMs = hasFunction(functionName) ? VERSION_KEPT_MS : FUNCTION_KEPT_MS
      if (isGone(entry, isInUse, keptMs)) this.#versions.delete(name)
    }
    for (const [name, entry] of this.#functions) {
      const isInUse = functionsInUse.has(name) || hasFunction(name)
      if (isGone(entry, isInUse, FUNCTION_KEPT_MS)) this.#functions.delete(name)
    }
  }
}
