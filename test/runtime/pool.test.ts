import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parsePolicy } from '../../sdk/model/policy.ts'
import { InstancePool, type PooledInstance, type Refusal, type Waiter } from '../../runtime/pool/pool.ts'

interface Scene {
  readonly pool: InstancePool
  readonly needs: string[]
  readonly drained: string[]
}

function scene(policy: Parameters<typeof parsePolicy>[0]): Scene {
  const needs: string[] = []
  const drained: string[] = []
  const pool = new InstancePool({
    functionName: 'hello',
    versionId: 'v1',
    policy: parsePolicy(policy),
    onNeed: ({ versionId }) => needs.push(versionId),
    onDrained: ({ id }) => drained.push(id),
  })
  return { pool, needs, drained }
}

const address = (id: string): Parameters<InstancePool['add']>[0] => ({
  id,
  functionName: 'hello',
  versionId: 'v1',
  socketPath: `/run/${id}`,
})

/** A waiter that remembers its one outcome and fails at a second. */
function waiter(): Waiter & { outcome: PooledInstance | Refusal | undefined } {
  const settle = (outcome: PooledInstance | Refusal): void => {
    expect(self.outcome).toBeUndefined()
    self.outcome = outcome
  }
  const self: Waiter & { outcome: PooledInstance | Refusal | undefined } = {
    outcome: undefined,
    onSlot: settle,
    onRefusal: settle,
    onClosed: () => expect.unreachable(),
  }
  return self
}

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
  pool.wait(waiter(), 0)
  const outcome = pool.wait(waiter(), 0)
  expect(outcome).toMatchObject({
    refusal: { code: 'queue_full', message: expect.stringContaining('queue 1') },
  })
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

test('whatever happens in whatever order, no slot is lost or made up and nobody is answered twice', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('arrive' as const) }),
    fc.record({ do: fc.constant('release' as const), which: fc.nat(50) }),
    fc.record({ do: fc.constant('leave' as const), which: fc.nat(50) }),
    fc.record({ do: fc.constantFrom('add' as const, 'drain' as const, 'remove' as const), which: fc.nat(3) }),
    fc.record({ do: fc.constant('expire' as const), which: fc.nat(200) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const { pool } = scene({ concurrency: 3, queue: 5, queueTimeoutMs: 100 })
      const held: PooledInstance[] = []
      const places: { leave(): void }[] = []
      let waiting = 0
      let nowMs = 0
      for (const each of steps) {
        if (each.do === 'arrive') {
          const slot = pool.take()
          if (slot !== undefined) held.push(slot)
          else {
            let settled = false
            const once = (): void => {
              expect(settled).toBe(false)
              settled = true
              waiting--
            }
            const outcome = pool.wait(
              {
                onSlot: (instance) => {
                  once()
                  held.push(instance)
                },
                onRefusal: once,
                onClosed: once,
              },
              nowMs,
            )
            if ('leave' in outcome) {
              waiting++
              places.push({
                leave: () => {
                  if (settled) return
                  once()
                  outcome.leave()
                },
              })
            }
          }
        } else if (each.do === 'release') {
          const [slot] = held.splice(each.which % Math.max(1, held.length), 1)
          if (slot !== undefined) pool.release(slot)
        } else if (each.do === 'leave') places[each.which % Math.max(1, places.length)]?.leave()
        else if (each.do === 'add') pool.add(address(`i${each.which}`), false)
        else if (each.do === 'drain') pool.drain(`i${each.which}`)
        else if (each.do === 'remove')
          pool.remove(`i${each.which}`, { code: 'instance_crashed', message: '' })
        else {
          nowMs += each.which
          pool.expire(nowMs)
        }
        expect(pool.queued).toBe(waiting)
        expect(pool.queued).toBeLessThanOrEqual(5)
        for (const instance of pool.instances) {
          expect(instance.inFlight).toBe(held.filter((slot) => slot === instance).length)
          expect(instance.inFlight).toBeLessThanOrEqual(3)
          // Nobody waits beside a free slot.
          if (!instance.draining && instance.inFlight < 3) expect(pool.queued).toBe(0)
        }
      }
    }),
    { numRuns: 500 },
  )
})
