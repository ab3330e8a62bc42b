import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { absentAsyncEvents, openAsyncEvents } from '../../runtime/async/open-async-events.ts'
import type { AsyncEventsOptions } from '../../runtime/async/open-async-events.ts'
import type { AsyncEvents, NewEvent } from '../../runtime/async/async-events.ts'
import type { EventTry } from '../../runtime/async/event-worker.ts'
import type { TryAnswer } from '../../runtime/async/judge-try.ts'
import { IsolaError, type ErrorCode } from '../../sdk/model/errors.ts'
import type { AsyncSettings } from '../../sdk/model/function.ts'
import { ASYNC_LIMITS, CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { refused } from '../harness/control-place.ts'

let directory: string
const opened: AsyncEvents[] = []
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'isola-async-'))
})
afterEach(async () => {
  for (const events of opened.splice(0)) await events.close()
  rmSync(directory, { recursive: true, force: true })
})

const DONE: TryAnswer = {
  status: 200,
  error: undefined,
  functionError: undefined,
  retryAfterS: undefined,
  body: 'null',
}
const failed = (errorMessage: string): TryAnswer => ({
  ...DONE,
  functionError: 'Unhandled',
  body: JSON.stringify({ errorType: 'Error', errorMessage }),
})
const refusal = (code: ErrorCode, status = 429): TryAnswer => ({
  ...DONE,
  status,
  error: code,
  body: JSON.stringify({ error: { code, message: `it is ${code}`, requestId: 'r' } }),
})

interface Place {
  readonly events: AsyncEvents
  readonly tries: EventTry[]
  readonly said: string[]
  readonly settings: Map<string, Partial<AsyncSettings> | undefined>
  /** Resolves when it holds; looked at again after each try and each word. */
  until(holds: () => boolean): Promise<void>
}

type Answering = (attempt: EventTry, tries: readonly EventTry[]) => TryAnswer | Promise<TryAnswer>

async function open(
  answer: Answering = () => DONE,
  options: Partial<AsyncEventsOptions> = {},
): Promise<Place> {
  const tries: EventTry[] = []
  const said: string[] = []
  const settings: Place['settings'] = new Map()
  const events = await openAsyncEvents({
    directory,
    invoke: async (attempt) => {
      tries.push(attempt)
      return answer(attempt, tries)
    },
    settingsOf: (name) => (settings.has(name) ? settings.get(name) : {}),
    onEvent: (line) => said.push(line),
    ...options,
    limits: {
      retryMsMin: 1,
      refusedMsMin: 1,
      refusedMsMax: 5,
      repairMs: 5,
      closeGraceMs: 100,
      ...options.limits,
    },
  })
  opened.push(events)
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2))
  }
  return { events, tries, said, settings, until }
}

let counter = 0
function event(fields: Partial<NewEvent> = {}): NewEvent {
  counter += 1
  return { requestId: `r-${counter}`, functionName: 'shop', payload: Buffer.from('{"a":1}'), ...fields }
}

const waiting = (events: AsyncEvents, name = 'shop'): number => events.counts().get(name)?.waiting ?? 0
const dead = (events: AsyncEvents, name = 'shop'): number => events.counts().get(name)?.dead ?? 0
const lettersOf = (events: AsyncEvents, functionName = 'shop') =>
  events.deadLetters({ functionName, limit: 100 })

