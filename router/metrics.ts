/**
 * What this router has counted since it started, by version. Plain sums that only grow: the agent makes metrics and
 * usage of them, and a report that is lost or heard twice does no harm. Observing a request allocates nothing (but for
 * a status or a code that is seen for the first time); reports are made once a second of what has changed.
 *
 * A version that is not live any more is forgotten after a while, once an agent has had its last numbers. Should it come
 * back it counts from zero: lower sums within an epoch are a fresh start.
 */
import type { ErrorCode } from '../sdk/model/errors.ts'
import type { RouterMetrics, VersionMetrics } from '../sdk/model/router-metrics.ts'
import { LatencyHistogram } from './histogram.ts'
import type { RequestRecord } from './request-log.ts'

interface StatusCount {
  readonly status: number
  readonly cold: boolean
  count: number
}

type CodeCounts = Map<ErrorCode, number>

/** The numbers of one version. */
export class VersionMeter {
  readonly functionName: string
  readonly versionId: string
  changed = false
  /** Since when the version has not been live; it may come back. */
  retiredAtMs: number | undefined
  readonly #countByKey = new Map<number, StatusCount>()
  /** Nearly always the next one's too: saves the lookup. */
  #last: StatusCount = { status: 0, cold: false, count: 0 }
  readonly #refusals: CodeCounts = new Map()
  readonly #errors: CodeCounts = new Map()
  readonly #total = new LatencyHistogram()
  readonly #queue = new LatencyHistogram()
  readonly #coldStart = new LatencyHistogram()
  readonly #function = new LatencyHistogram()
  #coldStarts = 0
  #requestBytes = 0
  #responseBytes = 0

  constructor(functionName: string, versionId: string) {
    this.functionName = functionName
    this.versionId = versionId
  }

  observe(record: RequestRecord): void {
    this.changed = true
    const { status, cold, error, functionMs } = record
    if (this.#last.status !== status || this.#last.cold !== cold) this.#last = this.#countOf(status, cold)
    this.#last.count++
    this.#requestBytes += record.requestBytes
    this.#responseBytes += record.responseBytes
    if (error !== undefined) addTo(functionMs === undefined ? this.#refusals : this.#errors, error)
    // A WebSocket is counted, but how long it lasts says nothing about how fast its function is.
    const isTunnel = status === 101
    if (!isTunnel) this.#total.observe(record.totalMs)
    if (functionMs === undefined) {
      // The longest waits of all are those that were in vain.
      if (error === 'queue_timeout' || error === 'node_full') this.#queue.observe(record.queueMs)
      return
    }
    if (!isTunnel) this.#function.observe(functionMs)
    if (cold) {
      this.#coldStarts++
      this.#coldStart.observe(record.queueMs)
    } else this.#queue.observe(record.queueMs)
  }

  #countOf(status: number, cold: boolean): StatusCount {
    const key = status * 2 + (cold ? 1 : 0)
    let count = this.#countByKey.get(key)
    if (count === undefined) this.#countByKey.set(key, (count = { status, cold, count: 0 }))
    return count
  }

  toJSON(): VersionMetrics {
    return {
      functionName: this.functionName,
      versionId: this.versionId,
      requests: [...this.#countByKey.values()],
      refusals: listOf(this.#refusals),
      errors: listOf(this.#errors),
      total: this.#total.toJSON(),
      queue: this.#queue.toJSON(),
      coldStart: this.#coldStart.toJSON(),
      function: this.#function.toJSON(),
      coldStarts: this.#coldStarts,
      requestBytes: this.#requestBytes,
      responseBytes: this.#responseBytes,
    }
  }
}

export class Metrics {
  readonly #epoch: string
  readonly #retiredKeptMs: number
  readonly #meterByVersionId = new Map<string, VersionMeter>()
  readonly #unrouted: CodeCounts = new Map()
  #changed = false
  #connections = 0

  /** `epoch`: another one for each start of a router. */
  constructor(options: { readonly epoch: string; readonly retiredKeptMs: number }) {
    this.#epoch = options.epoch
    this.#retiredKeptMs = options.retiredKeptMs
  }

  /** Made at the first request; the same one if the version was live before. */
  of(functionName: string, versionId: string): VersionMeter {
    let meter = this.#meterByVersionId.get(versionId)
    if (meter === undefined) {
      meter = new VersionMeter(functionName, versionId)
      this.#meterByVersionId.set(versionId, meter)
    }
    meter.retiredAtMs = undefined
    return meter
  }

  /** A request that was refused before it had a version. */
  addUnrouted(code: ErrorCode): void {
    addTo(this.#unrouted, code)
    this.#changed = true
  }

  /** For an agent that has just come: everything counts as changed. */
  forgetReports(): void {
    this.#changed = true
    for (const meter of this.#meterByVersionId.values()) meter.changed = true
  }

  /** Hands what has changed to `send`; where it does not take it, it stays changed. Only to be called while an agent listens. */
  report(
    now: { readonly nowMs: number; readonly connections: number },
    send: (metrics: RouterMetrics) => boolean,
  ): void {
    const changed = [...this.#meterByVersionId.values()].filter((meter) => meter.changed)
    if (this.#changed || changed.length > 0 || now.connections !== this.#connections) {
      const { connections } = now
      const versions = changed.map((meter) => meter.toJSON())
      if (!send({ epoch: this.#epoch, versions, unrouted: listOf(this.#unrouted), connections })) return
      this.#changed = false
      this.#connections = connections
      for (const meter of changed) meter.changed = false
    }
    for (const [versionId, { retiredAtMs }] of this.#meterByVersionId) {
      if (retiredAtMs !== undefined && now.nowMs - retiredAtMs >= this.#retiredKeptMs)
        this.#meterByVersionId.delete(versionId)
    }
  }
}

function addTo(counts: CodeCounts, code: ErrorCode): void {
  counts.set(code, (counts.get(code) ?? 0) + 1)
}

function listOf(counts: CodeCounts): { readonly code: ErrorCode; readonly count: number }[] {
  return [...counts].map(([code, count]) => ({ code, count }))
}
