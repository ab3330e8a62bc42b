import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parsePolicy } from '../../sdk/model/policy.ts'
import { Admission } from '../../runtime/pool/admission.ts'
import { Occupancy } from '../../runtime/pool/occupancy.ts'

function admission(policy: Parameters<typeof parsePolicy>[0]): Admission {
  return new Admission('shop', parsePolicy(policy))
}

/** How many of `count` requests at one moment are let in; each leaves at once. */
function letIn(subject: Admission, nowMs: number, count: number): number {
  let letIn = 0
  for (let index = 0; index < count; index++) {
    if (subject.enter(nowMs) !== undefined) continue
    letIn++
    subject.leave()
  }
  return letIn
}

test('without rate and quota everything is let in', () => {
  expect(letIn(admission({}), 0, 10_000)).toBe(10_000)
})

test('a rate lets in as many as fit in a second at once, and then as many as it says', () => {
  const subject = admission({ ratePerS: 10 })
  expect(letIn(subject, 1_000, 50)).toBe(10)
  expect(letIn(subject, 1_000, 50)).toBe(0)
  expect(letIn(subject, 1_100, 50)).toBe(1)
  expect(letIn(subject, 1_350, 50)).toBe(2)
  expect(letIn(subject, 60_000, 50)).toBe(10)
})

test('a burst is what may come at once after a rest', () => {
  const subject = admission({ ratePerS: 10, burst: 30 })
  expect(letIn(subject, 0, 100)).toBe(30)
  expect(letIn(subject, 1_000, 100)).toBe(10)
  expect(letIn(subject, 100_000, 100)).toBe(30)
})

test('over a long time the rate is kept to the request, however the requests come', () => {
  const subject = admission({ ratePerS: 7 })
  let through = 0
  for (let nowMs = 0; nowMs <= 100_000; nowMs += 13) through += letIn(subject, nowMs, 3)
  expect(through).toBeGreaterThanOrEqual(7 * 100 + 5)
  expect(through).toBeLessThanOrEqual(7 * 100 + 7)
})

test('a rate below one a second lets one in at a time and says when the next may come', () => {
  const subject = admission({ ratePerS: 0.1 })
  expect(letIn(subject, 0, 5)).toBe(1)
  expect(subject.enter(2_500)).toMatchObject({ code: 'rate_limited', retryAfterS: 8 })
  expect(letIn(subject, 10_001, 5)).toBe(1)
})

test('who is refused for the rate learns the function, rate, burst and when to come again', () => {
  const subject = admission({ ratePerS: 5, burst: 9 })
  letIn(subject, 0, 9)
  const refusal = subject.enter(0)
  expect(refusal).toMatchObject({ code: 'rate_limited', retryAfterS: 1 })
  for (const part of ['"shop"', '5 requests a second', 'burst 9']) expect(refusal?.message).toContain(part)
})

test('a quota bounds those who are present, and each who leaves makes room for one', () => {
  const subject = admission({ quota: 2 })
  expect([subject.enter(0), subject.enter(0)]).toEqual([undefined, undefined])
  expect(subject.enter(0)).toMatchObject({
    code: 'quota_exceeded',
    message: expect.stringMatching(/2 requests of function "shop".*quota is 2/),
  })
  subject.leave()
  expect(subject.enter(0)).toBeUndefined()
  expect(subject.present).toBe(2)
})

test('a request that the quota refuses takes no token of the rate', () => {
  const subject = admission({ quota: 1, ratePerS: 2 })
  expect(subject.enter(0)).toBeUndefined()
  for (let count = 0; count < 10; count++) expect(subject.enter(0)?.code).toBe('quota_exceeded')
  subject.leave()
  expect(subject.enter(0)).toBeUndefined()
})

test('another policy holds with the next request; used tokens stay used, and who is in stays in', () => {
  const subject = admission({ ratePerS: 10 })
  letIn(subject, 0, 10)
  subject.policy = parsePolicy({ ratePerS: 1_000 })
  expect(letIn(subject, 0, 10)).toBe(0)
  expect(letIn(subject, 5, 10)).toBe(5)
  subject.policy = parsePolicy({})
  expect(letIn(subject, 5, 1_000)).toBe(1_000)
  subject.enter(5)
  subject.policy = parsePolicy({ quota: 1 })
  expect(subject.enter(6)?.code).toBe('quota_exceeded')
  subject.leave()
  expect(subject.enter(7)).toBeUndefined()
})

test('a lower rate does not leave the tokens of the higher one', () => {
  const subject = admission({ ratePerS: 1_000 })
  letIn(subject, 0, 1)
  subject.policy = parsePolicy({ ratePerS: 3 })
  expect(letIn(subject, 0, 100)).toBe(3)
})

test('a clock that goes back a little makes no tokens and loses none', () => {
  const subject = admission({ ratePerS: 10 })
  expect(letIn(subject, 1_000, 50)).toBe(10)
  expect(letIn(subject, 900, 50)).toBe(0)
  expect(letIn(subject, 1_100, 50)).toBe(1)
})

test('leaving twice is found out', () => {
  const subject = admission({})
  subject.enter(0)
  subject.leave()
  expect(() => subject.leave()).toThrow('left twice')
})

test('the mean of those present is exact, also for who came and went between two reports', () => {
  const stay = fc.record({ startMs: fc.nat(1_000), lengthMs: fc.nat(1_000) })
  fc.assert(
    fc.property(fc.array(stay, { maxLength: 30 }), fc.integer({ min: 1, max: 300 }), (stays, everyMs) => {
      const occupancy = new Occupancy(0)
      const events = stays.flatMap(({ startMs, lengthMs }) => [
        { atMs: startMs, enters: true },
        { atMs: startMs + lengthMs, enters: false },
      ])
      events.sort((a, b) => a.atMs - b.atMs || Number(b.enters) - Number(a.enters))
      for (let sinceMs = 0; sinceMs < 2_100; sinceMs += everyMs) {
        const untilMs = sinceMs + everyMs
        while (events.length > 0 && events[0]!.atMs <= untilMs) {
          const { atMs, enters } = events.shift()!
          if (enters) occupancy.enter(atMs)
          else occupancy.leave(atMs)
        }
        const overlap = stays.reduce((sum, { startMs, lengthMs }) => {
          const part = Math.min(untilMs, startMs + lengthMs) - Math.max(sinceMs, startMs)
          return sum + Math.max(0, part)
        }, 0)
        expect(occupancy.take(untilMs)).toBeCloseTo(overlap / everyMs, 9)
      }
    }),
  )
})

test('a slow rate is named in the unit in which it was meant', () => {
  for (const [ratePerS, text] of [
    [0.5, '30 requests a minute'],
    [10 / 3_600, '10 requests an hour'],
  ] as const) {
    const slow = admission({ ratePerS })
    slow.enter(0)
    expect(slow.enter(0)?.message).toContain(`takes ${text} (burst 1)`)
  }
})
