import { beforeEach, describe, expect, test } from 'vitest'
import { NodeMetrics, type NodeGauges } from '../../runtime/node/node-metrics.ts'
import { SlotTable } from '../../runtime/node/node-metrics-slots.ts'
import type { ProcessStatus } from '../../sdk/model/node-status.ts'
import type { Histogram } from '../../sdk/model/router-metrics.ts'
import { NO_TIMES, routerMetrics, sample, versionMetrics } from '../harness/usage-place.ts'

const HOUR_MS = 3_600_000
let gauges: NodeGauges
let live: Set<string>
let nowMs: number
let metrics: NodeMetrics
beforeEach(() => {
  gauges = {
    status: { version: '1.2.3', budget: { memoryMib: 512, cpus: 2 }, events: [], scaling: [], processes: [] },
    versions: [],
  }
  live = new Set(['shop/v1'])
  nowMs = 1_000_000
  metrics = new NodeMetrics({
    collect: () => gauges,
    isLive: (functionName, versionId) => live.has(`${functionName}/${versionId}`),
    hasFunction: (functionName) => [...live].some((each) => each.startsWith(`${functionName}/`)),
    monotonicMs: () => nowMs,
  })
})

/** Values by series, as a scraper reads the text. Throws for a line that the format does not have. */
async function scrape(): Promise<Map<string, number>> {
  const { text } = await metrics.render()
  const values = new Map<string, number>()
  const typed = new Set<string>()
  for (const line of text.split('\n')) {
    if (line === '') continue
    const type = /^# TYPE (\w+) (?:counter|gauge|histogram)$/.exec(line)?.[1]
    if (type !== undefined) {
      expect(typed.has(type), `${type} twice`).toBe(false)
      typed.add(type)
      continue
    }
    if (/^# HELP \w+ .+$/.test(line)) continue
    const match = /^(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)+)\})? (\S+)$/.exec(line)
    if (match === null) throw new Error(`no line of the format: ${line}`)
    const [, name = '', labels = '', value] = match
    expect(typed.has(name.replace(/_(?:bucket|sum|count)$/, '')) || typed.has(name), name).toBe(true)
    const series =
      labels === ''
        ? name
        : `${name}{${labels
            .split(/,(?=\w+=")/)
            .sort()
            .join(',')}}`
    expect(values.has(series), `${series} twice`).toBe(false)
    values.set(series, Number(value))
  }
  expect([...values.values()].every((value) => Number.isFinite(value))).toBe(true)
  return values
}

const times = (counts: Readonly<Record<number, number>>, sumS: number): Histogram => ({
  counts: NO_TIMES.counts.map((_, index) => counts[index] ?? 0),
  sumS,
})
const answered = (count: number, versionId = 'v1', functionName = 'shop') =>
  versionMetrics({ functionName, versionId, requests: [{ status: 200, cold: false, count }] })

