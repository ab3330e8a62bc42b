/**
 * A usage meter with everything around it that tests move by hand: clocks, a bucket that dies with the agent, and a
 * router and an egress proxy that count as the real ones do.
 */
import { UsageMeter, type InstanceSample } from '../../runtime/node/usage-meter.ts'
import type { Bucket } from '../../runtime/registry/bucket.ts'
import { createUsageStore } from '../../runtime/registry/usage-store.ts'
import type { Histogram, RouterMetrics, VersionMetrics } from '../../sdk/model/router-metrics.ts'
import type { UsageHour } from '../../sdk/model/usage.ts'
import { openMemoryBucket, type MemoryStore } from './memory-bucket.ts'

export const NO_TIMES: Histogram = { counts: Array.from({ length: 16 }, () => 0), sumS: 0 }

export function versionMetrics(
  counts: Partial<VersionMetrics> & { readonly functionName: string },
): VersionMetrics {
  return {
    versionId: 'v1',
    requests: [],
    refusals: [],
    total: NO_TIMES,
    queue: NO_TIMES,
    coldStart: NO_TIMES,
    function: NO_TIMES,
    coldStarts: 0,
    requestBytes: 0,
    responseBytes: 0,
    ...counts,
  }
}

export function routerMetrics(epoch: string, ...versions: readonly VersionMetrics[]): RouterMetrics {
  return { epoch, versions, unrouted: [], connections: 0 }
}

export function sample(instance: Partial<InstanceSample> = {}): InstanceSample {
  return {
    id: 'i1',
    functionName: 'shop',
    versionId: 'v1',
    startedAtMs: 0,
    cpuMs: 0,
    memoryBytes: 0,
    ...instance,
  }
}

export interface UsagePlace {
  readonly store: MemoryStore
  nowMs: number
  monotonicMs: number
  readonly live: Set<string>
  readonly events: string[]
  /** The next agent on the same bucket. The one before must have been killed or closed. */
  start(): Promise<UsageMeter>
  /** Ends the agent of now as by kill -9: in its `put`th write of `flush`, which is done or not. */
  killInFlush(meter: UsageMeter, at: { readonly put: number; readonly isDone: boolean }): Promise<void>
  /** Every write fails until it is taken back. */
  refuseWrites(message: string | undefined): void
}

export function createUsagePlace(): UsagePlace {
  const store: MemoryStore = new Map()
  let ids = 0
  let refusal: string | undefined
  let killAt: { put: number; isDone: boolean; onKilled(): void } | undefined
  let agent = { isDead: false }

  const bucketOf = (self: { isDead: boolean }): Bucket => {
    const inner = openMemoryBucket({ store })
    const never = (): Promise<never> => new Promise(() => undefined)
    const put = async <T>(write: () => Promise<T>): Promise<T> => {
      if (self.isDead) return never()
      if (refusal !== undefined) throw new Error(refusal)
      if (killAt === undefined || killAt.put-- > 0) return write()
      self.isDead = true
      if (killAt.isDone) await write()
      killAt.onKilled()
      return never()
    }
    return {
      ...inner,
      get: (key) => (self.isDead ? never() : inner.get(key)),
      head: (key) => (self.isDead ? never() : inner.head(key)),
      putIfAbsent: (key, body) => put(() => inner.putIfAbsent(key, body)),
      putIfMatch: (key, body, etag) => put(() => inner.putIfMatch(key, body, etag)),
      delete: (key) => put(() => inner.delete(key)),
    }
  }

  const place: UsagePlace = {
    store,
    nowMs: Date.UTC(2026, 10, 21, 14, 30),
    monotonicMs: 0,
    live: new Set(['shop/v1', 'blog/v1']),
    events: [],
    async start() {
      agent = { isDead: false }
      const meter = new UsageMeter({
        store: createUsageStore({ bucket: bucketOf(agent), newId: () => `write-${ids++}` }),
        isLive: (functionName, versionId) => place.live.has(`${functionName}/${versionId}`),
        onEvent: (line) => place.events.push(line),
        now: () => place.nowMs,
        monotonicMs: () => place.monotonicMs,
      })
      await meter.start()
      return meter
    },
    async killInFlush(meter, { put, isDone }) {
      const killed = new Promise<void>((resolve) => {
        killAt = { put, isDone, onKilled: resolve }
      })
      await Promise.race([killed, meter.flush()])
      killAt = undefined
      agent.isDead = true
    },
    refuseWrites(message) {
      refusal = message
    },
  }
  return place
}

/** Sums over all hours, by function. */
export async function totals(
  meter: UsageMeter,
): Promise<Record<string, Omit<UsageHour, 'functionName' | 'hour'>>> {
  const sums: Record<string, Record<string, number>> = {}
  for (const { functionName, hour: _, ...numbers } of (await meter.report({ sinceMs: 0 })).hours) {
    const sum = (sums[functionName] ??= {})
    for (const [field, value] of Object.entries(numbers)) sum[field] = (sum[field] ?? 0) + value
  }
  return sums as Record<string, Omit<UsageHour, 'functionName' | 'hour'>>
}
