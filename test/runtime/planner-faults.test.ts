/** Versions that fail: whose fault it is, how long they wait, and how they come back. */
import { describe, expect, test } from 'vitest'
import type { ExitCause } from '../../sdk/model/node-status.ts'
import { specOf, Timeline } from './planner-timeline.ts'

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