describe('what the router counts', () => {
  test('becomes counters by function, version, status, cold and reason', async () => {
    metrics.onRouter({
      ...routerMetrics(
        'a',
        versionMetrics({
          functionName: 'shop',
          requests: [
            { status: 200, cold: false, count: 7 },
            { status: 200, cold: true, count: 2 },
            { status: 429, cold: false, count: 3 },
          ],
          refusals: [{ code: 'rate_limited', count: 3 }],
          errors: [{ code: 'function_threw', count: 1 }],
          coldStarts: 2,
          requestBytes: 30,
          responseBytes: 90,
        }),
      ),
      unrouted: [{ code: 'route_not_found', count: 4 }],
      connections: 6,
    })
    const values = await scrape()
    const version = 'function="shop",'
    expect(values.get(`isola_requests_total{cold="false",${version}status="200",version="v1"}`)).toBe(7)
    expect(values.get(`isola_requests_total{cold="true",${version}status="200",version="v1"}`)).toBe(2)
    expect(values.get(`isola_requests_total{cold="false",${version}status="429",version="v1"}`)).toBe(3)
    expect(values.get('isola_refusals_total{function="shop",reason="rate_limited"}')).toBe(3)
    expect(values.get('isola_errors_total{function="shop",reason="function_threw"}')).toBe(1)
    expect(values.get('isola_cold_starts_total{function="shop",version="v1"}')).toBe(2)
    expect(values.get('isola_request_bytes_total{function="shop",version="v1"}')).toBe(30)
    expect(values.get('isola_response_bytes_total{function="shop",version="v1"}')).toBe(90)
    expect(values.get('isola_unrouted_total{reason="route_not_found"}')).toBe(4)
    expect(values.get('isola_router_connections')).toBe(6)
    expect(values.get('isola_build_info{version="1.2.3"}')).toBe(1)
    expect((await metrics.render()).contentType).toBe('text/plain; version=0.0.4; charset=utf-8')
  })

  test('histograms have cumulative buckets up to +Inf, with sum and count', async () => {
    metrics.onRouter(
      routerMetrics('a', {
        ...answered(6),
        total: times({ 0: 1, 2: 3, 15: 2 }, 121.5),
        queue: times({ 0: 4 }, 0.5),
      }),
    )
    const values = await scrape()
    const bucket = (le: string): number | undefined =>
      values.get(`isola_request_duration_seconds_bucket{function="shop",le="${le}",version="v1"}`)
    expect(['0.001', '0.0025', '0.005', '0.01', '60', '+Inf'].map(bucket)).toEqual([1, 1, 4, 4, 4, 6])
    expect(values.get('isola_request_duration_seconds_sum{function="shop",version="v1"}')).toBe(121.5)
    expect(values.get('isola_request_duration_seconds_count{function="shop",version="v1"}')).toBe(6)
    expect(values.get('isola_queue_duration_seconds_count{function="shop",version="v1"}')).toBe(4)
    // Nothing was observed: no series.
    expect([...values.keys()].filter((series) => series.includes('cold_start_duration'))).toEqual([])
  })

  test('counters do not go back when a router dies, or forgets a version and counts it anew', async () => {
    const series = 'isola_requests_total{cold="false",function="shop",status="200",version="v1"}'
    const seen: (number | undefined)[] = []
    const tell = async (epoch: string, count: number): Promise<void> => {
      metrics.onRouter({
        ...routerMetrics(epoch, { ...answered(count), total: times({ 0: count }, count) }),
        unrouted: [{ code: 'bad_request', count }],
      })
      seen.push((await scrape()).get(series))
    }
    await tell('a', 5)
    await tell('a', 8)
    await tell('b', 2)
    await tell('b', 3)
    await tell('b', 1)
    expect(seen).toEqual([5, 8, 10, 11, 12])
    const values = await scrape()
    expect(values.get('isola_request_duration_seconds_count{function="shop",version="v1"}')).toBe(12)
    expect(values.get('isola_request_duration_seconds_sum{function="shop",version="v1"}')).toBe(12)
    expect(values.get('isola_unrouted_total{reason="bad_request"}')).toBe(12)
  })

  test('versions that a later message does not name keep their numbers', async () => {
    metrics.onRouter(routerMetrics('a', answered(5), answered(3, 'v2')))
    metrics.onRouter(routerMetrics('b', answered(1)))
    const values = await scrape()
    const of = (version: string): number | undefined =>
      values.get(`isola_requests_total{cold="false",function="shop",status="200",version="${version}"}`)
    expect([of('v1'), of('v2')]).toEqual([6, 3])
  })

  test('label values that would break the format are escaped', async () => {
    metrics.onRouter(routerMetrics('a', answered(1, 'v"1\\\n')))
    const { text } = await metrics.render()
    expect(text).toContain(String.raw`version="v\"1\\\n"`)
    await scrape()
  })
})

