/** Pausing an instance at rest: who decides, who is asked, and what a router's end means for the paused. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { fakeInstance, Supervised } from '../harness/supervised.ts'

let node: Supervised

beforeEach(async () => {
  vi.useFakeTimers()
  node = new Supervised()
  await node.supervisor.start()
})
afterEach(async () => {
  await node.close()
  vi.useRealTimers()
})

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms)

/** An instance that has answered seven requests. */
async function atRest(): Promise<void> {
  node.apply({ pauseMs: 500, idleMs: 30_000 }, 'a')
  node.need('a', 1)
  await pass(10)
  node.load('a', 1, { started: 7 })
  await pass(100)
  node.load('a', 0, { started: 7 })
}

const stateOfFirst = (): string => node.supervisor.stateOf(node.started[0]!)

describe('an instance at rest', () => {
  test('is paused by the router, with the number of requests it had before it was asked for pending work', async () => {
    await atRest()
    await pass(1_500)
    expect(node.toldOf('instance-pause')).toEqual([{ type: 'instance-pause', id: 'i0', started: 7 }])
    expect(stateOfFirst()).toBe('running')
    node.supervisor.onPause({ type: 'instance-paused', id: 'i0' })
    expect(stateOfFirst()).toBe('paused')
    expect(node.supervisor.explain()).toEqual([expect.objectContaining({ paused: 1, running: 0 })])
    node.supervisor.onPause({ type: 'instance-resumed', id: 'i0' })
    expect(stateOfFirst()).toBe('running')
  })

  test('is paused again as soon after each request as the policy says', async () => {
    await atRest()
    for (let round = 1; round <= 5; round++) {
      await pass(1_500)
      expect(node.toldOf('instance-pause')).toHaveLength(round)
      node.supervisor.onPause({ type: 'instance-paused', id: 'i0' })
      node.supervisor.onPause({ type: 'instance-resumed', id: 'i0' })
      node.load('a', 0, { started: 7 + round, progress: 1 + round })
    }
  })

  test('is not paused while waitUntil work is pending, and is once it is done', async () => {
    await atRest()
    node.started[0]!.pending = 1
    await pass(3_000)
    expect(node.toldOf('instance-pause')).toEqual([])
    node.started[0]!.pending = 0
    await pass(3_000)
    expect(node.toldOf('instance-pause')).toHaveLength(1)
  })

  test('is asked for again after the router refused', async () => {
    await atRest()
    await pass(1_500)
    node.supervisor.onPause({ type: 'pause-refused', id: 'i0' })
    await pass(3_000)
    expect(node.toldOf('instance-pause').length).toBeGreaterThan(1)
    expect(stateOfFirst()).toBe('running')
  })

  test('is not paused where nobody is there to resume it', async () => {
    await atRest()
    node.routerIsThere = false
    await pass(3_000)
    node.routerIsThere = true
    expect(stateOfFirst()).toBe('running')
    await pass(5_000)
    expect(node.toldOf('instance-pause').length).toBeGreaterThan(0)
  })

  test('that is paused leaves when it has been idle long enough, without being asked for pending work', async () => {
    await atRest()
    await pass(1_500)
    node.supervisor.onPause({ type: 'instance-paused', id: 'i0' })
    const asked = vi.spyOn(node.started[0]!, 'pendingWork')
    await pass(40_000)
    expect(node.toldOf('instance-drain')).toEqual([{ type: 'instance-drain', id: 'i0' }])
    expect(node.started[0]!.exit?.cause).toBe('stopped')
    expect(asked).not.toHaveBeenCalled()
  })
})

describe('paused instances', () => {
  test('run again with the next router, which thaws whom it does not know', async () => {
    await atRest()
    await pass(1_500)
    node.supervisor.onPause({ type: 'instance-paused', id: 'i0' })
    node.supervisor.onRouterLost()
    expect(stateOfFirst()).toBe('running')
    expect(node.supervisor.addresses()).toEqual([
      expect.objectContaining({ id: 'i0', freezer: expect.anything() }),
    ])
    // And are paused anew, by the count of the new router.
    node.told = []
    node.load('a', 0, { started: 0 })
    await pass(15_000)
    expect(node.toldOf('instance-pause')[0]).toEqual({ type: 'instance-pause', id: 'i0', started: 0 })
  })

  test('of an earlier agent are known as paused from the first report of the router', async () => {
    const next = new Supervised()
    const left = fakeInstance(next.version('a'), 'old')
    next.adopted = [left]
    await next.supervisor.start()
    next.apply({ pauseMs: 500, idleMs: 60_000 }, 'a')
    const load = { id: 'old', inFlight: 0, progress: 9, started: 9, paused: true }
    next.supervisor.onLoad([load], [])
    expect(next.supervisor.stateOf(left)).toBe('paused')
    expect(next.supervisor.explain()).toEqual([expect.objectContaining({ paused: 1, running: 0 })])
    await pass(5_000)
    expect(next.toldOf('instance-pause')).toEqual([])
    await next.close()
  })
})
