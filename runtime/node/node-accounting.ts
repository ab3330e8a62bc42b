import { randomUUID } from 'node:crypto'
import { numberedVersionIds, type Head } from '../../sdk/model/function.ts'
import type { ExitCause, NodeStatus } from '../../sdk/model/node-status.ts'
import { mergePolicy } from '../../sdk/model/policy.ts'
import type { RouterMetrics } from '../../sdk/model/router-metrics.ts'
import type { ControlPorts } from '../control/ports.ts'
import type { InstanceLoad, VersionLoad } from '../pool/wire.ts'
import type { Bucket } from '../registry/bucket.ts'
import { createUsageStore } from '../registry/usage-store.ts'
import type { EgressTraffic } from './egress-hold.ts'
import { NodeMetrics, type SlotGauge } from './node-metrics.ts'
import { SlotTable } from './node-metrics-slots.ts'
import { UsageMeter, type InstanceSample } from './usage-meter.ts'

/** All that is counted on this node: who reports tells it once, here, for the metrics and for the usage. */
export interface Accounting extends Pick<ControlPorts, 'usage' | 'metrics'> {
  onRouter(metrics: RouterMetrics): void
  onTraffic(traffic: EgressTraffic): void
  onLoad(instances: readonly InstanceLoad[], versions: readonly VersionLoad[]): void
  onSample(instances: readonly InstanceSample[]): void
  onInstanceEnd(end: InstanceEnd): void
  /** Writes what is not written yet. */
  close(): Promise<void>
}

export interface InstanceEnd {
  readonly id: string
  readonly functionName: string
  readonly versionId: string
  readonly cause: ExitCause
  /** Of its whole life, where it could still be read. */
  readonly cpuMs?: number | undefined
}

export interface AccountingOptions {
  readonly bucket: Bucket
  head(): Head
  status(): NodeStatus
  onEvent(line: string): void
}

/** To be awaited before anybody reports. */
export async function openAccounting(options: AccountingOptions): Promise<Accounting> {
  const { bucket, head, status, onEvent } = options
  const isLive = (functionName: string, versionId: string): boolean => {
    const record = head().functions[functionName]
    if (record === undefined) return false
    return (
      record.deployment.shares.some((share) => share.versionId === versionId) ||
      (record.previewHosts && record.recentVersionIds.includes(versionId)) ||
      numberedVersionIds(record).includes(versionId)
    )
  }
  const slots = new SlotTable()
  const meter = new UsageMeter({ store: createUsageStore({ bucket, newId: randomUUID }), isLive, onEvent })
  const metrics = new NodeMetrics({
    collect: () => {
      const now = status()
      return { status: now, versions: slotGauges(slots, head(), now) }
    },
    isLive,
    hasFunction: (functionName) => head().functions[functionName] !== undefined,
  })
  await meter.start()
  let routerEpoch = ''
  return {
    onRouter: (message) => {
      if (message.epoch !== routerEpoch) slots.onRouterChange()
      routerEpoch = message.epoch
      metrics.onRouter(message)
      meter.onRouter(message)
    },
    onTraffic: (traffic) => {
      metrics.onTraffic(traffic)
      meter.onTraffic(traffic)
    },
    onLoad: (instances, versions) => slots.onLoad(instances, versions),
    onSample: (instances) => {
      metrics.onSample(instances)
      meter.onSample(instances)
      slots.onSample(instances)
    },
    onInstanceEnd: (end) => {
      metrics.onInstanceEnd(end)
      meter.onInstanceEnd(end)
    },
    usage: (query) => meter.report(query),
    metrics: () => metrics.render(),
    close: () => meter.close(),
  }
}

/** Slots of the instances that take requests: a paused one is thawed for the next. */
function slotGauges(slots: SlotTable, head: Head, { processes }: NodeStatus): SlotGauge[] {
  const concurrencyByFunction = new Map<string, number>()
  const concurrencyOf = (functionName: string): number => {
    let concurrency = concurrencyByFunction.get(functionName)
    if (concurrency === undefined) {
      concurrency = mergePolicy(head.settings?.policy, head.functions[functionName]?.policy).concurrency
      concurrencyByFunction.set(functionName, concurrency)
    }
    return concurrency
  }
  return slots.gauges(
    processes.flatMap(({ role, state, instance, function: functionName, version: versionId }) => {
      if (role !== 'instance' || (state !== 'running' && state !== 'paused')) return []
      if (instance === undefined || functionName === undefined || versionId === undefined) return []
      return [{ id: instance, functionName, versionId, concurrency: concurrencyOf(functionName) }]
    }),
  )
}
