import { beforeEach, describe, expect, test } from 'vitest'
import { USAGE_LIMITS } from '../../sdk/model/limits.ts'
import { createUsageStore } from '../../runtime/registry/usage-store.ts'
import { openMemoryBucket } from '../harness/memory-bucket.ts'
import {
  createUsagePlace,
  routerMetrics,
  sample,
  totals,
  versionMetrics,
  type UsagePlace,
} from '../harness/usage-place.ts'

const HOUR_MS = 3_600_000
const GIB = 1024 ** 3
let place: UsagePlace
beforeEach(() => {
  place = createUsagePlace()
})

/** What a router says of one version after so many requests in all. */
const requests = (count: number, options: { functionName?: string; versionId?: string } = {}) =>
  versionMetrics({
    functionName: 'shop',
    requests: [{ status: 200, cold: false, count }],
    ...options,
  })

describe('what is counted', () => {
  test('requests without refusals, refusals, cold starts, bytes, CPU, memory and egress', async () => {
    const meter = await place.start()
    meter.onRouter(
      routerMetrics(
        'a',
        versionMetrics({
          functionName: 'shop',
          requests: [
            { status: 200, cold: false, count: 7 },
            { status: 200, cold: true, count: 2 },
            { status: 429, cold: false, count: 3 },
            // Clients that left before there was an answer.
            { status: 499, cold: false, count: 5 },
          ],
          refusals: [{ code: 'rate_limited', count: 3 }],
          errors: [{ code: 'function_threw', count: 1 }],
          coldStarts: 2,
          responseBytes: 900,
        }),
      ),
    )
    meter.onTraffic({
      epoch: 'e',
      functions: [{ functionName: 'shop', requests: 2, refused: 1, bytesOut: 50, bytesIn: 60 }],
    })
    meter.onSample([])
    place.monotonicMs += 1_000
    meter.onSample([sample({ startedAtMs: place.nowMs - 500, cpuMs: 12.5, memoryBytes: GIB })])
    const { hours, lagS } = await meter.report({ sinceMs: place.nowMs })
    expect(hours).toEqual([
      {
        functionName: 'shop',
        hour: '2026-11-21T14:00:00.000Z',
        requests: 9,
        refused: 3,
        coldStarts: 2,
        cpuMs: 12.5,
        gbS: 0.5,
        responseBytes: 900,
        egressBytes: 50,
      },
    ])
    expect(lagS).toBe(USAGE_LIMITS.lagS)
  })

  test('what is heard twice counts once, what is missed comes with the next message', async () => {
    const meter = await place.start()
    for (const count of [1, 1, 4, 4, 10]) meter.onRouter(routerMetrics('a', requests(count)))
    expect((await totals(meter)).shop?.requests).toBe(10)
  })

  test('another router counts from zero, and so does a version that a router had forgotten', async () => {
    const meter = await place.start()
    meter.onRouter(routerMetrics('a', requests(10)))
    meter.onRouter(routerMetrics('b', requests(3)))
    meter.onRouter(routerMetrics('b', requests(2)))
    expect((await totals(meter)).shop?.requests).toBe(15)
  })

  test('memory counts from the start of an instance to its end, and CPU as its end reports it', async () => {
    const meter = await place.start()
    meter.onSample([])
    place.monotonicMs += 1_000
    place.nowMs += 1_000
    meter.onSample([sample({ startedAtMs: place.nowMs - 250, cpuMs: 10, memoryBytes: 2 * GIB })])
    place.monotonicMs += 1_000
    place.nowMs += 1_000
    meter.onSample([sample({ cpuMs: 30, memoryBytes: GIB })])
    place.monotonicMs += 100
    // Gone, and not yet reported: it reads as zero.
    meter.onSample([sample({ cpuMs: 0, memoryBytes: 0 })])
    place.monotonicMs += 100
    meter.onInstanceEnd({ id: 'i1', functionName: 'shop', cpuMs: 35 })
    const { shop } = await totals(meter)
    expect(shop?.cpuMs).toBe(35)
    expect(shop?.gbS).toBeCloseTo(2 * 0.25 + 1, 6)
  })

  test('an instance that never was sampled counts the CPU of its life', async () => {
    const meter = await place.start()
    meter.onInstanceEnd({ id: 'short', functionName: 'shop', cpuMs: 8 })
    meter.onInstanceEnd({ id: 'unread', functionName: 'shop' })
    expect((await totals(meter)).shop?.cpuMs).toBe(8)
  })
})

