/** Whom the kernel shall end where instances use up the node's memory together. */
import { expect, test } from 'vitest'
import { specOf, Timeline } from './planner-timeline.ts'

const BUDGET = { memoryMib: 1_000, cpus: 8 }

/** `count` instances, each of which takes `memoryMib`. */
function fill(node: Timeline, functionName: string, count: number, memoryMib: number): void {
  for (let index = 0; index < count; index++) node.find(functionName)
  for (const instance of node.of(functionName)) {
    instance.memoryMib = memoryMib
    instance.inFlight = 1
  }
}

function ranks(node: Timeline): Record<string, string | undefined> {
  const rankById = new Map(node.actions('memory-rank').map(({ id, rank }) => [id, rank]))
  return Object.fromEntries(
    [...node.instances.values()].map(({ id, functionName }) => [`${functionName}:${id}`, rankById.get(id)]),
  )
}

test('on a tight node who holds more than a fair share goes first, and minimums last', () => {
  const node = new Timeline({ budget: BUDGET })
  node.startMs = Infinity
  node.head(specOf('greedy', { max: 8 }), specOf('kept', { min: 1, max: 8 }), specOf('light', { max: 8 }))
  fill(node, 'kept', 1, 100)
  fill(node, 'light', 1, 100)
  fill(node, 'greedy', 4, 100)
  node.measure()
  expect(new Set(Object.values(ranks(node)))).toEqual(new Set(['ordinary']))

  for (const instance of node.of('greedy')) instance.memoryMib = 150
  node.measure()
  expect(ranks(node)).toEqual({
    'kept:i1': 'last',
    'light:i2': 'ordinary',
    'greedy:i3': 'first',
    'greedy:i4': 'first',
    'greedy:i5': 'first',
    'greedy:i6': 'first',
  })

  const before = node.actions('memory-rank').length
  node.measure()
  expect(node.actions('memory-rank')).toHaveLength(before)

  for (const instance of node.of('greedy')) instance.memoryMib = 20
  node.measure()
  expect(new Set(Object.values(ranks(node)))).toEqual(new Set(['ordinary']))
})

test('a share is by weight, and what a minimum keeps beyond it goes first all the same', () => {
  const node = new Timeline({ budget: BUDGET })
  node.startMs = Infinity
  node.head(specOf('heavy', { weight: 4, max: 8 }), specOf('hoard', { min: 2, max: 8 }))
  fill(node, 'heavy', 4, 125)
  fill(node, 'hoard', 2, 125)
  node.measure()
  expect(ranks(node)).toEqual({
    'heavy:i1': 'ordinary',
    'heavy:i2': 'ordinary',
    'heavy:i3': 'ordinary',
    'heavy:i4': 'ordinary',
    'hoard:i5': 'first',
    'hoard:i6': 'first',
  })
})

test('what leaves anyway goes first', () => {
  const node = new Timeline({ budget: BUDGET })
  node.startMs = Infinity
  node.retires = false
  node.head(specOf('a', { max: 8 }))
  fill(node, 'a', 4, 190)
  node.head(specOf('a', { max: 3 }))
  node.measure()
  const leaving = [...node.instances.values()].filter((instance) => instance.leaving)
  expect(leaving).toHaveLength(1)
  expect(Object.entries(ranks(node)).filter(([, rank]) => rank === 'first')).toEqual([
    [`a:${leaving[0]!.id}`, 'first'],
  ])
})
