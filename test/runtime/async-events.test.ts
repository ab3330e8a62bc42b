import type { TryAnswer } from '../../runtime/async/judge-try.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import { ASYNC_LIMITS, CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  closeAll,
  dead,
  DONE,
  event,
  failed,
  lettersOf,
  makeDirectory,
  openEvents,
  refusal,
  waiting,
} from '../harness/async-place.ts'
import { refused } from '../harness/control-place.ts'

beforeEach(() => void makeDirectory())
afterEach(closeAll)

describe('an event', () => {
  test('is worked on once, with all that it came with, and is gone then', async () => {
    const { events, tries, until } = await openEvents()
    const sent = event({ versionId: 'v1', clientContext: 'eyJ9', payload: Buffer.from([0, 255, 1]) })
    await events.enqueue(sent)
    await until(() => waiting(events) === 0)
    expect(tries).toHaveLength(1)
    const { signal: _signal, payload, ...rest } = tries[0]!
    expect(rest).toEqual({
      functionName: 'shop',
      versionId: 'v1',
      clientContext: 'eyJ9',
      requestId: sent.requestId,
    })
    expect(Buffer.from(payload)).toEqual(Buffer.from([0, 255, 1]))
    expect(events.counts().size).toBe(0)
  })

  test('that fails is tried again under the same id, and then is a dead letter with the last reason and answer', async () => {
    const { events, tries, until } = await openEvents((_attempt, { length }) => failed(`no ${length}`))
    const sent = event()
    await events.enqueue(sent)
    await until(() => dead(events) === 1)
    expect(tries.map(({ requestId }) => requestId)).toEqual([sent.requestId, sent.requestId, sent.requestId])
    const [letter] = lettersOf(events)
    expect(letter).toMatchObject({
      requestId: sent.requestId,
      functionName: 'shop',
      tries: 3,
      reason: 'Error: no 3',
    })
    const whole = events.deadLetter(letter!.id)!
    expect(Buffer.from(whole.payload)).toEqual(sent.payload)
    expect(JSON.parse(whole.answer!)).toMatchObject({ errorMessage: 'no 3' })
  })

  test('is tried as often as its function says', async () => {
    const { events, tries, settings, until } = await openEvents(() => failed('no'))
    settings.set('shop', { retriesMax: 0 })
    await events.enqueue(event())
    await until(() => dead(events) === 1)
    expect(tries).toHaveLength(1)
  })

  test('waits a minute for its second try and two for its third, unless told otherwise', async () => {
    let nowMs = 1_000_000
    const { events, tries, until } = await openEvents(() => failed('no'), {
      now: () => nowMs,
      limits: { retryMsMin: ASYNC_LIMITS.retryMsMin },
    })
    const triesOfShop = (): number => tries.filter(({ functionName }) => functionName === 'shop').length
    // An event that is due at once makes the worker look at all functions again.
    const look = async (): Promise<void> => {
      const functionName = `clock-${tries.length}`
      await events.enqueue(event({ functionName }))
      await until(() => tries.some((attempt) => attempt.functionName === functionName))
    }
    await events.enqueue(event())
    await until(() => triesOfShop() === 1)
    for (const [count, delayMs] of [
      [1, 60_000],
      [2, 120_000],
    ] as const) {
      await look()
      nowMs += delayMs - 1
      await look()
      expect(triesOfShop()).toBe(count)
      nowMs += 1
      await look()
      await until(() => triesOfShop() === count + 1)
    }
    await until(() => dead(events) === 1)
  })

  test.each([
    'queue_full',
    'node_full',
    'rate_limited',
    'engine_unavailable',
    'draining',
    'queue_timeout',
  ] as const)('that is refused with %s is not tried by that, and waits', async (code) => {
    const { events, tries, until } = await openEvents((_attempt, { length }) =>
      length <= 6 ? refusal(code) : DONE,
    )
    await events.enqueue(event())
    await until(() => waiting(events) === 0)
    expect(tries).toHaveLength(7)
    expect(dead(events)).toBe(0)
  })

  test('goes on after no answer came at all', async () => {
    const { events, tries, until } = await openEvents((_attempt, { length }) => {
      if (length <= 4) throw new IsolaError('node_unreachable', 'no router')
      return DONE
    })
    await events.enqueue(event())
    await until(() => waiting(events) === 0)
    expect([tries.length, dead(events)]).toEqual([5, 0])
  })

  test.each(['start_failed', 'function_timeout', 'memory_limit_exceeded', 'instance_crashed'] as const)(
    'answered with %s counts as tried',
    async (code) => {
      const { events, tries, until } = await openEvents(() => refusal(code, 503))
      await events.enqueue(event())
      await until(() => dead(events) === 1)
      expect(tries).toHaveLength(3)
      expect(lettersOf(events)[0]!.reason).toBe(`${code}: it is ${code}`)
    },
  )

  test.each(['version_not_found', 'bad_request', 'body_too_large'] as const)(
    'answered with %s is given up at once',
    async (code) => {
      const { events, tries, until } = await openEvents(() => refusal(code, 404))
      await events.enqueue(event())
      await until(() => dead(events) === 1)
      expect(tries).toHaveLength(1)
    },
  )

  test('of a function that was deleted is a dead letter that says so, and is not tried', async () => {
    const { events, tries, settings, until } = await openEvents()
    settings.set('shop', undefined)
    await events.enqueue(event())
    await until(() => dead(events) === 1)
    expect(tries).toEqual([])
    expect(lettersOf(events)[0]).toMatchObject({ reason: 'the function was deleted', tries: 0 })
  })

  test('that gets too old is a dead letter that says so, and why it did not run', async () => {
    let nowMs = 0
    const { events, settings, until } = await openEvents(
      () => {
        nowMs += 30_000
        return refusal('queue_full')
      },
      { now: () => ++nowMs },
    )
    settings.set('shop', { maxAgeS: 60 })
    await events.enqueue(event())
    await until(() => dead(events) === 1)
    expect(lettersOf(events)[0]!.reason).toMatch(
      /^older than the 60 s .* refused: queue_full: it is queue_full$/,
    )
  })

  test('whose next try would come too late is a dead letter now', async () => {
    const { events, tries, settings, until } = await openEvents(() => failed('no'), {
      limits: { retryMsMin: 60_000 },
    })
    settings.set('shop', { maxAgeS: 30 })
    await events.enqueue(event())
    await until(() => dead(events) === 1)
    expect(tries).toHaveLength(1)
    expect(lettersOf(events)[0]!.reason).toMatch(/^Error: no \(older than the 30 s/)
  })

  test('above the bound is refused by its size', async () => {
    const { events } = await openEvents()
    const { eventBytesMax } = CONTAINER_LIMITS
    await events.enqueue(event({ payload: Buffer.alloc(eventBytesMax, '1') }))
    const tooLarge = event({ payload: Buffer.alloc(eventBytesMax + 1, '1') })
    await expect(events.enqueue(tooLarge)).rejects.toEqual(refused('body_too_large', /1048577 bytes/))
  })
})

describe('many events', () => {
  test('of one function are tried in order, so many at a time', async () => {
    let running = 0
    let most = 0
    const order: string[] = []
    const { events, until } = await openEvents(
      async ({ requestId }) => {
        order.push(requestId)
        running += 1
        most = Math.max(most, running)
        await new Promise((resolve) => setTimeout(resolve, 1))
        running -= 1
        return DONE
      },
      { limits: { triesPerFunctionConcurrentMax: 3 } },
    )
    const sent = Array.from({ length: 60 }, () => event())
    await Promise.all(sent.map((each) => events.enqueue(each)))
    await until(() => waiting(events) === 0)
    expect(most).toBe(3)
    expect(order).toEqual(sent.map(({ requestId }) => requestId))
  })

  test('of a slow function do not hold back those of others', async () => {
    const { promise: never, resolve: end } = Promise.withResolvers<TryAnswer>()
    const { events, until } = await openEvents(({ functionName }) => (functionName === 'slow' ? never : DONE))
    await Promise.all(Array.from({ length: 50 }, () => events.enqueue(event({ functionName: 'slow' }))))
    await Promise.all(Array.from({ length: 50 }, () => events.enqueue(event({ functionName: 'quick' }))))
    await until(() => waiting(events, 'quick') === 0)
    expect(waiting(events, 'slow')).toBe(50)
    end(DONE)
    await until(() => waiting(events, 'slow') === 0)
  })

  test('of all functions together have one bound, and all get their turn under it', async () => {
    let running = 0
    let most = 0
    const { events, tries, until } = await openEvents(
      async () => {
        running += 1
        most = Math.max(most, running)
        await new Promise((resolve) => setTimeout(resolve, 1))
        running -= 1
        return DONE
      },
      { limits: { triesConcurrentMax: 4, triesPerFunctionConcurrentMax: 4 } },
    )
    const names = Array.from({ length: 10 }, (_, index) => `f${index}`)
    const sends = names.flatMap((functionName) =>
      Array.from({ length: 20 }, () => events.enqueue(event({ functionName }))),
    )
    await Promise.all(sends)
    await until(() => events.counts().size === 0)
    expect(most).toBe(4)
    const firstHalf = new Set(tries.slice(0, 100).map(({ functionName }) => functionName))
    expect(firstHalf.size).toBe(10)
  })

  test('share commits: a thousand at once take few of them', async () => {
    const { events, until } = await openEvents()
    const { DatabaseSync } = await import('node:sqlite')
    const { exec } = DatabaseSync.prototype
    let commits = 0
    DatabaseSync.prototype.exec = function counting(this: InstanceType<typeof DatabaseSync>, text: string) {
      if (text === 'COMMIT') commits += 1
      return exec.call(this, text)
    }
    try {
      await Promise.all(Array.from({ length: 1_000 }, () => events.enqueue(event())))
      expect(commits).toBeGreaterThan(0)
      expect(commits).toBeLessThan(50)
    } finally {
      DatabaseSync.prototype.exec = exec
    }
    await until(() => waiting(events) === 0)
  })

  test('beyond what a function, or all together, may have waiting are refused with the numbers', async () => {
    const { promise: never, resolve: end } = Promise.withResolvers<TryAnswer>()
    const { events, until } = await openEvents(() => never, {
      limits: { eventsPerFunctionBytesMax: 5_000, eventsBytesMax: 8_000 },
    })
    const payload = Buffer.alloc(1_500, '1')
    const outcomes = await Promise.allSettled(
      Array.from({ length: 4 }, () => events.enqueue(event({ payload }))),
    )
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'rejected'])
    await expect(events.enqueue(event({ payload }))).rejects.toEqual(
      refused('storage_full', /function "shop"/),
    )
    await events.enqueue(event({ payload, functionName: 'other' }))
    await expect(events.enqueue(event({ payload, functionName: 'third' }))).rejects.toEqual(
      refused('storage_full', /all functions together/),
    )
    end(DONE)
    await until(() => events.counts().size === 0)
    await events.enqueue(event({ payload }))
  })
})
