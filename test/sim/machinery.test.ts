import { describe, expect, test } from 'vitest'
import { makeArrivals, zipfRates, type ArrivalPattern } from './arrivals.ts'
import { EventQueue } from './event-queue.ts'
import { formatFact } from './facts.ts'
import { makeScenario } from './make-scenario.ts'
import { Random } from './random.ts'
import { describeViolation, runScenario } from './run-scenario.ts'

function timeline(seed: number): string[] {
  const lines: string[] = []
  runScenario(makeScenario(seed), { onFact: (fact, nowMs) => lines.push(formatFact(fact, nowMs)) })
  return lines
}

describe('a run', () => {
  test('is decided by its seed', () => {
    const lines = timeline(11)
    expect(lines.length).toBeGreaterThan(100)
    expect(timeline(11)).toEqual(lines)
    expect(timeline(12)).not.toEqual(lines)
  })
  test('that breaks a property says which, with its seed and what came before', () => {
    const checkers = {
      'no third request': (_: unknown, fail: (message: string) => void) => ({
        onFact: (fact: { type: string; requestId?: number }) => {
          if (fact.type === 'arrived' && fact.requestId === 2) fail('it came')
        },
      }),
    }
    const scenario = makeScenario(11)
    const violation = runScenario(scenario, { checkers })!
    const description = describeViolation(scenario, violation, { checkers, linesMax: 3 })
    expect(description).toMatch(/^seed 11 \(\w+\) breaks "no third request" at [\d.]+ s: it came\n/)
    const lines = description.split('\n')
    expect(lines).toHaveLength(5)
    expect(lines[3]).toContain('requestId=2')
    expect(lines[4]).toBe('again: node test/sim/main.ts 11')
  })
  test('in which the production code asserts is a violation', () => {
    const parts = {
      makePlanner: () => ({
        on: () => {
          throw new Error('an assertion')
        },
      }),
    }
    expect(runScenario(makeScenario(11), { parts })).toMatchObject({
      property: 'no fault',
      message: expect.stringContaining('an assertion'),
    })
  })
})

test('the event queue gives events by time, and equals in the order they came', () => {
  const random = new Random(1)
  const queue = new EventQueue()
  const expected: { atMs: number; order: number }[] = []
  const got: number[] = []
  for (let order = 0; order < 2_000; order++) {
    const atMs = random.whole(0, 300)
    expected.push({ atMs, order })
    queue.push(atMs, () => got.push(order))
    // Now and then some leave in between: none that comes later is earlier than they were.
    if (order === 999) {
      expected.sort((a, b) => a.atMs - b.atMs || a.order - b.order)
      for (let count = 0; count < 500; count++) queue.pop()?.()
      expect(got).toEqual(expected.splice(0, 500).map((event) => event.order))
    }
  }
  expected.sort((a, b) => a.atMs - b.atMs || a.order - b.order)
  got.length = 0
  while (queue.size > 0) {
    expect(queue.nextMs).toBe(expected[got.length]!.atMs)
    queue.pop()?.()
  }
  expect(got).toEqual(expected.map((event) => event.order))
  expect(queue.pop()).toBeUndefined()
})

test('random numbers are spread evenly, and exponential and Pareto ones have their means', () => {
  const random = new Random(3)
  const mean = (draw: () => number): number => {
    let sum = 0
    for (let count = 0; count < 50_000; count++) sum += draw()
    return sum / 50_000
  }
  expect(mean(() => random.next())).toBeCloseTo(0.5, 1)
  expect(mean(() => random.exponential(20)) / 20).toBeCloseTo(1, 1)
  expect(mean(() => random.pareto(1, 3))).toBeCloseTo(1.5, 1)
  const counts = [0, 0, 0]
  for (let count = 0; count < 30_000; count++) counts[random.whole(0, 2)]!++
  for (const count of counts) expect(count / 10_000).toBeCloseTo(1, 1)
})

describe('arrivals', () => {
  const rateOf = (pattern: ArrivalPattern, untilMs: number): number => {
    const arrivals = makeArrivals(pattern, new Random(5))
    let count = 0
    let beforeMs = 0
    for (let atMs = arrivals.nextMs(0); atMs < untilMs; atMs = arrivals.nextMs(atMs)) {
      expect(atMs).toBeGreaterThanOrEqual(beforeMs)
      beforeMs = atMs
      count++
    }
    return (count * 1_000) / untilMs
  }
  test('have the rate they are made with', () => {
    expect(rateOf({ type: 'none' }, 1e6)).toBe(0)
    expect(rateOf({ type: 'poisson', perS: 5 }, 1e6)).toBeCloseTo(5, 0)
    expect(rateOf({ type: 'even', perS: 5, phaseMs: 10 }, 1e6)).toBeCloseTo(5, 2)
    expect(rateOf({ type: 'on-off', perS: 40, onMs: 1_000, offMs: 3_000 }, 1e7) / 10).toBeCloseTo(1, 0)
    expect(rateOf({ type: 'daily', perS: 5, dayMs: 1e5, phaseMs: 0 }, 1e6)).toBeCloseTo(5, 0)
    expect(
      rateOf({ type: 'periodic', everyMs: 1_000, phaseMs: 0, jitterMs: 100, count: 5 }, 1e6),
    ).toBeCloseTo(5, 2)
  })
  test('in steps keep each rate for its phase, and end with the last', () => {
    const phases = [
      { untilMs: 1e5, perS: 10 },
      { untilMs: 2e5, perS: 0 },
      { untilMs: 3e5, perS: 20 },
    ]
    expect((rateOf({ type: 'steps', phases }, 1e6) * 1e6) / 1e3 / 3_000).toBeCloseTo(1, 1)
    expect(rateOf({ type: 'steps', phases: phases.slice(0, 2) }, 1e6)).toBeCloseTo(1, 1)
  })
  test('of many by Zipf sum to the whole, and the first has the most', () => {
    const rates = zipfRates({ count: 100, total: 50, exponent: 1 })
    expect(rates.reduce((sum, rate) => sum + rate, 0)).toBeCloseTo(50)
    expect(rates[0]! / rates[9]!).toBeCloseTo(10)
  })
})
