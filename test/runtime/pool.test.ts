import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from 'vitest'
import type { PooledInstance, Waiter } from '../../runtime/pool/pool.ts'
import { address, freezable, scene, waiter } from './pool-scene.ts'

test('an empty pool has no slot, queues the request, and says once that it needs an instance', () => {
  const { pool, needs } = scene({})
  expect(pool.take()).toBeUndefined()
  const first = waiter()
  pool.wait(first, 0)
  pool.wait(waiter(), 0)
  expect(needs).toEqual(['v1'])
  pool.add(address('a'), true)
  expect(first.outcome).toMatchObject({ id: 'a', inFlight: 2, cold: true })
  expect(pool.queued).toBe(0)
})

test('the least busy instance with room gets the next request', () => {
  const { pool } = scene({ concurrency: 2 })
  pool.add(address('a'), false)
  pool.add(address('b'), false)
  expect([pool.take(), pool.take(), pool.take(), pool.take()].map((slot) => slot?.id)).toEqual([
    'a',
    'b',
    'a',
    'b',
  ])
  expect(pool.take()).toBeUndefined()
})

test('those who wait come before those who arrive', () => {
  const { pool } = scene({ concurrency: 1 })
  pool.add(address('a'), false)
  const slot = pool.take()
  const waiting = waiter()
  pool.take()
  pool.wait(waiting, 0)
  expect(pool.take()).toBeUndefined()
  pool.release(slot as PooledInstance)
  expect(waiting.outcome).toMatchObject({ id: 'a' })
})

test('a full queue refuses by name with its size', () => {
  const { pool } = scene({ queue: 1 })
  pool.add(address('a'), false)
  pool.wait(waiter(), 0)
  const outcome = pool.wait(waiter(), 0)
  expect(outcome).toMatchObject({
    refusal: { code: 'queue_full', message: expect.stringContaining('queue 1') },
  })
})

test('without an instance as many may wait as one with its queue lets in: at a queue of 0, those it will take', () => {
  for (const [queue, concurrency] of [
    [0, 1],
    [0, 3],
    [2, 3],
  ] as const) {
    const { pool, needs } = scene({ queue, concurrency })
    const outcomes = Array.from({ length: queue + concurrency + 1 }, () => pool.wait(waiter(), 0))
    expect(outcomes.map((outcome) => 'refusal' in outcome)).toEqual([
      ...Array<boolean>(queue + concurrency).fill(false),
      true,
    ])
    expect(needs).toEqual(['v1'])
  }
})

test('a queue timeout that is lowered holds for those who wait already: nobody waits behind a longer one', () => {
  const { pool } = scene({ queueTimeoutMs: 10_000 })
  const [before, after] = [waiter(), waiter()]
  pool.wait(before, 0)
  pool.policy = { ...pool.policy, queueTimeoutMs: 100 }
  pool.wait(after, 50)
  pool.expire(100)
  expect(before.outcome).toMatchObject({ code: 'queue_timeout' })
  expect(after.outcome).toBeUndefined()
  pool.expire(150)
  expect(after.outcome).toMatchObject({ code: 'queue_timeout' })
})

test('a wait that is over is refused, a shorter one goes on', () => {
  const { pool, needs } = scene({ queueTimeoutMs: 100 })
  const early = waiter()
  const late = waiter()
  pool.wait(early, 0)
  pool.wait(late, 50)
  pool.expire(100)
  expect(early.outcome).toMatchObject({ code: 'queue_timeout' })
  expect(late.outcome).toBeUndefined()
  expect(needs).toHaveLength(2)
})

test('one who left the queue gets nothing and makes room for another', () => {
  const { pool } = scene({ queue: 1 })
  const gone = waiter()
  const place = pool.wait(gone, 0)
  if ('leave' in place) {
    place.leave()
    place.leave()
  }
  const next = waiter()
  expect(pool.wait(next, 0)).toHaveProperty('leave')
  pool.add(address('a'), true)
  expect(gone.outcome).toBeUndefined()
  expect(next.outcome).toMatchObject({ id: 'a' })
})

