/** Starts: when, how many, how many at a time. */
import { describe, expect, test } from 'vitest'
import { specOf, Timeline } from './planner-timeline.ts'

describe('starts', () => {
  test('the first request starts an instance at once, with the reason', () => {
    const node = new Timeline()
    node.head(specOf('a'), specOf('b'))
    expect(node.of('a')).toHaveLength(0)
    node.nowMs = 250
    const [start] = node.need('a').filter(({ type }) => type === 'start')
    expect(start).toMatchObject({
      functionName: 'a',
      versionId: 'a1',
      reason: expect.stringContaining('1 waiting and 0 in flight'),
    })
    expect(node.of('a')).toHaveLength(1)
    expect(node.of('b')).toHaveLength(0)
  })

  test('a start under way is not asked for again', () => {
    const node = new Timeline()
    node.startMs = Infinity
    node.head(specOf('a'))
    for (let repeat = 0; repeat < 5; repeat++) node.need('a')
    node.requests('a', 0, 1)
    node.run(3_000)
    expect(node.actions('start')).toHaveLength(1)
  })

  test('a queue wants as many instances as it needs, without waiting for a window', () => {
    const node = new Timeline()
    node.head(specOf('a', { concurrency: 10, max: 8 }))
    node.need('a', 28)
    expect(node.of('a')).toHaveLength(4)
  })

  test('max is never passed, by any demand', () => {
    const node = new Timeline()
    node.head(specOf('a', { concurrency: 1, max: 3 }))
    node.requests('a', 3, 500)
    node.run(20_000)
    expect(node.of('a')).toHaveLength(3)
    expect(node.actions('start')).toHaveLength(3)
    expect(node.status('a')?.reason).toContain('held at max 3')
  })

  test('max 0 is the cores of the node, and two on one with fewer', () => {
    for (const [cpus, most] of [
      [4, 4],
      [1, 2],
      [0.5, 2],
    ] as const) {
      const node = new Timeline({ budget: { memoryMib: 1_000, cpus } })
      node.head(specOf('a', { concurrency: 1 }))
      node.requests('a', 0, 100)
      node.run(5_000)
      expect(node.of('a')).toHaveLength(most)
    }
  })

  test('a steady load is met and then nothing changes any more', () => {
    const node = new Timeline()
    node.head(specOf('a', { concurrency: 10, max: 10 }))
    node.need('a')
    node.requests('a', 30)
    node.run(10_000)
    expect(node.of('a')).toHaveLength(5)
    const later = node.run(600_000).filter(({ action }) => ['start', 'retire'].includes(action.type))
    expect(later).toEqual([])
  })

  test('instances out of CPU get company', () => {
    const node = new Timeline()
    node.head(specOf('a'))
    node.requests('a', 3)
    node.run(1_500)
    expect(node.of('a')).toHaveLength(1)
    node.of('a')[0]!.cpuShare = 0.99
    node.run(1_000)
    expect(node.of('a')).toHaveLength(2)
    expect(node.actions('start')[1]!.reason).toBe('instances use 0.99 cores at a target of 0.85 each')
  })

  test('not more are under way at a time than may be; the others follow as these finish', () => {
    const node = new Timeline({ startsAtOnceMax: 4 })
    node.startMs = Infinity
    node.head(specOf('a', { concurrency: 1, max: 4 }), specOf('b', { concurrency: 1, max: 4 }))
    node.need('a', 4)
    node.need('b', 4)
    expect(node.pending).toHaveLength(4)
    node.answerStart(node.pending.shift()!)
    expect(node.pending).toHaveLength(4)
    node.failStart(node.pending.shift()!, 'no place', 'full')
    expect(node.pending).toHaveLength(3)
  })

  test('a version that hangs while it is loaded leaves half of the starts to others', () => {
    for (const [startsAtOnceMax, ofOne] of [
      [8, 4],
      [4, 2],
      [3, 1],
      [2, 1],
    ] as const) {
      const node = new Timeline({ startsAtOnceMax })
      node.startMs = Infinity
      node.head(specOf('hangs', { concurrency: 1, max: 8 }), specOf('a'), specOf('b'))
      node.requests('hangs', 0, 8)
      node.run(5_000)
      expect(node.pending).toHaveLength(ofOne)
      node.need('a')
      expect(node.pending.at(-1)).toMatchObject({ functionName: 'a' })
      node.answerStart(node.pending.pop()!)
      node.need('b')
      expect(node.pending.at(-1)).toMatchObject({ functionName: 'b' })
    }
  })

  test('functions take turns with their starts: a crowd before the first does not make the last wait', () => {
    const node = new Timeline({ startsAtOnceMax: 2 })
    node.startMs = Infinity
    node.head(specOf('a', { concurrency: 1, max: 8 }), specOf('b'), specOf('c'))
    node.need('a', 100)
    node.need('b')
    node.need('c')
    node.answerStart(node.pending.shift()!)
    expect(node.pending.map(({ functionName }) => functionName)).toEqual(['b', 'c'])
  })

  test('a need of a function that is not deployed starts nothing, one of a version of a deployed one does', () => {
    const node = new Timeline()
    node.need('a')
    node.head(specOf('a'))
    node.need('b')
    expect(node.actions('start')).toEqual([])
    node.need('a', 1, 'a-before')
    expect(node.of('a', 'a-before')).toHaveLength(1)
  })
})

