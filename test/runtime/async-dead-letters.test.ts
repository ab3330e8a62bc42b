import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { absentAsyncEvents } from '../../runtime/async/open-async-events.ts'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  closeAll,
  dead,
  DONE,
  event,
  lettersOf,
  makeDirectory,
  openEvents,
  refusal,
  waiting,
} from '../harness/async-place.ts'
import { refused } from '../harness/control-place.ts'

let directory: string
beforeEach(() => {
  directory = makeDirectory()
})
afterEach(closeAll)

describe('dead letters', () => {
  test('are listed newest first, redriven from the start under the same id, and discarded', async () => {
    let isWell = false
    const { events, tries, until } = await openEvents(() => (isWell ? DONE : refusal('bad_request', 400)))
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
    const { events, tries, until } = await openEvents(() => (isWell ? DONE : refusal('bad_request', 400)))
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
    const { events, said, until } = await openEvents(() => refusal('bad_request', 400), {
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
    const { events, until } = await openEvents(() => refusal('bad_request', 400), {
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
    const first = await openEvents(({ signal }) => {
      return new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason as Error)),
      )
    })
    const sent = event()
    await first.events.enqueue(sent)
    await first.until(() => first.tries.length === 1)
    await first.events.close()
    await expect(first.events.enqueue(event())).rejects.toEqual(refused('draining', /shutting down/))
    const second = await openEvents()
    await second.until(() => second.tries.length === 1 && waiting(second.events) === 0)
    expect(second.tries[0]!.requestId).toBe(sent.requestId)
  })

  test('counts of what waits and what is dead are right again after a start', async () => {
    const first = await openEvents(({ functionName }) =>
      functionName === 'sick' ? refusal('bad_request', 400) : refusal('queue_full'),
    )
    await first.events.enqueue(event({ functionName: 'sick' }))
    await first.events.enqueue(event({ functionName: 'busy' }))
    await first.until(() => dead(first.events, 'sick') === 1)
    await first.events.close()
    const { events } = await openEvents(() => refusal('queue_full'))
    expect([...events.counts()].toSorted(([a], [b]) => (a < b ? -1 : 1))).toEqual([
      ['busy', { waiting: 1, dead: 0 }],
      ['sick', { waiting: 0, dead: 1 }],
    ])
  })

  test('a file that is no database is named, and calls of what is absent say why', async () => {
    writeFileSync(
      join(directory, 'async.db'),
      'no database at all, and long enough to be read as a header '.repeat(9),
    )
    const opening = openEvents()
    await expect(opening).rejects.toEqual(refused('data_unusable', /async\.db/))
    const why = await opening.catch((error: unknown) => error)
    const absent = absentAsyncEvents(why)
    await expect(absent.enqueue(event())).rejects.toBe(why)
    expect(() => absent.deadLetters({ functionName: 'shop', limit: 1 })).toThrow('async.db')
    expect(absent.counts().size).toBe(0)
  })

  test('a failure that nobody foresaw leaves the event, and does not turn into a busy loop', async () => {
    let broken = 0
    const { events, said, until } = await openEvents(() => DONE, {
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
