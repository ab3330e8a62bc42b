import { expect, test } from 'vitest'
import { allowedCpuMs, Watchdog } from '../../runtime/node/watchdog.ts'

test('CPU without a sign of life adds up, and a sign of life starts it anew', () => {
  const watchdog = new Watchdog()
  expect(watchdog.onLoad('a', { inFlight: 1, progress: 0 }, 100, 0)).toBe(0)
  expect(watchdog.onLoad('a', { inFlight: 1, progress: 0 }, 200, 100)).toBe(100)
  expect(watchdog.onLoad('a', { inFlight: 1, progress: 1 }, 300, 200)).toBe(0)
  expect(watchdog.onLoad('a', { inFlight: 1, progress: 1 }, 350, 300)).toBe(50)
})

test('an instance that answers all the time never looks silent, however much CPU it uses', () => {
  const watchdog = new Watchdog()
  for (let report = 0; report < 100; report++) {
    expect(watchdog.onLoad('a', { inFlight: 5, progress: report }, report * 100, report * 100)).toBe(0)
  }
})

test('a loop left behind after the answer adds up by ticks, rest does not', () => {
  const watchdog = new Watchdog()
  watchdog.onLoad('a', { inFlight: 0, progress: 3 }, 1_000, 0)
  expect(watchdog.onTick('a', 2_000, 1_000)).toBe(1_000)
  expect(watchdog.onTick('a', 3_000, 2_000)).toBe(2_000)
  // 10 ms in a second is rest.
  expect(watchdog.onTick('a', 3_010, 3_000)).toBe(0)
})

test('requests that share the process share their limits, up to two seconds or one limit', () => {
  expect([1, 3, 100].map((requests) => allowedCpuMs(50, requests))).toEqual([50, 150, 2_000])
  expect([1, 100].map((requests) => allowedCpuMs(10_000, requests))).toEqual([10_000, 10_000])
  const watchdog = new Watchdog()
  watchdog.onLoad('a', { inFlight: 2, progress: 5 }, 0, 0)
  expect(watchdog.requestsAtWork('a')).toBe(7)
  // At rest for a second: whatever was answered is done.
  watchdog.onTick('a', 1, 1_000)
  expect(watchdog.requestsAtWork('a')).toBe(2)
})

test('what earlier work burnt is not counted against the first request after it', () => {
  const watchdog = new Watchdog()
  watchdog.onLoad('a', { inFlight: 0, progress: 3 }, 0, 0)
  expect(watchdog.onLoad('a', { inFlight: 1, progress: 3 }, 800, 100)).toBe(0)
  expect(watchdog.onLoad('a', { inFlight: 1, progress: 3 }, 900, 200)).toBe(100)
})

test('long waits between silent work do not add up', () => {
  const watchdog = new Watchdog()
  watchdog.onLoad('a', { inFlight: 1, progress: 1 }, 0, 0)
  watchdog.onTick('a', 15, 1_000)
  expect(watchdog.onLoad('a', { inFlight: 1, progress: 1 }, 20, 1_100)).toBe(5)
})

test('a tick does not judge an instance that works on requests', () => {
  const watchdog = new Watchdog()
  watchdog.onLoad('a', { inFlight: 1, progress: 0 }, 0, 0)
  expect(watchdog.onTick('a', 10_000, 1_000)).toBe(0)
})
