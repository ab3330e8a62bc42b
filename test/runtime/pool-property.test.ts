import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { PooledInstance } from '../../runtime/pool/pool.ts'
import { freezable, scene } from './pool-scene.ts'

test('whatever happens in whatever order, no slot is lost or made up and nobody is answered twice', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('arrive' as const) }),
    fc.record({ do: fc.constant('release' as const), which: fc.nat(50) }),
    fc.record({ do: fc.constant('leave' as const), which: fc.nat(50) }),
    fc.record({
      do: fc.constantFrom('add' as const, 'drain' as const, 'remove' as const, 'pause' as const),
      which: fc.nat(3),
    }),
    fc.record({ do: fc.constant('expire' as const), which: fc.nat(200) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const waitingPlaces = { taken: 0, max: 5 }
      const frozen = new Set<string>()
      const { pool } = scene(
        { concurrency: 3, queue: 5, queueTimeoutMs: 100 },
        {
          waitingPlaces,
          onPause: ({ id }) => frozen.add(id).has(id),
          onResume: ({ id }) => frozen.delete(id),
        },
      )
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
        else if (each.do === 'add') pool.add(freezable(`i${each.which}`), false)
        else if (each.do === 'pause') {
          const id = `i${each.which}`
          pool.pause(id, pool.instances.find((instance) => instance.id === id)?.started ?? 0)
        } else if (each.do === 'drain') pool.drain(`i${each.which}`)
        else if (each.do === 'remove') {
          pool.remove(`i${each.which}`, { code: 'instance_crashed', message: '' })
          frozen.delete(`i${each.which}`)
        } else {
          nowMs += each.which
          pool.expire(nowMs)
        }
        expect(pool.queued).toBe(waiting)
        expect(pool.queued).toBeLessThanOrEqual(5)
        expect(waitingPlaces.taken).toBe(waiting)
        for (const instance of pool.instances) {
          expect(instance.inFlight).toBe(held.filter((slot) => slot === instance).length)
          expect(instance.inFlight).toBeLessThanOrEqual(3)
          // Nothing runs on what is frozen, and what is frozen is known.
          expect(instance.paused).toBe(frozen.has(instance.id))
          if (instance.paused) expect([instance.inFlight, instance.draining]).toEqual([0, false])
          // Nobody waits beside a free slot.
          if (!instance.draining && instance.inFlight < 3) expect(pool.queued).toBe(0)
        }
      }
    }),
    { numRuns: 500 },
  )
})