describe('instances and processes', () => {
  const instance = (fields: Partial<ProcessStatus>): ProcessStatus => ({
    role: 'instance',
    pid: 1,
    state: 'running',
    memoryBytes: 10,
    cpuMs: 0,
    function: 'shop',
    version: 'v1',
    ...fields,
  })

  test('are counted by state, with memory, blanks and budget', async () => {
    const scaling = {
      functionName: 'shop',
      versionId: 'v1',
      desired: 4,
      running: 2,
      paused: 1,
      starting: 1,
      reason: '12.5 in flight over 60 s want 4 instances',
      obstacle: 'the words of a function',
      stableConcurrency: 12.5,
      panicConcurrency: 20,
      panicking: false,
    }
    gauges = {
      status: {
        version: '1.2.3',
        budget: { memoryMib: 2, cpus: 1.5 },
        events: [{ functionName: 'jobs', waiting: 3, dead: 2 }],
        scaling: [scaling],
        processes: [
          instance({}),
          instance({}),
          instance({ state: 'paused' }),
          instance({ role: 'blank', state: 'blank', memoryBytes: 5 }),
          { role: 'router', pid: 2, state: 'running', memoryBytes: 77, cpuMs: 1_500 },
        ],
      },
      versions: [{ functionName: 'shop', versionId: 'v1', used: 3, free: 97, queued: 2 }],
    }
    const values = await scrape()
    const state = (name: string, value: string): number | undefined =>
      values.get(`isola_${name}{function="shop",state="${value}",version="v1"}`)
    expect(['running', 'paused', 'starting'].map((each) => state('instances', each))).toEqual([2, 1, 1])
    expect(['used', 'free'].map((each) => state('slots', each))).toEqual([3, 97])
    expect(values.get('isola_queue_depth{function="shop"}')).toBe(2)
    expect(values.get('isola_instance_memory_bytes{function="shop",version="v1"}')).toBe(30)
    expect(values.get('isola_blanks')).toBe(1)
    expect(values.get('isola_events_waiting{function="jobs"}')).toBe(3)
    expect(values.get('isola_dead_letters{function="jobs"}')).toBe(2)
    expect(values.get('isola_desired_instances{function="shop",version="v1"}')).toBe(4)
    expect(values.get('isola_concurrency{function="shop",version="v1",window="stable"}')).toBe(12.5)
    const reason = 'reason="# in flight over # s want # instances"'
    expect(values.get(`isola_scaling_reason{function="shop",${reason},version="v1"}`)).toBe(1)
    expect(values.get('isola_node_memory_budget_bytes')).toBe(2 * 1024 * 1024)
    expect(values.get('isola_node_memory_used_bytes')).toBe(35)
    expect(values.get('isola_node_cpu_budget_cores')).toBe(1.5)
    expect(values.get('isola_process_cpu_seconds_total{process="router"}')).toBe(1.5)
    expect(values.get('isola_process_resident_memory_bytes{process="router"}')).toBe(77)
  })

  test('CPU is summed up over instances that come and go, ends are counted by cause', async () => {
    metrics.onSample([sample({ id: 'a', cpuMs: 100 }), sample({ id: 'b', cpuMs: 50 })])
    metrics.onSample([sample({ id: 'a', cpuMs: 400 }), sample({ id: 'b', cpuMs: 0 })])
    metrics.onInstanceEnd({ id: 'b', functionName: 'shop', versionId: 'v1', cause: 'cpu_limit', cpuMs: 70 })
    metrics.onInstanceEnd({ id: 'c', functionName: 'shop', versionId: 'v1', cause: 'stopped', cpuMs: 30 })
    metrics.onInstanceEnd({ id: 'd', functionName: 'shop', versionId: 'v1', cause: 'stopped' })
    const values = await scrape()
    expect(values.get('isola_instance_cpu_seconds_total{function="shop",version="v1"}')).toBe(0.5)
    expect(values.get('isola_instance_ends_total{cause="cpu_limit",function="shop"}')).toBe(1)
    expect(values.get('isola_instance_ends_total{cause="stopped",function="shop"}')).toBe(2)
  })

  test('egress is counted by function and direction, and survives its proxy', async () => {
    const tell = (epoch: string, bytesOut: number): void =>
      metrics.onTraffic({
        epoch,
        functions: [{ functionName: 'shop', requests: 2, refused: 1, bytesOut, bytesIn: 7 }],
      })
    tell('a', 10)
    tell('b', 5)
    const values = await scrape()
    expect(values.get('isola_egress_bytes_total{direction="out",function="shop"}')).toBe(15)
    expect(values.get('isola_egress_bytes_total{direction="in",function="shop"}')).toBe(14)
    expect(values.get('isola_egress_requests_total{function="shop"}')).toBe(4)
    expect(values.get('isola_egress_refusals_total{function="shop"}')).toBe(2)
  })
})

