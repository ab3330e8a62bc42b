import { beforeEach, describe, expect, test } from 'vitest'
import type { Bucket } from '../../runtime/registry/bucket.ts'
import { createUsageStore, type OpenUsage, type UsageStore } from '../../runtime/registry/usage-store.ts'
import { createRegistryPlace } from '../harness/registry-fixture.ts'
import { openMemoryBucket, type MemoryStore } from '../harness/memory-bucket.ts'

let objects: MemoryStore
let ids = 0
beforeEach(() => {
  objects = new Map()
})
const open = (bucket: Bucket = openMemoryBucket({ store: objects })): UsageStore =>
  createUsageStore({ bucket, newId: () => `write-${ids++}` })

const numbers = (requests: number): NonNullable<ReturnType<OpenUsage['hours']['get']>> =>
  new Map([
    [
      'shop',
      { requests, refused: 1, coldStarts: 2, cpuMs: 3.25, gbS: 0.000125, responseBytes: 4, egressBytes: 5 },
    ],
  ])
const HOUR = '2026-11-21T14:00:00.000Z'
const usage = (requests: number): OpenUsage => ({
  hours: new Map([[HOUR, numbers(requests)]]),
  cursors: { router: { epoch: 'a', counted: { 'shop/v1': [1, 2] }, incomplete: true } },
})

describe('the store of usage', () => {
  test('gives back hours and cursors as they were written', async () => {
    const store = open()
    expect(await store.readOpen()).toBeUndefined()
    await store.writeOpen(usage(7))
    await store.writeOpen(usage(8))
    expect(await open().readOpen()).toEqual(usage(8))
    await store.writeHour(HOUR, numbers(9))
    await store.writeHour(HOUR, numbers(10))
    expect(await store.readHour(HOUR)).toEqual(numbers(10))
    expect(await store.readHour('2026-11-21T15:00:00.000Z')).toBeUndefined()
  })

  test('lists hours from one on, and removes those before one', async () => {
    const store = open()
    await store.writeOpen(usage(1))
    const hours = ['2026-11-20T23', '2026-11-21T00', '2026-11-21T01'].map((hour) => `${hour}:00:00.000Z`)
    for (const hour of hours) await store.writeHour(hour, numbers(1))
    expect(await store.listHours(hours[1]!)).toEqual(hours.slice(1))
    await store.removeBefore(hours[1]!)
    expect(await store.listHours('')).toEqual(hours.slice(1))
    expect(await store.readOpen()).toEqual(usage(1))
  })

  test('a second writer is refused: the first one goes on, nothing is overwritten', async () => {
    const first = open()
    const second = open()
    await first.writeOpen(usage(1))
    await expect(second.writeOpen(usage(2))).rejects.toMatchObject({ code: 'conflict' })
    await first.writeOpen(usage(3))
    expect(await open().readOpen()).toEqual(usage(3))
  })

  test('a write that broke off after it was done is not done again', async () => {
    const inner = openMemoryBucket({ store: objects })
    let breaks = false
    const store = open({
      ...inner,
      putIfMatch: async (...call) => {
        const written = await inner.putIfMatch(...call)
        if (breaks) throw new Error('connection reset')
        return written
      },
    })
    await store.writeOpen(usage(1))
    breaks = true
    await store.writeOpen(usage(2))
    breaks = false
    await store.writeOpen(usage(3))
    expect(await open().readOpen()).toEqual(usage(3))
  })

  test('a write that failed is reported, and the next one goes through', async () => {
    const inner = openMemoryBucket({ store: objects })
    let breaks = true
    const put: Bucket['putIfAbsent'] = async (...call) => {
      if (breaks) throw new Error('disk full')
      return inner.putIfAbsent(...call)
    }
    const store = open({ ...inner, putIfAbsent: put })
    await expect(store.writeOpen(usage(1))).rejects.toThrow('disk full')
    breaks = false
    await store.writeOpen(usage(2))
    expect(await open().readOpen()).toEqual(usage(2))
  })

  test.each([
    ['no JSON', 'nonsense'],
    ['a newer format', JSON.stringify({ formatVersion: 2, hours: {}, cursors: {} })],
    [
      'a row of another length',
      JSON.stringify({ formatVersion: 1, writeId: 'x', hours: { [HOUR]: { a: [1] } }, cursors: {} }),
    ],
  ])('%s is named as unreadable, kept aside and replaced by the next write', async (_what, text) => {
    await openMemoryBucket({ store: objects }).putIfAbsent('usage/open.json', Buffer.from(text))
    const store = open()
    await expect(store.readOpen()).rejects.toMatchObject({
      code: 'data_unusable',
      message: expect.stringContaining('"usage/open.json"') as string,
    })
    await store.writeOpen(usage(1))
    expect(await open().readOpen()).toEqual(usage(1))
    const aside = [...objects].filter(([key]) => key.startsWith('usage/unreadable-'))
    expect(aside.map(([, { body }]) => Buffer.from(body).toString())).toEqual([text])
    expect(await store.listHours('')).toEqual([])
  })

  test('the collection of garbage leaves usage alone, however old', async () => {
    const place = createRegistryPlace()
    const registry = await place.open()
    const bucket = openMemoryBucket({ store: place.store, now: () => place.nowMs })
    const store = open(bucket)
    await store.writeOpen(usage(1))
    await store.writeHour(HOUR, numbers(2))
    place.nowMs += 1_000 * 24 * 3_600_000
    await registry.collect({ graceMs: 0 })
    expect(await open(bucket).readOpen()).toEqual(usage(1))
    expect(await store.readHour(HOUR)).toEqual(numbers(2))
  })
})
