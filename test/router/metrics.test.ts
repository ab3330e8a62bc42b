import { describe, expect, test } from 'vitest'
import { LATENCY_BUCKETS_S, type RouterMetrics, type VersionMetrics } from '../../sdk/model/router-metrics.ts'
import { LatencyHistogram } from '../../router/histogram.ts'
import { Metrics } from '../../router/metrics.ts'
import type { RequestRecord } from '../../router/request-log.ts'
import { startHttpInstance, startRawInstance } from '../harness/fake-instance.ts'
import { hello, startTestRouter, type TestAgent, type TestRouter } from '../harness/router-process.ts'

const get = (router: TestRouter, path = '/', method = 'GET'): string =>
  `${method} ${path} HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`

const count = (counts: readonly number[]): number => counts.reduce((sum, each) => sum + each, 0)

/** The newest numbers of `hello` for which `accept` holds. */
async function metricsOf(
  agent: TestAgent,
  accept: (version: VersionMetrics) => boolean,
): Promise<VersionMetrics> {
  const { metrics } = await agent.heard('metrics', ({ metrics }) =>
    metrics.versions.some((version) => version.functionName === 'hello' && accept(version)),
  )
  return metrics.versions.find(({ functionName }) => functionName === 'hello')!
}

const answered = ({ requests }: VersionMetrics): number => requests.reduce((sum, { count }) => sum + count, 0)

