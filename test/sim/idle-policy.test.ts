import { describe, expect, test } from 'vitest'
import type { NodeEvent } from '../../runtime/pool/node-events.ts'
import { Planner } from '../../runtime/pool/planner.ts'
import { DEFAULT_POLICY } from '../../sdk/model/policy.ts'
import { makeFunctionArrivals, PATTERNS, type IdleRequest } from './idle-arrivals.ts'
import { AutoIdle, FixedIdle, runIdlePolicy, type IdleOutcome } from './idle-policy.ts'
import { Random } from './random.ts'

const HOUR_MS = 3_600_000
const TICK_MS = 1_000

/** The same requests on the planner itself, event by event and tick by tick. */
function runPlanner(requests: Iterable<IdleRequest>, untilMs: number, idleMs: number | 'auto'): IdleOutcome {
  const planner = new Planner({ budget: { memoryMib: 1_000, cpus: 4 }, startsAtOnceMax: 4 })
  const ids = { functionName: 'f', versionId: 'v1' }
  const upSinceMs = new Map<string, number>()
  let [count, cold, warmMs, nowMs, inFlight] = [0, 0, 0, 0, 0]
  const send = (event: NodeEvent): void => {
    for (const action of planner.on(event, nowMs)) {
      if (action.type === 'start') {
        const instanceId = `i${action.startId}`
        upSinceMs.set(instanceId, nowMs)
        send({ type: 'started', startId: action.startId, instanceId })
      } else if (action.type === 'retire') {
        warmMs += nowMs - upSinceMs.get(action.id)!
        upSinceMs.delete(action.id)
        send({ type: 'ended', id: action.id, cause: 'stopped', message: '', answered: count })
      }
    }
  }
  const report = (): void => {
    const instances = [...upSinceMs.keys()]
      .slice(0, 1)
      .map((id) => ({ id, inFlight, progress: count, started: count, paused: false }))
    const version = { ...ids, inFlight, queued: 0, requests: count, concurrency: inFlight }
    send({ type: 'load', instances, versions: [version] })
  }
  const policy = { ...DEFAULT_POLICY, idleMs }
  send({ type: 'head', versions: [{ ...ids, percent: 100, policy, memoryMib: 64, reserveMib: 12 }] })
  const endsMs: number[] = []
  const advance = (toMs: number): void => {
    for (;;) {
      endsMs.sort((a, b) => a - b)
      const tickMs = (Math.floor(nowMs / TICK_MS) + 1) * TICK_MS
      const nextMs = Math.min(endsMs[0] ?? Number.POSITIVE_INFINITY, tickMs)
      if (nextMs > toMs) break
      nowMs = nextMs
      if (endsMs[0] === nowMs) {
        endsMs.shift()
        inFlight--
        report()
      } else send({ type: 'tick' })
    }
    nowMs = toMs
  }
  for (const { atMs, durationMs } of requests) {
    advance(atMs)
    count++
    inFlight++
    if (upSinceMs.size === 0) {
      cold++
      send({ type: 'need', ...ids, queued: 1 })
    }
    report()
    endsMs.push(atMs + durationMs)
  }
  advance(untilMs)
  for (const sinceMs of upSinceMs.values()) warmMs += untilMs - sinceMs
  return { requests: count, cold, warmMs }
}

describe('one step per request', () => {
  const random = new Random(7)
  for (const pattern of PATTERNS) {
    test(`comes to what the planner does, tick by tick: ${pattern}`, () => {
      let compared = 0
      while (compared < 5) {
        const source = makeFunctionArrivals(random)
        const requests = [...source.requests(24 * HOUR_MS)]
        // Frequent ones are always warm, and slow to run.
        if (source.pattern !== pattern || requests.length < 10 || requests.length > 2_000) continue
        compared++
        const planned = runPlanner(requests, 24 * HOUR_MS, 'auto')
        const fast = runIdlePolicy(new AutoIdle(), requests, 24 * HOUR_MS)
        expect(planned.requests).toBe(fast.requests)
        // A request may come in the second between two ticks.
        expect(Math.abs(planned.cold - fast.cold)).toBeLessThanOrEqual(1 + requests.length / 100)
        expect(Math.abs(planned.warmMs - fast.warmMs)).toBeLessThanOrEqual(
          fast.warmMs / 50 + 2 * TICK_MS * fast.requests,
        )
      }
    })
  }
  test('with a fixed time it comes to what the planner does, too', () => {
    const requests = Array.from({ length: 20 }, (_, index) => ({
      atMs: index * index * 10_000,
      durationMs: 500,
    }))
    const fast = runIdlePolicy(new FixedIdle(60_000), requests, HOUR_MS)
    const planned = runPlanner(requests, HOUR_MS, 60_000)
    // Gaps of 10 s, 30 s, 50 s and then of over a minute.
    expect(fast.cold).toBe(17)
    expect(planned.cold).toBe(fast.cold)
    expect(Math.abs(planned.warmMs - fast.warmMs)).toBeLessThanOrEqual(2 * TICK_MS * fast.cold)
  })
})