describe('hours', () => {
  test('what comes after the hour is in the next one; older hours are read from the bucket', async () => {
    const meter = await place.start()
    for (const count of [5, 6, 8]) {
      meter.onRouter(routerMetrics('a', requests(count)))
      await meter.flush()
      place.nowMs += HOUR_MS
    }
    const ofHours = async (sinceMs: number, functionName?: string): Promise<unknown> =>
      (await meter.report({ sinceMs, functionName })).hours.map(({ hour, requests }) => [
        hour.slice(11, 13),
        requests,
      ])
    expect(await ofHours(0)).toEqual([
      ['14', 5],
      ['15', 1],
      ['16', 2],
    ])
    expect(await ofHours(place.nowMs - 2 * HOUR_MS)).toEqual([
      ['15', 1],
      ['16', 2],
    ])
    expect(await ofHours(0, 'blog')).toEqual([])
    const until = await meter.report({ sinceMs: 0, untilMs: place.nowMs - 2 * HOUR_MS })
    expect(until.hours.map(({ requests }) => requests)).toEqual([5, 1])
    expect([...place.store.keys()].sort()).toEqual([
      'usage/2026-11-21T14.json',
      'usage/2026-11-21T15.json',
      'usage/open.json',
    ])
  })

  test('a clock that goes back counts on in the hour that was over', async () => {
    const meter = await place.start()
    meter.onRouter(routerMetrics('a', requests(5)))
    place.nowMs += HOUR_MS
    meter.onRouter(routerMetrics('a', requests(7)))
    await meter.flush()
    await meter.flush()
    place.nowMs -= HOUR_MS
    meter.onRouter(routerMetrics('a', requests(10)))
    for (let count = 0; count < 3; count++) await meter.flush()
    place.nowMs += HOUR_MS
    meter.onRouter(routerMetrics('a', requests(11)))
    await meter.close()
    const next = await place.start()
    expect((await next.report({ sinceMs: 0 })).hours.map(({ requests }) => requests)).toEqual([8, 3])
  })

  test(`hours are kept ${USAGE_LIMITS.keptDays} days`, async () => {
    const meter = await place.start()
    const firstMs = place.nowMs
    meter.onRouter(routerMetrics('a', requests(1)))
    const countOn = async (nowMs: number, count: number): Promise<number[]> => {
      place.nowMs = nowMs
      meter.onRouter(routerMetrics('a', requests(count)))
      await meter.flush()
      place.nowMs += HOUR_MS
      meter.onRouter(routerMetrics('a', requests(count + 1)))
      await meter.flush()
      return (await meter.report({ sinceMs: 0 })).hours.map(({ requests }) => requests)
    }
    expect(await countOn(firstMs + USAGE_LIMITS.keptDays * 24 * HOUR_MS, 2)).toEqual([1, 1, 1])
    expect(await countOn(firstMs + USAGE_LIMITS.keptDays * 24 * HOUR_MS + 2 * HOUR_MS, 4)).toHaveLength(4)
  })

  test('an answer of too many rows is refused with the way out; one function of them is not', async () => {
    const store = createUsageStore({ bucket: openMemoryBucket({ store: place.store }), newId: () => 'x' })
    const row = { requests: 1, refused: 0, coldStarts: 0, cpuMs: 0, gbS: 0, responseBytes: 0, egressBytes: 0 }
    const names = Array.from({ length: USAGE_LIMITS.rowsPerReportMax + 1 }, (_, index) => `fn-${index}`)
    await store.writeHour('2026-11-21T13:00:00.000Z', new Map(names.map((name) => [name, row])))
    const meter = await place.start()
    await expect(meter.report({ sinceMs: 0 })).rejects.toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining(`${USAGE_LIMITS.rowsPerReportMax} rows`) as string,
    })
    expect((await meter.report({ sinceMs: 0, functionName: 'fn-5' })).hours).toHaveLength(1)
  })
})

describe('an agent that is killed', () => {
  test('counts on from the router, the egress proxy and the instances, once', async () => {
    const tell = (meter: Awaited<ReturnType<UsagePlace['start']>>, sum: number): void => {
      meter.onRouter(routerMetrics('a', requests(sum)))
      meter.onTraffic({
        epoch: 'e',
        functions: [{ functionName: 'shop', requests: 1, refused: 0, bytesOut: sum, bytesIn: 0 }],
      })
      meter.onSample([sample({ cpuMs: sum })])
    }
    const first = await place.start()
    tell(first, 10)
    await first.flush()
    tell(first, 15)
    await place.killInFlush(first, { put: 0, isDone: false })
    const second = await place.start()
    expect((await totals(second)).shop).toMatchObject({ requests: 10, egressBytes: 10, cpuMs: 10 })
    tell(second, 18)
    expect((await totals(second)).shop).toMatchObject({ requests: 18, egressBytes: 18, cpuMs: 18 })
  })

  test('counts no memory for the time in which nobody looked', async () => {
    const first = await place.start()
    first.onSample([sample({ memoryBytes: GIB })])
    place.monotonicMs += 1_000
    first.onSample([sample({ memoryBytes: GIB })])
    await first.close()
    place.monotonicMs += 60_000
    place.nowMs += 60_000
    const second = await place.start()
    second.onSample([sample({ memoryBytes: GIB })])
    place.monotonicMs += 1_000
    second.onSample([sample({ memoryBytes: GIB })])
    expect((await totals(second)).shop?.gbS).toBeCloseTo(2, 6)
  })

  test('a router that another data directory never heard of is counted whole', async () => {
    const meter = await place.start()
    meter.onRouter(routerMetrics('older', requests(40)))
    expect((await totals(meter)).shop?.requests).toBe(40)
  })
})

