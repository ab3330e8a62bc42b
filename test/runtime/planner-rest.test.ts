/** The ladder of instances that rest: running, paused, gone; and what is replaced. */
import { describe, expect, test } from 'vitest'
import { specOf, Timeline, type TimedAction } from './planner-timeline.ts'

function of(actions: readonly TimedAction[], type: string): TimedAction[] {
  return actions.filter(({ action }) => action.type === type)
}

describe('pause', () => {
  test('an instance at rest is paused after its time, and leaves after the idle time all the same', () => {
    const node = new Timeline()
    node.head(specOf('a', { pauseMs: 2_000, idleMs: 10_000 }))
    node.visit('a')
    const restFromMs = node.nowMs
    const actions = node.run(15_000)
    expect(of(actions, 'pause').map(({ atMs }) => atMs)).toEqual([restFromMs + 2_000])
    expect(of(actions, 'retire').map(({ atMs }) => atMs)).toEqual([restFromMs + 10_000])
  })

  test('without a pause time none is paused, and none with a request on it', () => {
    const node = new Timeline()
    node.head(specOf('a', { pauseMs: 0 }), specOf('b', { pauseMs: 1_000 }))
    node.visit('a')
    node.requests('b', 1)
    node.run(30_000)
    expect(node.actions('pause')).toEqual([])
  })

  test('one whose pause was refused is asked again after another pause time', () => {
    const node = new Timeline()
    node.pauseAnswer = 'pause-refused'
    node.head(specOf('a', { pauseMs: 2_000 }))
    node.visit('a')
    const restFromMs = node.nowMs
    const asked = of(node.run(7_000), 'pause').map(({ atMs }) => atMs - restFromMs)
    expect(asked).toEqual([2_000, 4_000, 6_000])
  })

  test('a question that nobody answers is asked again, not every tick', () => {
    const node = new Timeline()
    node.pauseAnswer = 'none'
    node.head(specOf('a', { pauseMs: 1_000 }))
    node.visit('a')
    expect(of(node.run(25_000), 'pause')).toHaveLength(3)
  })

  test('a request that thaws it makes it rest anew; a paused one counts as present', () => {
    const node = new Timeline()
    node.head(specOf('a', { pauseMs: 1_000, idleMs: 10_000 }))
    node.visit('a')
    node.run(5_000)
    expect(node.status('a')).toMatchObject({ running: 0, paused: 1, desired: 1 })
    const [instance] = node.of('a')
    instance!.paused = false
    node.send({ type: 'resumed', id: instance!.id })
    expect(node.status('a')).toMatchObject({ running: 1, paused: 0 })
    node.visit('a')
    expect(node.actions('start')).toHaveLength(1)
    node.run(9_000)
    expect(node.actions('retire')).toEqual([])
    node.run(1_000)
    expect(node.actions('retire')).toHaveLength(1)
  })

  test('what the router says in its reports of pauses holds, whoever missed the message', () => {
    const node = new Timeline()
    node.head(specOf('a', { min: 1 }))
    const [instance] = node.of('a')
    node.send({ type: 'load', instances: [{ ...instance!, paused: true }], versions: [] })
    expect(node.status('a')).toMatchObject({ running: 0, paused: 1 })
    node.send({ type: 'load', instances: [{ ...instance!, paused: false }], versions: [] })
    expect(node.status('a')).toMatchObject({ running: 1, paused: 0 })
  })
})