describe('what the router counts is what was sent:', () => {
  test('requests by status and warmth, bytes both ways, and each in its histograms', async () => {
    await using router = await startTestRouter()
    await router.apply()
    const asked = router.ask(get(router, '/first'))
    await router.agent.heard('need')
    router.undo.use(
      await startHttpInstance(router.socketPath('one'), (request, response) => {
        if (request.url === '/missing') response.statusCode = 404
        request.resume()
        request.on('end', () => {
          if (request.url !== '/streamed') response.end('12345')
          else {
            response.write('123')
            setImmediate(() => response.end('4567'))
          }
        })
      }),
    )
    router.up('one', { cold: true })
    await asked
    for (let index = 0; index < 6; index++) await router.ask(get(router))
    for (let index = 0; index < 3; index++) await router.ask(get(router, '/missing'))
    await router.ask(get(router, '/streamed'))
    await router.ask(get(router, '/', 'HEAD'))
    const post = `POST / HTTP/1.1\r\nHost: ${router.host}\r\n`
    await router.ask(`${post}Content-Length: 1000\r\n\r\n`, 'x'.repeat(1_000))
    await router.ask(`${post}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`)
    const version = await metricsOf(router.agent, (version) => answered(version) === 14)
    expect(
      version.requests.toSorted((a, b) => a.status - b.status || Number(b.cold) - Number(a.cold)),
    ).toEqual([
      { status: 200, cold: true, count: 1 },
      { status: 200, cold: false, count: 10 },
      { status: 404, cold: false, count: 3 },
    ])
    expect(version).toMatchObject({
      versionId: 'hello-v1',
      coldStarts: 1,
      requestBytes: 1_003,
      // All but the HEAD: 12 of five bytes, one of seven.
      responseBytes: 12 * 5 + 7,
      refusals: [],
      errors: [],
    })
    expect(count(version.total.counts)).toBe(14)
    expect(count(version.function.counts)).toBe(14)
    expect(count(version.queue.counts)).toBe(13)
    expect(count(version.coldStart.counts)).toBe(1)
    expect(version.total.sumS).toBeGreaterThan(version.function.sumS)
    expect(version.coldStart.sumS).toBeGreaterThan(0)
  })

  test('refusals by code, errors of those that had an instance, and what had no function', async () => {
    await using router = await startTestRouter()
    await router.apply([
      hello({ queue: 0, concurrency: 1, queueTimeoutMs: 300 }, { requestBytes: 5, responseBytes: 5 }),
    ])
    const waiting = router.ask(get(router))
    await router.agent.heard('need')
    expect((await router.ask(get(router))).status).toBe(429)
    expect((await waiting).status).toBe(503)
    router.undo.use(
      await startHttpInstance(router.socketPath('one'), (_request, response) => response.end('123456')),
    )
    router.up('one')
    expect((await router.ask(get(router))).status).toBe(502)
    const post = `POST / HTTP/1.1\r\nHost: ${router.host}\r\nContent-Length: 6\r\n\r\n123456`
    expect((await router.ask(post)).status).toBe(413)
    await router.ask('GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n')
    await router.ask('GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n')
    await router.ask('nonsense\r\n\r\n')
    const version = await metricsOf(router.agent, (version) => answered(version) === 4)
    expect(version.refusals.toSorted((a, b) => a.code.localeCompare(b.code))).toEqual([
      { code: 'body_too_large', count: 1 },
      { code: 'queue_full', count: 1 },
      { code: 'queue_timeout', count: 1 },
    ])
    expect(version.errors).toEqual([{ code: 'response_too_large', count: 1 }])
    // The one that waited in vain, and the one that was served.
    expect([count(version.total.counts), count(version.function.counts)]).toEqual([4, 1])
    expect(count(version.queue.counts)).toBe(2)
    expect(version.queue.sumS).toBeGreaterThanOrEqual(0.3)
    const { metrics } = await router.agent.heard(
      'metrics',
      ({ metrics }) => metrics.unrouted.reduce((sum, { count }) => sum + count, 0) === 3,
    )
    expect(metrics.unrouted).toEqual([
      { code: 'route_not_found', count: 1 },
      { code: 'bad_request', count: 2 },
    ])
  })

  test('a WebSocket once it has ended, without a place among the latencies; connections as they are', async () => {
    await using router = await startTestRouter()
    await router.apply()
    router.undo.use(
      await startRawInstance(router.socketPath('one'), (socket) =>
        socket.write(
          'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n',
        ),
      ),
    )
    router.up('one')
    const client = await router.open()
    client.send(
      `GET / HTTP/1.1\r\nHost: ${router.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n`,
    )
    await client.until((text) => text.startsWith('HTTP/1.1 101'))
    await router.agent.heard('load', ({ versions }) => versions[0]?.inFlight === 1)
    await router.agent.heard('metrics', ({ metrics }) => metrics.connections === 1)
    client.socket.destroy()
    const version = await metricsOf(router.agent, (version) => answered(version) === 1)
    expect(version.requests).toEqual([{ status: 101, cold: false, count: 1 }])
    expect([count(version.total.counts), count(version.queue.counts)]).toEqual([0, 1])
  })

  test('for an agent that comes anew: all of it, under the same epoch; another router has another', async () => {
    await using router = await startTestRouter()
    await router.apply()
    router.undo.use(
      await startHttpInstance(router.socketPath('one'), (_request, response) => response.end('ok')),
    )
    router.up('one')
    await router.ask(get(router))
    await metricsOf(router.agent, (version) => answered(version) === 1)
    const { metrics: before } = await router.agent.heard('metrics')
    router.agent.close()
    await router.ask(get(router))
    router.agent = await router.connectAgent()
    const { metrics } = await router.agent.heard('metrics')
    expect(metrics.epoch).toBe(before.epoch)
    expect(answered(metrics.versions[0]!)).toBe(2)
    await using other = await startTestRouter()
    expect((await other.agent.heard('metrics')).metrics.epoch).not.toBe(before.epoch)
  })

  test('the mean of requests in flight and waiting, and once that it is none', async () => {
    await using router = await startTestRouter()
    await router.apply([hello({ concurrency: 1 })])
    const instance = await startRawInstance(router.socketPath('one'))
    router.undo.use(instance)
    router.up('one')
    const clients = await Promise.all([router.open(), router.open()])
    for (const client of clients) client.send(get(router))
    const full = await router.agent.heard('load', ({ versions }) => versions[0]?.concurrency === 2)
    expect(full.versions[0]).toMatchObject({ inFlight: 1, queued: 1, requests: 2 })
    for (const client of clients) client.socket.destroy()
    const none = await router.agent.heard(
      'load',
      (load) =>
        router.agent.messages.indexOf(load) > router.agent.messages.indexOf(full) &&
        load.versions[0]?.concurrency === 0,
    )
    expect(none.versions[0]).toMatchObject({ inFlight: 0, queued: 0, requests: 2 })
    const last = router.agent.messages.indexOf(none)
    // A request to nowhere, counted: whatever else there was to say has been said by then.
    await router.ask('GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n')
    await router.agent.heard('metrics', ({ metrics }) => metrics.unrouted.length > 0)
    const later = router.agent.messages.slice(last + 1).filter((message) => message.type === 'load')
    expect(later.flatMap(({ versions }) => versions)).toEqual([])
  })
})

