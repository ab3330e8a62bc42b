import { describe, expect, test } from 'vitest'
import { IDLE_FALLBACK_MS, IdleHistogram } from '../../runtime/pool/idle-histogram.ts'

const MINUTE_MS = 60_000
const fallback = { preWarmMs: 0, keepAliveMs: IDLE_FALLBACK_MS, basis: 'fallback' }

function histogramOf(...idleMinutes: number[]): IdleHistogram {
  const histogram = new IdleHistogram()
  for (const minutes of idleMinutes) histogram.record(minutes * MINUTE_MS)
  return histogram
}
function times(count: number, minutes: number): number[] {
  return Array.from({ length: count }, () => minutes)
}

describe('windows', () => {
  test('without history ten minutes hold, and four idle times are no history yet', () => {
    expect(histogramOf().windows()).toEqual(fallback)
    expect(histogramOf(...times(4, 30)).windows()).toEqual(fallback)
    expect(histogramOf(...times(5, 30)).windows().basis).toBe('history')
  })

  test('a function that is called every half hour leaves, and is warm from 27 to 34.1 minutes', () => {
    const windows = histogramOf(...times(20, 30.4)).windows()
    expect(windows).toEqual({
      preWarmMs: 27 * MINUTE_MS,
      keepAliveMs: 34.1 * MINUTE_MS - 27 * MINUTE_MS,
      basis: 'history',
    })
  })

  test('a function that is called within the minute stays for its longest pauses and no longer', () => {
    const windows = histogramOf(...times(200, 0.2), ...times(5, 3.5)).windows()
    expect(windows).toEqual({ preWarmMs: 0, keepAliveMs: 4 * 1.1 * MINUTE_MS, basis: 'history' })
  })

  test('the rarest 1 % do not keep it warm, and the earliest 5 % do not make it come early', () => {
    const windows = histogramOf(...times(990, 20), ...times(5, 2), ...times(5, 200)).windows()
    expect(windows.preWarmMs).toBe(20 * 0.9 * MINUTE_MS)
    expect(windows.preWarmMs + windows.keepAliveMs).toBeCloseTo(21 * 1.1 * MINUTE_MS, 6)
  })

  test('idle times that are all alike in frequency say nothing: ten minutes', () => {
    const spread = Array.from({ length: 240 }, (_, bin) => bin)
    expect(histogramOf(...spread, ...spread).windows()).toEqual(fallback)
    // A peak among them makes them say something.
    expect(histogramOf(...spread, ...times(100, 12)).windows().basis).toBe('history')
  })

  test('where most idle times are beyond four hours: ten minutes', () => {
    expect(histogramOf(...times(10, 5), ...times(10, 241)).windows().basis).toBe('history')
    expect(histogramOf(...times(10, 5), ...times(11, 241)).windows()).toEqual(fallback)
  })

  test('what a function did long ago fades', () => {
    const histogram = histogramOf(...times(9_000, 5))
    for (const minutes of times(40_000, 60)) histogram.record(minutes * MINUTE_MS)
    expect(histogram.windows().preWarmMs).toBe(60 * 0.9 * MINUTE_MS)
  })
})

describe('as JSON', () => {
  test('it comes back as it was', () => {
    const histogram = histogramOf(...times(7, 30), ...times(3, 31), ...times(2, 300))
    const json = JSON.parse(JSON.stringify(histogram.toJson())) as unknown
    expect(json).toEqual({
      bins: [
        [30, 7],
        [31, 3],
      ],
      outOfRange: 2,
    })
    const copy = IdleHistogram.fromJson(json)!
    expect(copy.toJson()).toEqual(histogram.toJson())
    expect(copy.windows()).toEqual(histogram.windows())
  })

  test('what is no such JSON is undefined', () => {
    const wrong: unknown[] = [
      null,
      undefined,
      7,
      [],
      {},
      { bins: [], outOfRange: -1 },
      { bins: 'x', outOfRange: 0 },
      { bins: [[240, 1]], outOfRange: 0 },
      { bins: [[-1, 1]], outOfRange: 0 },
      { bins: [[1, 1.5]], outOfRange: 0 },
      { bins: [[1, 1e9]], outOfRange: 0 },
      { bins: [1], outOfRange: 0 },
      { bins: [[1]], outOfRange: 0 },
    ]
    for (const json of wrong) expect(IdleHistogram.fromJson(json)).toBeUndefined()
  })
})