describe('idle', () => {
  test('the last instance leaves when it was idle long enough, not before, and says why', () => {
    const node = new Timeline()
    node.head(specOf('a', { idleMs: 300_000 }))
    node.visit('a')
    node.run(299_900)
    expect(node.of('a')).toHaveLength(1)
    expect(node.status('a')?.reason).toBe('no demand: kept for 0.1 s more (idle after 300 s)')
    node.run(100)
    expect(node.of('a')).toHaveLength(0)
    expect(node.actions('retire')[0]!.reason).toBe('idle for 300 s')
    expect(node.status('a')).toBeUndefined()
  })

  test('an idle time of less than the windows is kept too', () => {
    const node = new Timeline()
    node.head(specOf('a', { idleMs: 500 }))
    node.visit('a')
    node.run(600)
    expect(node.of('a')).toHaveLength(0)
    node.run(120_000)
    expect(node.actions('start')).toHaveLength(1)
  })

  test('a minimum never leaves', () => {
    const node = new Timeline()
    node.head(specOf('a', { min: 1, idleMs: 1_000 }))
    node.need('a')
    node.visit('a')
    node.run(600_000)
    expect(node.of('a')).toHaveLength(1)
  })

  test('after a burst the surplus leaves when nothing wanted it for a minute, the longest at rest first', () => {
    const node = new Timeline()
    node.head(specOf('a', { concurrency: 10, max: 8, idleMs: 600_000 }))
    node.requests('a', 40)
    node.run(20_000)
    expect(node.of('a')).toHaveLength(6)
    const steady = node.nowMs
    node.requests('a', 1)
    node.run(59_000)
    expect(node.of('a')).toHaveLength(6)
    expect(node.status('a')?.reason).toMatch(/^kept at 6: scale-down waits/)
    node.run(90_000)
    const leavers = node.actions('retire')
    expect(node.of('a')).toHaveLength(1)
    expect(leavers).toHaveLength(5)
    expect(leavers[0]!.reason).toMatch(/^6 instances, and \d wanted: /)
    // Never the one that works.
    expect(node.of('a')[0]!.inFlight).toBe(1)
    expect(node.nowMs - steady).toBeLessThan(150_000)
  })
})

describe('what is not wanted any more', () => {
  test('a replaced version leaves ten seconds after its last request', () => {
    const node = new Timeline()
    node.head(specOf('a'))
    node.requests('a', 1)
    node.run(1_000)
    node.head(specOf('a', {}, { versionId: 'a2' }))
    node.run(30_000)
    expect(node.of('a')).toHaveLength(1)
    node.requests('a', 0)
    node.run(10_000)
    expect(node.of('a')).toHaveLength(1)
    node.run(200)
    expect(node.of('a')).toHaveLength(0)
  })

  test('a preview leaves as soon, or sooner where its idle time is shorter; a minimum is not for it', () => {
    for (const [idleMs, leavesMs] of [
      [60_000, 10_000],
      [2_000, 2_000],
    ] as const) {
      const node = new Timeline()
      node.head(specOf('a', { min: 1, idleMs }, { percent: 0 }))
      expect(node.of('a')).toHaveLength(0)
      node.visit('a')
      const restFromMs = node.nowMs
      expect(of(node.run(20_000), 'retire').map(({ atMs }) => atMs - restFromMs)).toEqual([leavesMs])
    }
  })

  test('instances of a deleted function go at once, whatever they do, and late starts too', () => {
    const node = new Timeline()
    node.head(specOf('a', { min: 1 }), specOf('b', { min: 1 }))
    node.of('a')[0]!.inFlight = 3
    node.startMs = Infinity
    node.head(specOf('a', { min: 2 }), specOf('b', { min: 1 }))
    const actions = node.head(specOf('b', { min: 1 }))
    expect(actions).toContainEqual({ type: 'retire', id: 'i1', reason: 'function "a" is not deployed' })
    expect(node.of('b')).toHaveLength(1)
    node.answerStart(node.pending.shift()!)
    node.run(200)
    expect(node.of('a')).toEqual([])
  })

  test('what an earlier agent left of a function that is not deployed goes with the first head', () => {
    const node = new Timeline()
    node.find('gone')
    node.find('a')
    node.run(60_000)
    expect(node.actions('retire')).toEqual([])
    node.head(specOf('a', { min: 1 }))
    expect(node.actions('retire').map(({ id }) => id)).toEqual(['i1'])
    expect(node.actions('start')).toEqual([])
  })

  test('a trial start waits ten seconds for its deploy, then leaves; other deploys in between do not end it', () => {
    const trial = (): Timeline => {
      const node = new Timeline()
      node.head(specOf('a'))
      node.find('new')
      node.run(5_000)
      node.head(specOf('a'), specOf('b'))
      return node
    }
    const node = trial()
    expect(node.of('new')).toHaveLength(1)
    node.head(specOf('a'), specOf('b'), specOf('new'))
    node.run(30_000)
    expect(node.of('new')).toHaveLength(1)
    const failed = trial()
    failed.run(4_900)
    expect(failed.of('new')).toHaveLength(1)
    failed.run(200)
    expect(failed.of('new')).toHaveLength(0)
  })
})

test('a trial start whose deploy came and went goes with its function', () => {
  const node = new Timeline()
  node.head(specOf('a'))
  node.find('new')
  node.head(specOf('a'), specOf('new'))
  node.head(specOf('a'))
  expect(node.of('new')).toEqual([])
})