describe('minimums', () => {
  test('a head starts them, and one that ends is replaced at once', () => {
    const node = new Timeline()
    node.head(specOf('a', { min: 2 }))
    expect(node.of('a')).toHaveLength(2)
    node.stop(node.of('a')[0]!)
    expect(node.of('a')).toHaveLength(2)
    node.run(300_000)
    expect(node.actions('retire')).toEqual([])
  })

  test('a schedule keeps its own for its time', () => {
    const node = new Timeline()
    node.send({ type: 'prewarm', minByFunction: new Map([['a', 3]]) })
    node.head(specOf('a'))
    expect(node.of('a')).toHaveLength(3)
    expect(node.status('a')?.reason).toBe('min 3 by schedule')
    node.run(120_000)
    expect(node.of('a')).toHaveLength(3)
    node.send({ type: 'prewarm', minByFunction: new Map() })
    node.run(1_100)
    expect(node.of('a')).toHaveLength(0)
  })

  test('a changed policy holds from the head on', () => {
    const node = new Timeline()
    node.head(specOf('a'))
    node.head(specOf('a', { min: 1 }))
    expect(node.of('a')).toHaveLength(1)
    node.head(specOf('a', { min: 0, idleMs: 1_000 }))
    node.run(1_200)
    expect(node.of('a')).toHaveLength(0)
  })
})

test('a failing version that nobody asked for since is forgotten, and starts as any other', () => {
  const node = new Timeline()
  node.startMs = Infinity
  node.head(specOf('a', { concurrency: 1 }))
  node.need('a')
  node.failStart(node.pending.shift()!, 'x')
  node.run(601_000)
  node.need('a', 3)
  expect(node.pending).toHaveLength(3)
})

test('a version of which some instances work and the others crash is no exception', () => {
  const node = new Timeline()
  node.head(specOf('a', { concurrency: 1, max: 4 }))
  node.requests('a', 1)
  node.run(60_000)
  const [works] = node.of('a')
  node.requests('a', 1, 3)
  for (let step = 0; step < 50; step++) {
    node.run(100)
    for (const instance of node.of('a')) if (instance !== works) node.crash(instance, 0)
  }
  // Four forgiven, then with waits of 0.5, 1 and 2 s: not one every 100 ms.
  expect(node.actions('start').length).toBeLessThan(14)
  // And each wait ends with a probe, although an older one is there.
  const starts = node.history.filter(({ action }) => action.type === 'start')
  expect(starts.at(-1)!.atMs).toBeGreaterThan(62_000)
  expect(node.of('a')).toContain(works)
})

test('a report after a rest is of its last moments, not of the rest', () => {
  const node = new Timeline()
  node.head(specOf('a', { idleMs: 600_000 }))
  node.visit('a')
  node.run(29_700)
  node.requests('a', 30)
  node.run(100)
  expect(node.status('a')!.stableConcurrency).toBeCloseTo((1 * 0.1 + 30 * 0.15) / 30, 1)
  expect(node.status('a')!.running).toBe(1)
})

test('without a router nothing is in flight, and who waited waits no more', () => {
  const node = new Timeline()
  node.head(specOf('a', { idleMs: 5_000 }))
  node.requests('a', 5)
  node.run(1_000)
  node.send({ type: 'router-lost' })
  expect(node.status('a')).toMatchObject({ running: 1 })
  for (node.nowMs = 1_100; node.nowMs < 6_100; node.nowMs += 100) node.send({ type: 'tick' })
  expect(node.of('a')).toHaveLength(0)
})

test('blanks are the base first, follow the starts, and are given back when instances need the memory', () => {
  const node = new Timeline({ budget: { memoryMib: 100, cpus: 4 }, blanksBase: new Map([['worker', 3]]) })
  node.head(specOf('a', { concurrency: 1, max: 8 }))
  expect(node.actions('blanks')).toEqual([{ type: 'blanks', blankClass: 'worker', count: 3 }])
  node.need('a', 4)
  expect(node.actions('blanks').at(-1)).toEqual({ type: 'blanks', blankClass: 'worker', count: 2 })
  node.requests('a', 5)
  node.run(10_000)
  expect(node.of('a')).toHaveLength(5)
  expect(node.actions('blanks').at(-1)).toEqual({ type: 'blanks', blankClass: 'worker', count: 0 })
})

test("a function's instances together weigh what its policy says; a paused one does not count", () => {
  const node = new Timeline()
  node.head(specOf('a', { weight: 3, min: 1 }))
  expect(node.actions('cpu-weight')).toEqual([{ type: 'cpu-weight', id: 'i1', weight: 300 }])
  node.head(specOf('a', { weight: 3, min: 2 }))
  expect(node.actions('cpu-weight').slice(1)).toEqual([
    { type: 'cpu-weight', id: 'i1', weight: 150 },
    { type: 'cpu-weight', id: 'i2', weight: 150 },
  ])
  expect(node.send({ type: 'paused', id: 'i2' })).toEqual([{ type: 'cpu-weight', id: 'i1', weight: 300 }])
  expect(node.send({ type: 'resumed', id: 'i2' })).toEqual([{ type: 'cpu-weight', id: 'i1', weight: 150 }])
  node.head(specOf('a', { weight: 1_000, min: 2 }))
  expect(node.actions('cpu-weight').at(-1)).toMatchObject({ weight: 10_000 })
})