describe('what is gone', () => {
  const seriesOf = async (version: string): Promise<string[]> =>
    [...(await scrape()).keys()].filter((series) => series.includes(`version="${version}"`))

  test('a replaced version keeps its series for an hour after its last instance', async () => {
    metrics.onRouter(routerMetrics('a', answered(5), answered(3, 'v0')))
    metrics.onSample([sample({ versionId: 'v0' })])
    nowMs += 2 * HOUR_MS
    metrics.onSample([sample({ versionId: 'v0' })])
    nowMs += 2 * HOUR_MS
    metrics.onSample([])
    nowMs += HOUR_MS - 1
    metrics.onSample([])
    expect(await seriesOf('v0')).not.toEqual([])
    nowMs += 10_000
    metrics.onSample([])
    expect(await seriesOf('v0')).toEqual([])
    expect(await seriesOf('v1')).not.toEqual([])
  })

  test('a deleted function loses its series after a minute', async () => {
    metrics.onRouter(routerMetrics('a', answered(5)))
    metrics.onInstanceEnd({ id: 'c', functionName: 'shop', versionId: 'v1', cause: 'stopped', cpuMs: 30 })
    live.clear()
    for (const passedMs of [10_000, 50_000, 10_001]) {
      nowMs += passedMs
      metrics.onSample([])
    }
    expect([...(await scrape()).keys()].filter((series) => series.includes('function="shop"'))).toEqual([])
  })
})

describe('slots', () => {
  const loadOf = (queued: number) => ({
    functionName: 'shop',
    versionId: 'v1',
    inFlight: 0,
    queued,
    requests: 0,
    concurrency: 0,
  })

  test('are what the router last said of the instances there are, and the rest of their concurrency', () => {
    const table = new SlotTable()
    const load = { progress: 0, started: 0, paused: false }
    table.onLoad(
      [
        { id: 'a', inFlight: 3, ...load },
        { id: 'gone', inFlight: 9, ...load },
      ],
      [loadOf(2)],
    )
    const of = { functionName: 'shop', versionId: 'v1', concurrency: 10 }
    const both = [
      { id: 'a', ...of },
      { id: 'b', ...of },
    ]
    expect(table.gauges(both)).toEqual([
      { functionName: 'shop', versionId: 'v1', used: 3, free: 17, queued: 2 },
    ])
    table.onLoad([{ id: 'a', inFlight: 12, ...load }], [loadOf(0)])
    expect(table.gauges(both)).toEqual([
      { functionName: 'shop', versionId: 'v1', used: 12, free: 10, queued: 0 },
    ])
    table.onSample([{ id: 'b' }])
    expect(table.gauges(both)[0]).toMatchObject({ used: 0, free: 20 })
    table.onLoad([], [loadOf(4)])
    expect(table.gauges([])).toEqual([{ functionName: 'shop', versionId: 'v1', used: 0, free: 0, queued: 4 }])
    table.onRouterChange()
    expect(table.gauges([])).toEqual([])
  })
})