test('a max that was lowered holds at once: who has least to do finishes it and leaves', () => {
  const node = new Timeline()
  node.retires = false
  node.head(specOf('a', { concurrency: 10, max: 4 }))
  node.requests('a', 25)
  node.run(5_000)
  expect(node.of('a').map(({ inFlight }) => inFlight)).toEqual([6, 6, 6, 7])
  node.head(specOf('a', { concurrency: 50, max: 1 }))
  expect(node.of('a').map(({ id }) => id)).toEqual(['i4'])
  expect(node.actions('retire')[0]!.reason).toBe('4 instances, and max is 1')
})

describe('a changed memory limit', () => {
  test('replaces a minimum: the new one is up before the old one leaves', () => {
    const node = new Timeline()
    node.head(specOf('a', { min: 1 }))
    node.startMs = Infinity
    node.head(specOf('a', { min: 1 }, { memoryMib: 256 }))
    expect(node.pending).toHaveLength(1)
    node.run(1_000)
    expect(node.of('a').map(({ id }) => id)).toEqual(['i1'])
    node.answerStart(node.pending.shift()!)
    expect(node.of('a').map(({ id }) => id)).toEqual(['i2'])
    expect(node.actions('retire')[0]!.reason).toBe('its memory limit of 128 MiB is now 256 MiB')
    node.run(60_000)
    expect(node.actions('start')).toHaveLength(2)
  })

  test('never passes max: at max one leaves for each that is started', () => {
    const node = new Timeline()
    node.startMs = 200
    node.retires = false
    node.head(specOf('a', { concurrency: 1, max: 3 }))
    node.requests('a', 3, 5)
    node.run(1_000)
    expect(node.of('a')).toHaveLength(3)
    node.head(specOf('a', { concurrency: 1, max: 3 }, { memoryMib: 64 }))
    for (let step = 0; step < 20; step++) {
      expect(node.of('a').length + node.pending.length).toBe(3)
      expect(node.of('a').length).toBeGreaterThanOrEqual(2)
      node.run(100)
    }
    expect(node.of('a').map(({ id }) => id)).toEqual(['i4', 'i5', 'i6'])
  })

  test('replaces what requests want, and lets go at once of what only rests', () => {
    const node = new Timeline()
    node.head(specOf('a'), specOf('b'))
    node.requests('a', 5)
    node.visit('b')
    node.head(specOf('a', {}, { memoryMib: 64 }), specOf('b', {}, { memoryMib: 64 }))
    node.run(500)
    expect(node.of('a').map(({ id }) => id)).toEqual(['i3'])
    expect(node.of('b')).toEqual([])
    node.run(30_000)
    expect(node.actions('start')).toHaveLength(3)
  })

  test('is the one thing that outdates an instance: one that starts with another limit than planned is not replaced', () => {
    const node = new Timeline()
    node.startMs = Infinity
    node.head(specOf('a', { min: 1 }))
    node.answerStart(node.pending.shift()!, 300)
    node.requests('a', 1)
    node.run(3_000)
    expect(node.actions('start')).toHaveLength(1)
    expect(node.actions('retire')).toEqual([])
    node.head(specOf('a', { min: 1 }, { memoryMib: 64 }))
    node.answerStart(node.pending.shift()!, 64)
    node.run(3_000)
    expect(node.actions('retire').map(({ id }) => id)).toEqual(['i1'])
  })

  test('during a start outdates what starts, unless it starts with the new one', () => {
    for (const [limitMib, retired] of [
      [128, 1],
      [64, 0],
    ] as const) {
      const node = new Timeline()
      node.startMs = Infinity
      node.head(specOf('a', { min: 1 }))
      node.head(specOf('a', { min: 1 }, { memoryMib: 64 }))
      node.answerStart(node.pending.shift()!, limitMib)
      node.startMs = 0
      node.run(3_000)
      expect(node.actions('retire')).toHaveLength(retired)
    }
  })

  test('what was started with the limit of the head is right, also where it was found', () => {
    const node = new Timeline()
    node.head(specOf('a', { min: 2 }))
    node.find('b', 128)
    node.head(specOf('a', { min: 2 }), specOf('b', { min: 1 }))
    expect(node.actions('retire')).toEqual([])
    node.find('c', 32)
    node.head(specOf('a', { min: 2 }), specOf('b', { min: 1 }), specOf('c', { min: 1 }))
    expect(node.actions('retire').map(({ id }) => id)).toEqual(['i4'])
    expect(node.of('c')).toHaveLength(1)
  })
})
