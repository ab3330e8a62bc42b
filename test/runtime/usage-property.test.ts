import { setImmediate } from 'node:timers/promises'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { createUsagePlace, routerMetrics, totals, versionMetrics } from '../harness/usage-place.ts'

/** What can happen to a node that serves one function. */
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ type: fc.constant('requests' as const), count: fc.integer({ min: 1, max: 9 }) }),
  },
  { weight: 4, arbitrary: fc.record({ type: fc.constant('tell' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant('flush' as const),
      // What comes while it writes, after so many turns and at a time that is so many hours away.
      during: fc.option(
        fc.record({ turns: fc.integer({ min: 0, max: 5 }), hours: fc.integer({ min: -1, max: 1 }) }),
      ),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('router-killed' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('agent-killed' as const),
      put: fc.integer({ min: 0, max: 4 }),
      isDone: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant('clock' as const), hours: fc.integer({ min: -2, max: 3 }) }),
  },
)

test('whatever is killed when, nothing is counted twice, and nothing is lost but what a dead router had not told', async () => {
  let killsInWrites = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const place = createUsagePlace()
      let meter = await place.start()
      let served = 0
      let epoch = 0
      let ofEpoch = 0
      let told = 0
      let lost = 0
      /** Told by routers that are dead, and in no write that is known to be done. */
      let unwritten = 0
      /** Of the router of now, known to be written. */
      let written = 0
      const tell = (): void => {
        const count = { status: 200, cold: false, count: ofEpoch }
        meter.onRouter(
          routerMetrics(`r${epoch}`, versionMetrics({ functionName: 'shop', requests: [count] })),
        )
        told = ofEpoch
      }
      for (const each of steps) {
        if (each.type === 'requests') {
          served += each.count
          ofEpoch += each.count
        } else if (each.type === 'tell') tell()
        else if (each.type === 'clock') place.nowMs += each.hours * 3_600_000
        else if (each.type === 'flush') {
          const writing = meter.flush()
          unwritten = 0
          written = told
          if (each.during !== null) {
            for (let turn = 0; turn < each.during.turns; turn++) await setImmediate()
            place.nowMs += each.during.hours * 3_600_000
            served++
            ofEpoch++
            tell()
          }
          await writing
        } else if (each.type === 'router-killed') {
          lost += ofEpoch - told
          unwritten += told - written
          epoch++
          ofEpoch = told = written = 0
        } else {
          await place.killInFlush(meter, each)
          killsInWrites++
          lost += unwritten
          unwritten = 0
          meter = await place.start()
          tell()
        }
        const counted = (await totals(meter)).shop?.requests ?? 0
        expect(counted).toBeLessThanOrEqual(served)
        expect(counted).toBeGreaterThanOrEqual(served - lost - (ofEpoch - told))
      }
      await meter.close()
    }),
    { numRuns: 300 },
  )
  expect(killsInWrites).toBeGreaterThan(100)
})
