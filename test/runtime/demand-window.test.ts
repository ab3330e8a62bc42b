import { expect, test } from 'vitest'
import { DemandWindow, PANIC_WINDOW_MS, STABLE_WINDOW_MS } from '../../runtime/pool/demand-window.ts'

test('a level that holds is its own mean, over both windows and at every moment', () => {
  const window = new DemandWindow(12_345)
  window.step(7, 12_345)
  for (const ageMs of [1_000, 1_001, 1_999, 6_500, 59_999, 61_000, 500_000]) {
    expect(window.mean(STABLE_WINDOW_MS, 12_345 + ageMs)).toBeCloseTo(7, 9)
    expect(window.mean(PANIC_WINDOW_MS, 12_345 + ageMs)).toBeCloseTo(7, 9)
  }
})

test('a young window is averaged over its age, not over a past that it did not have', () => {
  const window = new DemandWindow(1_000)
  window.report(30, 30, 3_000)
  expect(window.mean(STABLE_WINDOW_MS, 3_000)).toBeCloseTo(30, 9)
  window.report(30, 0, 5_000)
  expect(window.mean(STABLE_WINDOW_MS, 9_000)).toBeCloseTo(15, 9)
})

test('its first second counts as a whole one: a moment is no trend', () => {
  const window = new DemandWindow(1_000)
  window.step(30, 1_000)
  expect(window.mean(STABLE_WINDOW_MS, 1_000)).toBe(0)
  expect(window.mean(PANIC_WINDOW_MS, 1_100)).toBeCloseTo(3, 9)
})

test('the mean is weighted by time, whatever the rhythm of the reports', () => {
  const window = new DemandWindow(0)
  window.report(10, 10, 100)
  window.report(10, 10, 2_500)
  window.report(40, 0, 3_000)
  // 10 for 2.5 s and 40 for half a second.
  expect(window.mean(STABLE_WINDOW_MS, 3_000)).toBeCloseTo((10 * 2.5 + 40 * 0.5) / 3, 9)
})

test('what is older than a window no longer counts in it', () => {
  const window = new DemandWindow(0)
  window.report(100, 0, 10_000)
  expect(window.mean(PANIC_WINDOW_MS, 16_000)).toBe(0)
  expect(window.mean(STABLE_WINDOW_MS, 60_000)).toBeCloseTo(100 / 6, 9)
  expect(window.mean(STABLE_WINDOW_MS, 65_000)).toBeCloseTo((100 * 5) / 60, 9)
  expect(window.mean(STABLE_WINDOW_MS, 70_000)).toBe(0)
})

test('buckets that come round again are empty, also after a long silence', () => {
  const window = new DemandWindow(0)
  window.report(100, 0, 30_000)
  window.step(0, 75_000)
  window.report(1, 1, 75_500)
  expect(window.mean(STABLE_WINDOW_MS, 75_500)).toBeCloseTo((100 * 14.5 + 0.5) / 60, 6)
  window.step(0, 1_000_000)
  window.report(6, 0, 1_003_000)
  expect(window.mean(PANIC_WINDOW_MS, 1_003_000)).toBeCloseTo(3.5, 6)
})

test('two words at one moment count once: the later one holds', () => {
  const window = new DemandWindow(0)
  window.step(5, 1_000)
  window.step(9, 1_000)
  window.report(100, 9, 1_000)
  expect(window.mean(PANIC_WINDOW_MS, 2_000)).toBeCloseTo(4.5, 9)
})