describe('an event', () => {
  test('is worked on once, with all that it came with, and is gone then', async () => {
    const { events, tries, until } = await open()
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
    const { events, tries, until } = await open((_attempt, { length }) => failed(`no ${length}`))
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
    const { events, tries, settings, until } = await open(() => failed('no'))
    settings.set('shop', { retriesMax: 0 })
    await events.enqueue(event())
    await until(() => dead(events) === 1)
    expect(tries).toHaveLength(1)
  })

  test('waits a minute for its second try and two for its third, unless told otherwise', async () => {
    let nowMs = 1_000_000
    const { events, tries, until } = await open(() => failed('no'), {
      now: () => nowMs,
      limits: { retryMsMin: ASYNC_LIMITS.retryMsMin },
    })
    const triesOfShop = (): number => tries.filter(({ functionName }) => functionName === 'shop').length
    // An event that is due at once makes the worker look at all functions again.
    const look = async (): Promise<void> => {
      const functionName = `clock-${counter}`
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
    const { events, tries, until } = await open((_attempt, { length }) =>
      length <= 6 ? refusal(code) : DONE,
    )
    await events.enqueue(event())
    await until(() => waiting(events) === 0)
    expect(tries).toHaveLength(7)
    expect(dead(events)).toBe(0)
  })

  test('goes on after no answer came at all', async () => {
    const { events, tries, until } = await open((_attempt, { length }) => {
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
      const { events, tries, until } = await open(() => refusal(code, 503))
      await events.enqueue(event())
      await until(() => dead(events) === 1)
      expect(tries).toHaveLength(3)
      expect(lettersOf(events)[0]!.reason).toBe(`${code}: it is ${code}`)
    },
  )

  test.each(['version_not_found', 'bad_request', 'body_too_large'] as const)(
    'answered with %s is given up at once',
    async (code) => {
      const { events, tries, until } = await open(() => refusal(code, 404))
      await events.enqueue(event())
      await until(() => dead(events) === 1)
      expect(tries).toHaveLength(1)
    },
  )

  test('of a function that was deleted is a dead letter that says so, and is not tried', async () => {
    const { events, tries, settings, until } = await open()
    settings.set('shop', undefined)
    await events.enqueue(event())
    await until(() => dead(events) === 1)
    expect(tries).toEqual([])
    expect(lettersOf(events)[0]).toMatchObject({ reason: 'the function was deleted', tries: 0 })
  })

  test('that gets too old is a dead letter that says so, and why it did not run', async () => {
    let nowMs = 0
    const { events, settings, until } = await open(
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
    const { events, tries, settings, until } = await open(() => failed('no'), {
      limits: { retryMsMin: 60_000 },
    })
    settings.set('shop', { maxAgeS: 30 })
    await events.enqueue(event())
    await until(() => dead(events) === 1)
    expect(tries).toHaveLength(1)
    expect(lettersOf(events)[0]!.reason).toMatch(/^Error: no \(older than the 30 s/)
  })

  test('above the bound is refused by its size', async () => {
    const { events } = await open()
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
    const { events, until } = await open(
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
    const { events, until } = await open(({ functionName }) => (functionName === 'slow' ? never : DONE))
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
    const { events, tries, until } = await open(
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
    const { events, until } = await open()
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
    const { events, until } = await open(() => never, {
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

describe('dead letters', () => {
  test('are listed newest first, redriven from the start under the same id, and discarded', async () => {
    let isWell = false
    const { events, tries, until } = await open(() => (isWell ? DONE : refusal('bad_request', 400)))
    const [first, second] = [event(), event({ clientContext: 'eyJ9' })]
    await events.enqueue(first)
    await until(() => dead(events) === 1)
    await events.enqueue(second)
    await until(() => dead(events) === 2)
    const letters = lettersOf(events)
    expect(letters.map(({ requestId }) => requestId)).toEqual([second.requestId, first.requestId])
    expect(events.deadLetters({ functionName: 'shop', limit: 1 })).toHaveLength(1)
    isWell = true
    tries.length = 0
    expect(await events.redrive(letters[0]!.id)).toBe(true)
    await until(() => waiting(events) === 0)
    expect(tries.map(({ requestId, clientContext }) => [requestId, clientContext])).toEqual([
      [second.requestId, 'eyJ9'],
    ])
    expect(await events.redrive(letters[0]!.id)).toBe(false)
    expect(await events.discard(letters[1]!.id)).toBe(true)
    expect(await events.discard(letters[1]!.id)).toBe(false)
    expect(events.deadLetter(letters[1]!.id)).toBeUndefined()
    expect(events.counts().size).toBe(0)
  })

  test('redriven by two at the same time become one event', async () => {
    let isWell = false
    const { events, tries, until } = await open(() => (isWell ? DONE : refusal('bad_request', 400)))
    await events.enqueue(event())
    await until(() => dead(events) === 1)
    isWell = true
    tries.length = 0
    const [{ id } = { id: '' }] = lettersOf(events)
    const outcomes = await Promise.all([events.redrive(id), events.redrive(id), events.discard(id)])
    expect(outcomes).toEqual([true, false, false])
    await until(() => events.counts().size === 0)
    expect(tries).toHaveLength(1)
  })

  test('beyond the most that are kept, and older than they may get, are dropped, and it is said', async () => {
    let nowMs = 1_000
    const { events, said, until } = await open(() => refusal('bad_request', 400), {
      now: () => nowMs,
      limits: { deadLettersPerFunctionMax: 3, maintenanceMs: 5, deadLettersKeptDays: 2 },
    })
    const sent = Array.from({ length: 5 }, () => event())
    for (const [index, each] of sent.entries()) {
      await events.enqueue(each)
      await until(() => lettersOf(events)[0]?.requestId === sent[index]!.requestId)
    }
    await until(() => dead(events) === 3)
    const kept = lettersOf(events).map(({ requestId }) => requestId)
    expect(kept).toEqual(
      sent
        .slice(2)
        .reverse()
        .map(({ requestId }) => requestId),
    )
    await until(() => said.some((line) => line.includes('of function "shop" were dropped')))
    nowMs += 3 * 24 * 3_600_000
    await until(() => events.counts().size === 0)
  })

  test('beyond the bytes that are kept make room, the oldest first', async () => {
    const { events, until } = await open(() => refusal('bad_request', 400), {
      limits: { deadLettersBytesMax: 5_000 },
    })
    const payload = Buffer.alloc(1_500, '1')
    for (let index = 0; index < 4; index += 1) {
      const sent = event({ payload, functionName: `f${index}` })
      await events.enqueue(sent)
      await until(() => lettersOf(events, `f${index}`).length === 1)
    }
    await until(() => lettersOf(events, 'f0').length + lettersOf(events, 'f1').length === 0)
    expect(lettersOf(events, 'f3')).toHaveLength(1)
  })
})

describe('the life of a node', () => {
  test('a stop leaves events to the next start, those under way too', async () => {
    const first = await open(({ signal }) => {
      return new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason as Error)),
      )
    })
    const sent = event()
    await first.events.enqueue(sent)
    await first.until(() => first.tries.length === 1)
    await first.events.close()
    await expect(first.events.enqueue(event())).rejects.toEqual(refused('draining', /shutting down/))
    const second = await open()
    await second.until(() => second.tries.length === 1 && waiting(second.events) === 0)
    expect(second.tries[0]!.requestId).toBe(sent.requestId)
  })

  test('counts of what waits and what is dead are right again after a start', async () => {
    const first = await open(({ functionName }) =>
      functionName === 'sick' ? refusal('bad_request', 400) : refusal('queue_full'),
    )
    await first.events.enqueue(event({ functionName: 'sick' }))
    await first.events.enqueue(event({ functionName: 'busy' }))
    await first.until(() => dead(first.events, 'sick') === 1)
    await first.events.close()
    const { events } = await open(() => refusal('queue_full'))
    expect([...events.counts()].toSorted()).toEqual([
      ['busy', { waiting: 1, dead: 0 }],
      ['sick', { waiting: 0, dead: 1 }],
    ])
  })

  test('a file that is no database is named, and calls of what is absent say why', async () => {
    writeFileSync(
      join(directory, 'async.db'),
      'no database at all, and long enough to be read as a header '.repeat(9),
    )
    const opening = open()
    await expect(opening).rejects.toEqual(refused('data_unusable', /async\.db/))
    const why = await opening.catch((error: unknown) => error)
    const absent = absentAsyncEvents(why)
    await expect(absent.enqueue(event())).rejects.toBe(why)
    expect(() => absent.deadLetters({ functionName: 'shop', limit: 1 })).toThrow('async.db')
    expect(absent.counts().size).toBe(0)
  })

  test('a failure that nobody foresaw leaves the event, and does not turn into a busy loop', async () => {
    let broken = 0
    const { events, said, until } = await open(() => DONE, {
      settingsOf: () => {
        broken += 1
        if (broken <= 3) throw new Error('out of order')
        return {}
      },
    })
    await events.enqueue(event())
    await until(() => waiting(events) === 0)
    expect(broken).toBe(4)
    expect(said.filter((line) => line.includes('out of order'))).toHaveLength(3)
  })
})