test('one who left the queue is forgotten at once, whoever waits before', async () => {
  const { pool } = scene({ queue: 2 })
  pool.wait(waiter(), 0)
  const leave = (): WeakRef<Waiter> => {
    const gone = waiter()
    const place = pool.wait(gone, 0)
    if ('leave' in place) place.leave()
    return new WeakRef(gone)
  }
  const gone = leave()
  pool.wait(waiter(), 0)
  setFlagsFromString('--expose-gc')
  // A weak reference holds on until the current turn has ended.
  await new Promise((resolve) => setImmediate(resolve))
  runInNewContext('gc')()
  expect(gone.deref()).toBeUndefined()
  expect(pool.queued).toBe(2)
})

test('a start that failed refuses all who wait, and all who come until it may be tried again', () => {
  const { pool } = scene({})
  const waiting = waiter()
  pool.wait(waiting, 0)
  pool.refuse({ code: 'start_failed', message: 'SyntaxError' }, 2_000)
  expect(waiting.outcome).toMatchObject({ code: 'start_failed' })
  expect(pool.wait(waiter(), 500)).toMatchObject({ refusal: { code: 'start_failed', retryAfterS: 2 } })
  expect(pool.wait(waiter(), 2_000)).toHaveProperty('leave')
})

test('a start that failed refuses nobody while another instance serves', () => {
  const { pool } = scene({ concurrency: 1 })
  pool.add(address('a'), false)
  pool.take()
  const waiting = waiter()
  pool.wait(waiting, 0)
  pool.refuse({ code: 'start_failed', message: 'flaky' }, 2_000)
  expect(waiting.outcome).toBeUndefined()
})

test('a draining instance takes nothing new and says when its last request is done', () => {
  const { pool, drained } = scene({})
  pool.add(address('a'), false)
  const slot = pool.take() as PooledInstance
  pool.drain('a')
  expect(pool.take()).toBeUndefined()
  expect(drained).toEqual([])
  pool.release(slot)
  expect(drained).toEqual(['a'])
})

test('an instance that ended tells its requests why; their slots are still released', () => {
  const { pool } = scene({})
  pool.add(address('a'), false)
  const slot = pool.take() as PooledInstance
  const heard: string[] = []
  slot.goneListeners.add(() => heard.push(slot.gone?.code ?? ''))
  pool.remove('a', { code: 'cpu_limit_exceeded', message: 'limit' })
  expect(heard).toEqual(['cpu_limit_exceeded'])
  expect(pool.instances).toEqual([])
  pool.release(slot)
  expect(() => pool.release(slot)).toThrow('released twice')
})

