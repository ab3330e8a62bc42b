/** The supervisor and its planner on a driver that starts nothing. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { IsolaError } from '../../sdk/model/errors.ts'
import { fakeInstance, Supervised } from '../harness/supervised.ts'

let node: Supervised

beforeEach(() => {
  // A Friday, ten seconds before eight.
  vi.useFakeTimers({ now: Date.parse('2026-11-20T07:59:50Z') })
  node = new Supervised()
})
afterEach(async () => {
  await node.close()
  vi.useRealTimers()
})

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms)

describe('the supervisor', () => {
  test('forgets the demand that a router knew when the router dies', async () => {
    await node.supervisor.start()
    node.apply({ concurrency: 10, max: 3, idleMs: 1_000 }, 'a')
    node.need('a', 1)
    await pass(10)
    node.load('a', 20)
    await pass(10)
    expect(node.started).toHaveLength(3)
    node.supervisor.onRouterLost()
    await pass(20_000)
    expect(node.supervisor.instances).toEqual([])
    expect(node.started).toHaveLength(3)
  })

  test('starts nothing for a deleted function, whose last requests are still under way', async () => {
    await node.supervisor.start()
    node.apply({}, 'a')
    node.need('a', 1)
    await pass(10)
    node.load('a', 1)
    node.apply({})
    node.need('a', 1)
    await pass(20_000)
    expect(node.started).toHaveLength(1)
    expect(node.supervisor.instances).toEqual([])
  })

  test('does a start that had to wait for others as soon as one of them is done, without being asked again', async () => {
    await node.supervisor.start()
    const names = Array.from({ length: 40 }, (_, index) => `f${index}`)
    node.apply({}, ...names)
    const gates: (() => void)[] = (node.gates = [])
    for (const name of names) node.need(name, 1)
    await pass(0)
    expect(gates.length).toBeGreaterThan(0)
    expect(gates.length).toBeLessThan(40)
    // No time passes: only the end of one start begins the next.
    for (let round = 0; round < 40; round++) {
      gates.shift()?.()
      await pass(0)
    }
    expect(new Set(node.started.map(({ functionName }) => functionName))).toEqual(new Set(names))
  })

  test('holds a version back that crashes without an answer, and the next version not', async () => {
    await node.supervisor.start()
    node.apply({}, 'a', 'b')
    for (let round = 0; round < 5; round++) {
      node.need('a', 1)
      await pass(1)
      node.started.at(-1)!.end({ cause: 'crashed', message: 'exit code 1' })
      await pass(1)
    }
    node.told = []
    node.need('a', 1)
    expect(node.told).toEqual([
      expect.objectContaining({
        type: 'start-refused',
        code: 'crash_loop',
        versionId: 'v-a',
        message: expect.stringContaining('exit code 1'),
      }),
    ])
    node.need('b', 1)
    await pass(1)
    expect(node.started.at(-1)!.functionName).toBe('b')
    // The time is over: once more.
    await pass(1_000)
    const before = node.started.length
    node.need('a', 1)
    await pass(1)
    expect(node.started).toHaveLength(before + 1)
  })

  test('refuses a version that does not start, with its message, and says so in its own log', async () => {
    await node.supervisor.start()
    node.apply({}, 'a')
    node.startError = new IsolaError('start_failed', 'SyntaxError: a line')
    node.need('a', 1)
    await pass(1)
    expect(node.toldOf('start-refused')).toEqual([
      expect.objectContaining({
        code: 'start_failed',
        message: expect.stringContaining('SyntaxError: a line'),
      }),
    ])
    expect(node.events).toEqual([expect.stringContaining('SyntaxError: a line')])
  })

  test('keeps what a function said last from visitors, who are told how it ended', async () => {
    await node.supervisor.start()
    node.apply({}, 'a')
    node.startError = new IsolaError('start_failed', 'exit code 1: password is 12345', {
      details: { forVisitors: 'exit code 1' },
    })
    node.need('a', 1)
    await pass(1)
    expect(node.toldOf('start-refused')[0]?.message).toBe('function "a" did not start: exit code 1')
    expect(node.events.join()).toContain('password is 12345')
  })

  test.each([
    ['internal', new IsolaError('internal', 'the egress proxy did not open a socket')],
    ['storage_full', new IsolaError('storage_full', 'no space left')],
    ['no code', new Error('connect ECONNREFUSED')],
  ])(
    'lets requests wait where a start fails with %s, which is not the fault of the version',
    async (_, error) => {
      await node.supervisor.start()
      node.apply({}, 'a')
      node.startError = error
      for (let second = 0; second < 5; second++) {
        node.need('a', 1)
        await pass(1_100)
      }
      expect(node.toldOf('start-refused')).toEqual([])
      expect(node.toldOf('start-delayed').length).toBeGreaterThan(2)
      node.startError = undefined
      node.need('a', 1)
      await pass(1_100)
      expect(node.alive('a')).toHaveLength(1)
    },
  )

  test('refuses at once what no workerd would load', async () => {
    await node.supervisor.start()
    node.apply({}, 'a')
    node.startError = new IsolaError('version_refused', 'module "x" has no body')
    node.need('a', 1)
    await pass(1)
    expect(node.toldOf('start-refused')).toEqual([expect.objectContaining({ code: 'start_failed' })])
  })

  test('lets requests wait where the machine has no place, and tells the router why', async () => {
    await node.supervisor.start()
    node.apply({}, 'a')
    node.startError = new IsolaError('node_full', 'no process left')
    node.need('a', 1)
    await pass(200)
    expect(node.toldOf('start-delayed')).toEqual([expect.objectContaining({ versionId: 'v-a' })])
    node.startError = undefined
    node.need('a', 1)
    await pass(5_000)
    expect(node.alive('a')).toHaveLength(1)
  })

  test('takes over instances of an agent before and names them to the router, with their freezers', async () => {
    node.adopted = [fakeInstance(node.version('a'), 'old')]
    expect(await node.supervisor.start()).toBe(1)
    node.apply({ min: 1 }, 'a')
    await pass(1_000)
    expect(node.started).toEqual([])
    expect(node.supervisor.addresses()).toEqual([
      {
        id: 'old',
        functionName: 'a',
        versionId: 'v-a',
        socketPath: '',
        freezer: { file: '/freezer/old', frozen: 'FROZEN', thawed: 'THAWED' },
      },
    ])
  })

  test('counts what it took over before it starts anything, also of a function that was deleted meanwhile', async () => {
    const full = new Supervised({ memoryMib: 100, cpus: 3 })
    const old = fakeInstance(full.version('gone'), 'old')
    old.memoryBytes = 90 * 1024 * 1024
    old.pending = 1
    full.adopted = [old]
    await full.supervisor.start()
    full.apply({ min: 1 }, 'a')
    await pass(500)
    expect(full.started).toEqual([])
    old.pending = 0
    await pass(1_000)
    expect(old.exit).toBeDefined()
    expect(full.started).toHaveLength(1)
    await full.close()
  })

  test('asks for blanks, and gives a function of more weight more of the processor', async () => {
    await node.supervisor.start()
    node.apply({ min: 1, weight: 1 }, 'a')
    await pass(1_100)
    expect(node.blanks).toBeGreaterThan(0)
    const [instance] = node.alive('a')
    const before = instance!.weight
    node.apply({ min: 1, weight: 5 }, 'a')
    await pass(1_100)
    expect(instance!.weight).toBeGreaterThan(before)
  })

  test('says why there are as many instances as there are', async () => {
    await node.supervisor.start()
    node.apply({ min: 2 }, 'a')
    await pass(100)
    expect(node.supervisor.explain()).toEqual([
      expect.objectContaining({ functionName: 'a', versionId: 'v-a', desired: 2, running: 2, paused: 0 }),
    ])
    expect(node.supervisor.explain()[0]!.reason).toMatch(/min/)
  })
})

describe('a trial start', () => {
  test('is made once for a version, is not asked for by anybody, and serves the first requests', async () => {
    await node.supervisor.start()
    await node.supervisor.trialStart(node.version('a'))
    await node.supervisor.trialStart(node.version('a'))
    node.apply({}, 'a')
    node.need('a', 1)
    await pass(500)
    expect(node.started).toHaveLength(1)
    expect(node.toldOf('instance-up')).toEqual([expect.objectContaining({ cold: false })])
  })

  test('waits its turn where many versions are deployed at once', async () => {
    await node.supervisor.start()
    const gates: (() => void)[] = (node.gates = [])
    const names = Array.from({ length: 40 }, (_, index) => `f${index}`)
    const all = Promise.all(names.map((name) => node.supervisor.trialStart(node.version(name))))
    await pass(0)
    expect(gates.length).toBeGreaterThan(0)
    expect(gates.length).toBeLessThan(40)
    for (let round = 0; round < 40; round++) {
      gates.shift()!()
      await pass(0)
    }
    await all
    expect(node.started).toHaveLength(40)
  })

  test('that fails throws what the driver said, and leaves its turn to the next', async () => {
    await node.supervisor.start()
    node.startError = new IsolaError('start_failed', 'no fetch handler')
    for (let round = 0; round < 40; round++) {
      await expect(node.supervisor.trialStart(node.version('a'))).rejects.toThrow('no fetch handler')
    }
    node.startError = undefined
    await node.supervisor.trialStart(node.version('a'))
    expect(node.started).toHaveLength(1)
  })
})

describe('minimums', () => {
  test('of a schedule hold from its time on, and end with it', async () => {
    await node.supervisor.start()
    const prewarm = [{ schedule: '0 8 * * fri', min: 3, forMs: 60_000 }]
    node.apply({ prewarm, idleMs: 1_000 }, 'a')
    await pass(5_000)
    expect(node.started).toEqual([])
    await pass(10_000)
    expect(node.alive('a')).toHaveLength(3)
    await pass(40_000)
    expect(node.alive('a')).toHaveLength(3)
    await pass(20_000)
    expect(node.alive('a')).toEqual([])
  })

  test('of a schedule that cannot be read are left out, said once, and hurt no other function', async () => {
    await node.supervisor.start()
    node.apply({ min: 1, prewarm: [{ schedule: 'at noon', min: 3, forMs: 60_000 }] }, 'a')
    await pass(30_000)
    expect(node.alive('a')).toHaveLength(1)
    expect(node.events.filter((line) => line.includes('"at noon"'))).toHaveLength(1)
  })

  test('of the fleet hold for a function that says nothing, and what it says lies over them', async () => {
    await node.supervisor.start()
    node.apply({ settings: { policy: { min: 2 } } }, 'a')
    await pass(100)
    expect(node.alive('a')).toHaveLength(2)
    node.apply({ settings: { policy: { min: 2 } }, min: 0, idleMs: 1_000 }, 'a')
    await pass(5_000)
    expect(node.alive('a')).toEqual([])
  })
})
