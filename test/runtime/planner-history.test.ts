/** `idle: auto` over hours of virtual time. */
import { expect, test } from 'vitest'
import { specOf, Timeline } from './planner-timeline.ts'

const MINUTE_MS = 60_000

/** Visits every `minutes`, so often. */
function visits(node: Timeline, count: number, minutes: number): void {
  for (let visit = 0; visit < count; visit++) {
    node.visit('a')
    node.run(minutes * MINUTE_MS - 200)
  }
}
function starts(node: Timeline): number {
  return node.actions('start').length
}

test('without history an instance stays ten minutes', () => {
  const node = new Timeline()
  node.head(specOf('a', { idleMs: 'auto' }))
  node.visit('a')
  node.run(10 * MINUTE_MS - 100)
  expect(node.of('a')).toHaveLength(1)
  node.run(200)
  expect(node.of('a')).toHaveLength(0)
})

test('a function that is called every half hour is warm for the call, and gone in between', () => {
  const node = new Timeline()
  node.head(specOf('a', { idleMs: 'auto' }))
  visits(node, 6, 30)
  const cold = node.history.filter(
    ({ action }) => action.type === 'start' && !action.reason.includes('history'),
  )
  expect(cold).toHaveLength(6)
  node.visit('a')
  node.run(10_000)
  expect(node.of('a')).toHaveLength(0)
  const before = starts(node)
  node.run(25 * MINUTE_MS)
  expect(node.of('a')).toHaveLength(0)
  // An idle time of 29 min and some: warm from 0.9 × 29 on.
  node.run(2 * MINUTE_MS)
  expect(node.of('a')).toHaveLength(1)
  expect(node.actions('start').at(-1)!.reason).toContain('history')
  node.run(2.5 * MINUTE_MS)
  node.visit('a')
  expect(starts(node)).toBe(before + 1)
  expect(node.of('a')).toHaveLength(1)
})

test('when the call does not come, the instance that was warmed for it leaves after its window', () => {
  const node = new Timeline()
  node.head(specOf('a', { idleMs: 'auto' }))
  visits(node, 7, 30)
  expect(node.of('a')).toHaveLength(1)
  node.run(10 * MINUTE_MS)
  expect(node.of('a')).toHaveLength(0)
  const before = starts(node)
  node.run(300 * MINUTE_MS)
  expect(starts(node)).toBe(before)
})

test('what was learnt is exported and imported, before the first head or after it', () => {
  const taught = new Timeline()
  taught.head(specOf('a', { idleMs: 'auto' }), specOf('b'))
  visits(taught, 7, 30)
  const json = JSON.parse(JSON.stringify(taught.planner.exportHistory())) as unknown
  expect(json).toEqual({ formatVersion: 1, functions: { a: { bins: [[29, 6]], outOfRange: 0 } } })
  for (const when of ['before', 'after']) {
    const node = new Timeline()
    if (when === 'before') node.planner.importHistory(json)
    node.head(specOf('a', { idleMs: 'auto' }))
    if (when === 'after') node.planner.importHistory(json)
    expect(node.planner.exportHistory()).toEqual(json)
    node.visit('a')
    node.run(10_000)
    expect(node.of('a')).toHaveLength(0)
  }
})

test('what is no history is ignored', () => {
  const node = new Timeline()
  node.head(specOf('a', { idleMs: 'auto' }), specOf('b'))
  const good = { bins: [[3, 9]], outOfRange: 0 }
  for (const json of [null, 7, 'x', {}, { formatVersion: 2, functions: { a: good } }, { formatVersion: 1 }]) {
    node.planner.importHistory(json)
  }
  node.planner.importHistory({ formatVersion: 1, functions: { a: { bins: [[3, -9]] }, b: good, c: good } })
  expect(node.planner.exportHistory()).toEqual({ formatVersion: 1, functions: {} })
  node.planner.importHistory({ formatVersion: 1, functions: { a: good, '': null } })
  expect(node.planner.exportHistory()).toEqual({ formatVersion: 1, functions: { a: good } })
})

test('a new router that counts from zero has no request of its own', () => {
  const node = new Timeline()
  node.head(specOf('a', { idleMs: 'auto' }))
  node.visit('a')
  node.run(30 * MINUTE_MS)
  node.send({ type: 'router-lost' })
  const nothing = { inFlight: 0, queued: 0, requests: 0, concurrency: 0 }
  node.send({ type: 'load', instances: [], versions: [{ functionName: 'a', versionId: 'a1', ...nothing }] })
  expect(node.planner.exportHistory().functions).toEqual({})
  node.visit('a')
  expect(node.planner.exportHistory().functions).toEqual({ a: { bins: [[30, 1]], outOfRange: 0 } })
})

test('only functions with idle: auto are remembered, and only while they are deployed', () => {
  const node = new Timeline()
  node.head(specOf('a', { idleMs: 'auto' }))
  visits(node, 3, 2)
  expect(Object.keys(node.planner.exportHistory().functions)).toEqual(['a'])
  node.head(specOf('a'))
  visits(node, 3, 2)
  expect(node.planner.exportHistory().functions).toEqual({})
})