describe('a paused instance', () => {
  test('is one that rested since the caller looked; a second word changes nothing', () => {
    const paused: string[] = []
    const { pool } = scene({}, { onPause: ({ id }) => paused.push(id) > 0 })
    pool.add(freezable('a'), false)
    pool.release(pool.take() as PooledInstance)
    expect(pool.pause('a', 0)).toBe(false)
    expect(pool.pause('unknown', 0)).toBe(false)
    expect(pool.pause('a', 1)).toBe(true)
    expect(pool.pause('a', 1)).toBe(true)
    expect(paused).toEqual(['a'])
    expect(pool.instances[0]).toMatchObject({ paused: true, started: 1 })
  })

  test('is none that works, drains, or has no freezer, nor one that could not be frozen', () => {
    const { pool } = scene({ concurrency: 1 }, { onPause: ({ id }) => id !== 'stubborn' })
    pool.add(freezable('busy'), false)
    pool.take()
    pool.add(freezable('draining'), false)
    pool.drain('draining')
    pool.add(address('plain'), false)
    pool.add(freezable('stubborn'), false)
    for (const [id, started] of [
      ['busy', 1],
      ['draining', 0],
      ['plain', 0],
      ['stubborn', 0],
    ] as const)
      expect(pool.pause(id, started), id).toBe(false)
    expect(pool.instances.map(({ paused }) => paused)).toEqual([false, false, false, false])
  })

  test('gets a request only when no running one has room, and is resumed before', () => {
    const resumed: string[] = []
    const { pool } = scene({ concurrency: 1 }, { onResume: ({ id }) => resumed.push(id) > 0 })
    pool.add(freezable('a'), false)
    pool.add(freezable('b'), false)
    pool.pause('a', 0)
    expect(pool.take()?.id).toBe('b')
    expect(resumed).toEqual([])
    expect(pool.take()).toMatchObject({ id: 'a', paused: false, inFlight: 1, started: 1 })
    expect(resumed).toEqual(['a'])
    expect(pool.take()).toBeUndefined()
  })

  test('that cannot be resumed is left out, and the next one is tried, or the request waits', () => {
    const { pool, drained, needs } = scene({}, { onResume: ({ id }) => id === 'good' })
    for (const id of ['good', 'bad']) {
      pool.add(freezable(id), false)
      pool.pause(id, 0)
    }
    expect(pool.take()?.id).toBe('good')
    expect(drained).toEqual(['bad'])
    const other = scene({}, { onResume: () => false })
    other.pool.add(freezable('bad'), false)
    other.pool.pause('bad', 0)
    expect(other.pool.take()).toBeUndefined()
    other.pool.wait(waiter(), 0)
    expect([needs, other.needs]).toEqual([[], ['v1']])
  })

  test('that is to end is thawed, and has drained at once', () => {
    const thawed: string[] = []
    const { pool, drained } = scene(
      {},
      { onResume: ({ id, draining }) => thawed.push(`${id} ${draining ? 'for its end' : ''}`) > 0 },
    )
    pool.add(freezable('a'), false)
    pool.pause('a', 0)
    pool.drain('a')
    expect([thawed, drained]).toEqual([['a for its end'], ['a']])
    expect(pool.instances[0]?.paused).toBe(false)
  })

  test('stays so when it is announced again', () => {
    const { pool } = scene({})
    pool.add(freezable('a'), false)
    pool.pause('a', 0)
    pool.add(freezable('a'), false)
    expect(pool.instances[0]?.paused).toBe(true)
  })

  test('serves who waits when the one that ran has ended', () => {
    const { pool } = scene({ concurrency: 1 })
    pool.add(freezable('a'), false)
    pool.pause('a', 0)
    pool.add(freezable('b'), false)
    const slots = [pool.take(), pool.take()]
    expect(slots.map((slot) => slot?.id)).toEqual(['b', 'a'])
  })
})

test('all queues of a node together have a bound, and who leaves one makes room in another', () => {
  const waitingPlaces = { taken: 0, max: 2 }
  const { pool: one } = scene({}, { waitingPlaces })
  const { pool: two } = scene({}, { waitingPlaces })
  const first = one.wait(waiter(), 0)
  one.wait(waiter(), 0)
  expect(two.wait(waiter(), 0)).toMatchObject({
    refusal: { code: 'node_full', message: expect.stringContaining('2 requests') },
  })
  if ('leave' in first) first.leave()
  expect(two.wait(waiter(), 0)).toHaveProperty('leave')
  expect(waitingPlaces.taken).toBe(2)
  one.refuseWaiting({ code: 'draining', message: '' })
  two.add(address('a'), false)
  expect(waitingPlaces.taken).toBe(0)
})

test('while the node has no place for an instance, the deadline says so and why; one that comes ends that', () => {
  const { pool } = scene({ queueTimeoutMs: 100, concurrency: 1 })
  const early = waiter()
  pool.wait(early, 0)
  pool.delay('512 of 512 MiB are in use', 3_000)
  expect(early.outcome).toBeUndefined()
  pool.expire(100)
  expect(early.outcome).toMatchObject({
    code: 'node_full',
    message: expect.stringMatching(/"hello".*100 ms.*512 of 512 MiB/),
  })
  pool.add(address('a'), false)
  pool.take()
  const late = waiter()
  pool.wait(late, 100)
  pool.expire(200)
  expect(late.outcome).toMatchObject({ code: 'queue_timeout' })
})

test('that the node has no place is believed until it has not been said for a while', () => {
  const { pool } = scene({ queueTimeoutMs: 100, concurrency: 1 })
  const codes = [
    [900, 'node_full'],
    [2_900, 'queue_timeout'],
    [86_400_000, 'queue_timeout'],
  ] as const
  pool.delay('512 of 512 MiB are in use', 3_000)
  for (const [arrivedMs, code] of codes) {
    const waiting = waiter()
    pool.wait(waiting, arrivedMs)
    pool.expire(arrivedMs + 100)
    expect(waiting.outcome).toMatchObject({ code })
  }
})