describe('a report', () => {
  const record = (versionId: string, more: Partial<RequestRecord> = {}): RequestRecord => ({
    functionName: 'hello',
    versionId,
    instanceId: 'one',
    requestId: 'x',
    endedAtMs: 0,
    method: 'GET',
    host: 'hello.localhost',
    target: '/',
    status: 200,
    totalMs: 3,
    queueMs: 1,
    functionMs: 2,
    cold: false,
    requestBytes: 0,
    responseBytes: 10,
    error: undefined,
    clientAborted: false,
    ...more,
  })
  const reportOf = (
    metrics: Metrics,
    options: { nowMs?: number; taken?: boolean } = {},
  ): RouterMetrics | undefined => {
    let said: RouterMetrics | undefined
    metrics.report({ nowMs: options.nowMs ?? 0, connections: 0 }, (report) => {
      said = report
      return options.taken ?? true
    })
    return said
  }
  const idsOf = (report: RouterMetrics | undefined): string[] | undefined =>
    report?.versions.map(({ versionId }) => versionId)

  test('has the versions that changed since one was taken, and is none where nothing changed', () => {
    const metrics = new Metrics({ epoch: 'e', retiredKeptMs: 100 })
    metrics.of('hello', 'a').observe(record('a'))
    metrics.of('hello', 'b').observe(record('b'))
    expect(idsOf(reportOf(metrics, { taken: false }))).toEqual(['a', 'b'])
    expect(idsOf(reportOf(metrics))).toEqual(['a', 'b'])
    expect(reportOf(metrics)).toBeUndefined()
    metrics.of('hello', 'b').observe(record('b'))
    expect(reportOf(metrics)?.versions).toMatchObject([{ versionId: 'b', responseBytes: 20 }])
    metrics.forgetReports()
    expect(idsOf(reportOf(metrics))).toEqual(['a', 'b'])
  })

  test('forgets a version that left, once its last numbers were taken and its time is over', () => {
    const metrics = new Metrics({ epoch: 'e', retiredKeptMs: 100 })
    const meter = metrics.of('hello', 'a')
    meter.observe(record('a'))
    meter.retiredAtMs = 0
    expect(idsOf(reportOf(metrics, { nowMs: 500, taken: false }))).toEqual(['a'])
    expect(idsOf(reportOf(metrics, { nowMs: 500 }))).toEqual(['a'])
    metrics.forgetReports()
    expect(idsOf(reportOf(metrics, { nowMs: 600 }))).toEqual([])
  })

  test('goes on where it was for a version that comes back in time', () => {
    const metrics = new Metrics({ epoch: 'e', retiredKeptMs: 100 })
    const meter = metrics.of('hello', 'a')
    meter.observe(record('a'))
    meter.retiredAtMs = 0
    reportOf(metrics, { nowMs: 99 })
    metrics.of('hello', 'a').observe(record('a'))
    expect(reportOf(metrics, { nowMs: 10_000 })?.versions).toMatchObject([
      { requests: [{ status: 200, cold: false, count: 2 }] },
    ])
  })
})

test('a latency falls in the first bucket whose bound it does not exceed, and the last has no bound', () => {
  const histogram = new LatencyHistogram()
  for (const bound of LATENCY_BUCKETS_S) histogram.observe(bound * 1_000)
  histogram.observe(0)
  histogram.observe(3_600_000)
  const { counts, sumS } = histogram.toJSON()
  expect(counts).toEqual([2, ...LATENCY_BUCKETS_S.slice(1).map(() => 1), 1])
  expect(sumS).toBeCloseTo(LATENCY_BUCKETS_S.reduce((sum, bound) => sum + bound, 0) + 3_600, 4)
})
