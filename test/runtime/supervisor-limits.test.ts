/** Limits in force: whose they are, and that they follow a change without a deploy. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { fakeInstance, Supervised } from '../harness/supervised.ts'

let node: Supervised

beforeEach(() => {
  vi.useFakeTimers()
  node = new Supervised()
})
afterEach(async () => {
  await node.close()
  vi.useRealTimers()
})

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms)

async function startedWith(name: string): Promise<unknown> {
  node.need(name, 1)
  await pass(10)
  return node.alive(name)[0]?.startedWith
}

describe('an instance starts with', () => {
  test('the default limits where nobody says anything', async () => {
    await node.supervisor.start()
    node.apply({}, 'a')
    expect(await startedWith('a')).toEqual({ memoryMib: 128, cpuMs: 10_000 })
  })

  test('the limits of the fleet, over them those of the version, over them those of the function', async () => {
    await node.supervisor.start()
    node.asked = { 'v-b': { memoryMib: 200 } }
    const settings = { limits: { memoryMib: 64, cpuMs: 500 } }
    node.apply({ settings }, 'a', 'b')
    expect(await startedWith('a')).toEqual({ memoryMib: 64, cpuMs: 500 })
    expect(await startedWith('b')).toEqual({ memoryMib: 200, cpuMs: 500 })
    node.apply({ settings, limits: { memoryMib: 300 } }, 'a', 'b', 'c')
    expect(await startedWith('c')).toEqual({ memoryMib: 300, cpuMs: 500 })
  })

  test('never more than the ceiling', async () => {
    await node.supervisor.start()
    node.asked = { 'v-a': { memoryMib: 4_000, cpuMs: 9_000 } }
    node.apply({ settings: { ceiling: { memoryMib: 256, cpuMs: 1_000 } } }, 'a')
    expect(await startedWith('a')).toEqual({ memoryMib: 256, cpuMs: 1_000 })
  })

  test('what its version asks for, also in the trial before its first deploy', async () => {
    node.asked = { 'v-a': { memoryMib: 48 } }
    await node.supervisor.start()
    await node.supervisor.trialStart(node.version('a'))
    expect(node.alive('a')[0]?.startedWith).toEqual({ memoryMib: 48, cpuMs: 10_000 })
  })
})

describe('a version whose own limits were not known when its start was planned', () => {
  async function serve(functionName: string, versionId: string): Promise<void> {
    for (let passedMs = 0; passedMs < 3_000; passedMs += 100) {
      node.supervisor.onLoad(
        node
          .alive(functionName)
          .map(({ id }) => ({ id, inFlight: 1, progress: 1, started: 1, paused: false })),
        [{ functionName, versionId, inFlight: 1, queued: 0, requests: 1, concurrency: 1 }],
      )
      await pass(100)
    }
  }

  test('is started once, with them, where a preview is asked for', async () => {
    await node.supervisor.start()
    node.asked = { 'p-a': { memoryMib: 300 } }
    node.apply({}, 'a')
    node.need('a', 1, 'p-a')
    await pass(10)
    await serve('a', 'p-a')
    // Of another deploy, say: nothing has changed for this one.
    node.apply({}, 'a')
    await serve('a', 'p-a')
    expect(node.started.map(({ startedWith }) => startedWith.memoryMib)).toEqual([300])
    expect(node.toldOf('instance-drain')).toEqual([])
  })

  test('is started once where a request comes before all documents are read', async () => {
    await node.supervisor.start()
    const names = Array.from({ length: 20 }, (_, index) => `f${index}`)
    node.asked = { 'v-f19': { memoryMib: 300 } }
    node.apply({}, ...names)
    node.need('f19', 1)
    await pass(10)
    await serve('f19', 'v-f19')
    expect(node.started.map(({ startedWith }) => startedWith.memoryMib)).toEqual([300])
    expect(node.toldOf('instance-drain')).toEqual([])
  })

  test('does no harm to what was taken over, of which no head has spoken yet', async () => {
    node.asked = { 'v-b': { memoryMib: 300 } }
    node.adopted = [
      fakeInstance(node.version('a'), 'old-a'),
      fakeInstance(node.version('b'), 'old-b', { memoryMib: 300 }),
    ]
    await node.supervisor.start()
    await pass(1_000)
    node.apply({ min: 1 }, 'a', 'b')
    await pass(1_000)
    expect(node.started).toEqual([])
    expect(node.toldOf('instance-drain')).toEqual([])
  })
})

describe('the CPU limit', () => {
  const burn = (cpuMs: number): void => {
    const [instance] = node.alive('a')
    instance!.cpuMs = cpuMs
    node.load('a', 1)
  }

  test('ends an instance beyond it, by its name and with its value, before its connections break', async () => {
    await node.supervisor.start()
    node.apply({ limits: { cpuMs: 50 } }, 'a')
    await startedWith('a')
    node.load('a', 1)
    burn(40)
    expect(node.toldOf('instance-gone')).toEqual([])
    burn(500)
    expect(node.toldOf('instance-gone')).toEqual([
      expect.objectContaining({ cause: 'cpu_limit', message: expect.stringContaining('50 ms') }),
    ])
    expect(node.started[0]?.exit).toMatchObject({
      cause: 'cpu_limit',
      message: expect.stringContaining('50 ms'),
    })
  })

  test('that is raised holds for the instances that run', async () => {
    await node.supervisor.start()
    node.apply({ limits: { cpuMs: 50 } }, 'a')
    await startedWith('a')
    node.load('a', 1)
    node.apply({ limits: { cpuMs: 5_000 } }, 'a')
    burn(3_000)
    expect(node.toldOf('instance-gone')).toEqual([])
    burn(8_000)
    expect(node.toldOf('instance-gone')).toEqual([expect.objectContaining({ cause: 'cpu_limit' })])
  })
})
