import { afterEach, describe, expect, test } from 'vitest'
import { RateLimits, type RateLimitCall } from '../../runtime/egress/rate-limits.ts'
import { EGRESS_LIMITS } from '../../sdk/model/limits.ts'
import { send, startEgress, type EgressUnderTest } from '../harness/egress.ts'

const CALL: RateLimitCall = { namespaceId: '1', key: '/a', limit: 2, periodS: 10 }

function takes(limits: RateLimits, call: RateLimitCall, times: readonly number[]): boolean[] {
  return times.map((ms) => limits.take(call, ms))
}

describe('a rate limit', () => {
  test('lets as many calls through as it says, each key for itself', () => {
    const limits = new RateLimits(10)
    expect(takes(limits, CALL, [0, 1, 2, 9_999])).toEqual([true, true, false, false])
    expect(takes(limits, { ...CALL, key: '/b' }, [2, 2, 2])).toEqual([true, true, false])
    expect(takes(limits, { ...CALL, namespaceId: '2' }, [2, 2, 2])).toEqual([true, true, false])
  })

  test('slides: after a period calls come back one by one, and not all at once', () => {
    const limits = new RateLimits(10)
    const call = { ...CALL, limit: 4 }
    expect(takes(limits, call, [0, 0, 0, 0, 9_999])).toEqual([true, true, true, true, false])
    expect(takes(limits, call, [10_001, 10_001, 12_600, 12_600])).toEqual([true, false, true, false])
    expect(takes(limits, call, [31_000, 31_000, 31_000, 31_000, 31_000])).toEqual([
      true,
      true,
      true,
      true,
      false,
    ])
  })

  test('a limit of one is one in a period and not fewer', () => {
    const limits = new RateLimits(10)
    expect(takes(limits, { ...CALL, limit: 1 }, [0, 9_999, 10_001, 19_000, 20_002])).toEqual([
      true,
      false,
      true,
      false,
      true,
    ])
  })

  test('bindings of one namespace count together, also with other limits', () => {
    const limits = new RateLimits(10)
    expect(takes(limits, { ...CALL, limit: 3 }, [0, 0])).toEqual([true, true])
    expect(takes(limits, { ...CALL, limit: 2 }, [0])).toEqual([false])
    expect(takes(limits, { ...CALL, limit: 3 }, [0, 0])).toEqual([true, false])
  })

  test('keys are bounded: a flood of them at one binding forgets its own and no others', () => {
    const limits = new RateLimits(5)
    const other = { ...CALL, namespaceId: 'other', limit: 1 }
    expect(takes(limits, other, [0])).toEqual([true])
    expect(takes(limits, { ...CALL, limit: 1 }, [0])).toEqual([true])
    for (let index = 0; index < 20; index += 1) limits.take({ ...CALL, key: `/${index}` }, 1)
    expect(limits.size).toBe(5)
    expect(takes(limits, { ...CALL, limit: 1 }, [1])).toEqual([true])
    expect(takes(limits, other, [1])).toEqual([false])
    expect(limits.take({ ...CALL, namespaceId: 'third' }, 1)).toBe(true)
    expect(limits.size).toBe(5)
  })

  test('keys that have rested for two periods are cleared away by new ones', () => {
    const limits = new RateLimits(100)
    for (let index = 0; index < 10; index += 1) limits.take({ ...CALL, key: `/${index}` }, index)
    for (let index = 0; index < 5; index += 1) limits.take({ ...CALL, key: `/new${index}` }, 60_000)
    expect(limits.size).toBe(5)
  })
})

describe('the egress socket', () => {
  let egress: EgressUnderTest | undefined
  afterEach(() => egress?.close())
  const limit = { 'isola-rate-limit': 'ns 2 60' }

  test('answers rate limits for all instances together, at once and without a way out', async () => {
    egress = await startEgress({
      hasAgent: true,
      rules: { limits: { shop: { subrequests: 0, egress: 'none' } } },
    })
    const socketPath = `${egress.directory}/second.sock`
    await egress.proxy.handle({ type: 'listen', id: 'i2', socketPath, uid: process.getuid?.() ?? 0 })
    await egress.proxy.handle({ type: 'assign', id: 'i2', functionName: 'cart' })
    const statuses: number[] = []
    for (const path of [egress.socketPath, socketPath, egress.socketPath]) {
      statuses.push((await send(path, 'http://isola/key', { headers: limit })).status)
    }
    expect(statuses).toEqual([204, 204, 429])
    expect((await send(socketPath, 'http://isola/another', { headers: limit })).status).toBe(204)
    expect(egress.sent.filter(({ type }) => type === 'log')).toEqual([])
  })

  test('holds as many keys as its bound, whatever their length', async () => {
    egress = await startEgress({ limits: { rateLimitKeysMax: 1 } })
    const one = { 'isola-rate-limit': 'ns 1 60' }
    const ask = async (key: string): Promise<number> =>
      (await send(egress!.socketPath, `http://isola/${key}`, { headers: one })).status
    const long = 'x'.repeat(2_000)
    expect([await ask(long), await ask(long), await ask(`${long}y`), await ask(long)]).toEqual([
      204, 429, 204, 204,
    ])
    expect(EGRESS_LIMITS.rateLimitKeysMax).toBeGreaterThan(1_000)
  })

  test('an instance without a function, and a header that says nothing, get no answer of a limit', async () => {
    egress = await startEgress({ rules: { limits: { shop: { subrequests: 10, egress: 'none' } } } })
    const socketPath = `${egress.directory}/blank.sock`
    await egress.proxy.handle({ type: 'listen', id: 'i2', socketPath, uid: process.getuid?.() ?? 0 })
    expect((await send(socketPath, 'http://isola/key', { headers: limit })).status).toBe(403)
    const strange = await send(egress.socketPath, 'http://isola/key', {
      headers: { 'isola-rate-limit': 'ns many 60' },
    })
    expect(strange.status).toBe(403)
    for (const elsewhere of ['isola-service', 'isola-assets-of']) {
      const answer = await send(egress.socketPath, 'http://isola/key', {
        headers: { ...limit, [elsewhere]: 'cart' },
      })
      expect([204, 429], elsewhere).not.toContain(answer.status)
    }
  })
})