describe('what is gone', () => {
  test('a version that was forgotten here and there counts from zero when it comes back', async () => {
    const meter = await place.start()
    meter.onRouter(routerMetrics('a', requests(10), requests(5, { versionId: 'v0' })))
    await meter.flush()
    place.monotonicMs += USAGE_LIMITS.goneCountersKeptMs
    await meter.flush()
    // Rolled back to.
    place.live.add('shop/v0')
    meter.onRouter(routerMetrics('a', requests(6, { versionId: 'v0' })))
    expect((await totals(meter)).shop?.requests).toBe(10 + 5 + 6)
  })

  test('a version that was forgotten only here was counted: the next agent hears of it for nothing', async () => {
    const meter = await place.start()
    meter.onRouter(routerMetrics('a', requests(10), requests(5, { versionId: 'v0' })))
    await meter.flush()
    place.monotonicMs += USAGE_LIMITS.goneCountersKeptMs
    meter.onRouter(routerMetrics('a', requests(11)))
    await meter.flush()
    await meter.close()
    const next = await place.start()
    next.onRouter(routerMetrics('a', requests(11), requests(5, { versionId: 'v0' })))
    expect((await totals(next)).shop?.requests).toBe(16)
  })

  test('a version that was replaced is not forgotten while an instance of it runs, nor counted again when it comes back', async () => {
    const meter = await place.start()
    meter.onRouter(routerMetrics('a', requests(10), requests(5, { versionId: 'v0' })))
    meter.onSample([sample({ versionId: 'v0' })])
    await meter.flush()
    place.monotonicMs += USAGE_LIMITS.goneCountersKeptMs
    meter.onSample([sample({ versionId: 'v0' })])
    await meter.flush()
    // Rolled back to, and its router had not forgotten it either.
    place.live.add('shop/v0')
    meter.onRouter(routerMetrics('a', requests(6, { versionId: 'v0' })))
    expect((await totals(meter)).shop?.requests).toBe(10 + 6)
  })

  test('the CPU counter of an instance that ended without this agent is forgotten', async () => {
    const first = await place.start()
    first.onSample([sample({ cpuMs: 10 })])
    await first.close()
    const stored = (): string => Buffer.from(place.store.get('usage/open.json')!.body).toString()
    expect(stored()).toContain('"i1"')
    const second = await place.start()
    for (let count = 0; count < 60; count++) second.onSample([sample({ id: 'i2', cpuMs: count })])
    await second.close()
    expect(stored()).not.toContain('"i1"')
  })
})

describe('a bucket that fails', () => {
  test('nothing is lost while it cannot be written, and both are said once', async () => {
    const meter = await place.start()
    place.refuseWrites('disk full')
    meter.onRouter(routerMetrics('a', requests(10)))
    await meter.flush()
    await meter.flush()
    place.refuseWrites(undefined)
    await meter.flush()
    expect(place.events).toEqual([
      'usage cannot be written, it is kept in memory: disk full',
      'usage is written again',
    ])
    const next = await place.start()
    expect((await totals(next)).shop?.requests).toBe(10)
  })

  test('where it cannot be known what was counted, what is running is not counted again', async () => {
    const bucket = openMemoryBucket({ store: place.store })
    await bucket.putIfAbsent('usage/open.json', Buffer.from('{'))
    const meter = await place.start()
    expect(place.events[0]).toContain('"usage/open.json"')
    meter.onRouter(routerMetrics('a', requests(40)))
    meter.onSample([sample({ cpuMs: 100 })])
    meter.onRouter(routerMetrics('a', requests(42), requests(1, { functionName: 'blog' })))
    meter.onSample([sample({ cpuMs: 103 })])
    expect(await totals(meter)).toMatchObject({
      shop: { requests: 2, cpuMs: 3 },
      blog: { requests: 1 },
    })
  })

  test('an error that is not about its content ends the start', async () => {
    place.store.set('usage/open.json', {
      get body(): Uint8Array {
        throw new Error('read failed')
      },
      etag: 'x',
      modifiedAtMs: 0,
    })
    await expect(place.start()).rejects.toThrow('read failed')
  })
})
