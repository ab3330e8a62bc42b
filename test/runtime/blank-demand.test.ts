import { expect, test } from 'vitest'
import { BlankDemand } from '../../runtime/pool/blank-demand.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'

const plenty = { base: 2, freeMib: 10_000 }

test('while nothing starts the base waits', () => {
  expect(new BlankDemand().count(plenty, 1_000_000)).toBe(2)
  expect(new BlankDemand().count({ ...plenty, base: 0 }, 1_000_000)).toBe(0)
})

test('a burst is met by as many the next time, and forgotten after ten seconds', () => {
  const demand = new BlankDemand()
  for (let start = 0; start < 12; start++) demand.onStart(5_000)
  // 12 at once, and 12 in 10 s refilled in a quarter of a second each: one more.
  expect(demand.count(plenty, 5_010)).toBe(13)
  expect(demand.count(plenty, 14_900)).toBe(13)
  expect(demand.count(plenty, 15_000)).toBe(2)
})

test('a steady rate of starts keeps blanks ahead of it', () => {
  const demand = new BlankDemand()
  for (let nowMs = 0; nowMs < 20_000; nowMs += 25) demand.onStart(nowMs)
  // 40 a second: ten claimed while one quarter of a second passes, and ten more on top.
  expect(demand.count(plenty, 19_999)).toBe(20)
})

test('they are bounded', () => {
  const demand = new BlankDemand()
  for (let start = 0; start < 1_000; start++) demand.onStart(0)
  expect(demand.count(plenty, 1)).toBe(INSTANCE_LIMITS.blanksMax)
})

test('they take only the memory that instances leave, by what one was measured to take', () => {
  const demand = new BlankDemand()
  expect(demand.count({ base: 4, freeMib: 39 }, 0)).toBe(3)
  expect(demand.count({ base: 4, freeMib: 9 }, 0)).toBe(0)
  expect(demand.count({ base: 4, freeMib: -200 }, 0)).toBe(0)
  demand.onMeasured(60, 3)
  expect(demand.count({ base: 4, freeMib: 39 }, 0)).toBe(1)
})
