/** Starts: when, how many, how many at a time; and versions that fail. */
import { describe, expect, test } from 'vitest'
import type { ExitCause } from '../../sdk/model/node-status.ts'
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

describe('versions that fail', () => {
  test('a start that failed refuses who waits, with the message and how long', () => {
    const node = new Timeline()
    node.startMs = Infinity
    node.head(specOf('a'))
    node.need('a')
    expect(node.failStart(node.pending.shift()!, 'no fetch handler')).toContainEqual({
      type: 'refuse',
      versionId: 'a1',
      code: 'start_failed',
      message: 'function "a" did not start: no fetch handler',
      retryAfterMs: 500,
    })
    node.nowMs = 200
    expect(node.need('a')).toContainEqual({
      type: 'refuse',
      versionId: 'a1',
      code: 'crash_loop',
      message: 'function "a" keeps failing and rests before it is tried again: no fetch handler',
      retryAfterMs: 300,
    })
  })

  test('is seen while nobody asks for it, with the time that is left', () => {
    const node = new Timeline()
    node.startMs = Infinity
    node.head(specOf('a'), specOf('b'))
    node.need('a')
    node.failStart(node.pending.shift()!, 'no fetch handler')
    node.requests('a', 0)
    node.nowMs = 300
    expect(node.planner.explain(node.nowMs)).toMatchObject([
      { functionName: 'a', obstacle: 'it keeps failing and is tried again in 0.2 s: no fetch handler' },
    ])
    node.run(2_000)
    expect(node.planner.explain(node.nowMs)).toEqual([])
  })

  test('when the wait is over one request probes it, and only one instance is tried until it answers', () => {
    const node = new Timeline()
    node.startMs = Infinity
    node.head(specOf('a', { concurrency: 1, max: 8 }))
    node.need('a', 8)
    expect(node.pending).toHaveLength(4)
    for (const start of node.pending.splice(0)) node.failStart(start, 'x')
    node.nowMs = 600
    node.need('a', 8)
    expect(node.pending).toHaveLength(1)
    expect(node.status('a')?.obstacle).toContain('one instance at a time until it answers')
    const probe = node.answerStart(node.pending.shift()!)
    node.nowMs = 700
    node.need('a', 8)
    expect(node.pending).toHaveLength(0)
    node.send({
      type: 'load',
      instances: [{ ...probe, inFlight: 1, progress: 2, started: 2 }],
      versions: [],
    })
    node.need('a', 8)
    expect(node.pending.length).toBeGreaterThan(1)
  })

  test('four crashes before the tenth answer are forgiven, the fifth refuses', () => {
    const node = new Timeline()
    node.head(specOf('a'))
    for (let crash = 1; crash <= 4; crash++) {
      node.nowMs += 10
      node.need('a')
      node.crash(node.of('a')[0]!, 9)
      expect(node.of('a')).toHaveLength(1)
    }
    const actions = node.crash(node.of('a')[0]!, 0)
    expect(actions).toContainEqual(
      expect.objectContaining({ type: 'refuse', code: 'crash_loop', retryAfterMs: 500 }),
    )
    expect(node.of('a')).toHaveLength(0)
  })

  test('a crash after ten answers, or after a minute, is no part of a row and ends one', () => {
    for (const life of [
      { answered: 10, ms: 10 },
      { answered: 0, ms: 60_000 },
    ]) {
      const node = new Timeline()
      node.head(specOf('a', { min: 1 }))
      for (let crash = 0; crash < 20; crash++) {
        node.nowMs += life.ms
        node.crash(node.of('a')[0]!, life.answered)
        expect(node.of('a')).toHaveLength(1)
      }
    }
  })

  test('a minimum is probed by itself once the wait is over; a healthy life ends the row', () => {
    const node = new Timeline()
    node.startMs = Infinity
    node.head(specOf('a', { min: 2 }))
    for (const start of node.pending.splice(0)) node.failStart(start, 'x')
    expect(node.actions('refuse')).toEqual([])
    node.run(400)
    expect(node.pending).toHaveLength(0)
    node.run(1_200)
    expect(node.pending).toHaveLength(1)
    node.answerStart(node.pending.shift()!)
    node.run(58_000)
    expect(node.pending).toHaveLength(0)
    node.run(3_000)
    expect(node.pending).toHaveLength(1)
  })

  test('for want of an engine refuses who waits at once, by that name, and is tried again a second later', () => {
    const node = new Timeline()
    node.startMs = Infinity
    node.head(specOf('a'))
    node.need('a')
    expect(node.failStart(node.pending.shift()!, 'nothing at /run/engine.sock', 'engine')).toContainEqual({
      type: 'refuse',
      versionId: 'a1',
      code: 'engine_unavailable',
      message: expect.stringMatching(/^function "a" needs this node's container engine(?!.*engine\.sock)/),
      retryAfterMs: 1_000,
    })
    node.nowMs = 500
    node.need('a')
    expect(node.pending).toHaveLength(0)
    node.nowMs = 1_100
    node.need('a')
    expect(node.pending).toHaveLength(1)
  })

  test("is tried again every second where it is the node's fault, and is not held against the version", () => {
    const node = new Timeline()
    node.startMs = Infinity
    node.head(specOf('a'))
    node.requests('a', 0, 1)
    node.run(100)
    const startedAtMs: number[] = []
    for (let step = 0; step < 100; step++) {
      for (const start of node.pending.splice(0)) {
        startedAtMs.push(node.nowMs)
        node.failStart(start, 'the bucket at 10.0.0.7 does not answer', 'node')
        expect(node.status('a')?.obstacle).toContain('the bucket at 10.0.0.7 does not answer')
      }
      node.run(100)
    }
    expect(startedAtMs).toEqual(Array.from({ length: 10 }, (_, second) => 100 + second * 1_000))
    expect(node.actions('refuse')).toEqual([])
    // Whoever waits is told so, and nothing of the node's inside.
    const delays = node.actions('delay')
    expect(delays.length).toBeGreaterThanOrEqual(9)
    expect(delays[0]!.reason).toBe('it could not start one and tries again every second, see its log')
    node.answerStart(node.pending.shift()!)
    node.requests('a', 1)
    node.crash(node.of('a')[0]!, 0)
    expect(node.actions('refuse')).toEqual([])
  })

  test('an instance that still serves goes on, and nobody is refused while it does', () => {
    const node = new Timeline()
    node.startMs = Infinity
    node.head(specOf('a', { concurrency: 1, max: 8 }))
    node.need('a', 2)
    node.answerStart(node.pending.shift()!)
    node.failStart(node.pending.shift()!, 'its own words')
    node.need('a', 5)
    expect(node.actions('refuse')).toEqual([])
    expect(node.status('a')?.obstacle).toMatch(/keeps failing.*its own words/)
    // Which becomes a label of metrics.
    expect(node.status('a')?.reason).not.toContain('its own words')
  })

  test.each([
    [
      'what the supervisor or a person ended',
      ['stopped', 'killed', 'cpu_limit', 'killed', 'stopped', 'killed'],
    ],
    ['a victim of the node', Array.from({ length: 6 }, () => 'node_out_of_memory')],
  ] as [string, ExitCause[]][])('%s is no crash', (_, causes) => {
    const node = new Timeline()
    node.head(specOf('a', { min: 1 }))
    for (const cause of causes) {
      const [instance] = node.of('a')
      node.instances.delete(instance!.id)
      node.send({ type: 'ended', id: instance!.id, cause, message: cause, answered: 0 })
      expect(node.of('a')).toHaveLength(1)
    }
  })

  test('a start that nobody asked for is our own bug', () => {
    const node = new Timeline()
    expect(() => node.send({ type: 'started', startId: 7, instanceId: 'i' })).toThrow('start 7')
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
