/** The supervisor's decisions on a driver that starts nothing, with time in the test's hands. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Supervisor } from '../../runtime/node/supervisor.ts'
import type { ExitReport, Instance, InstanceDriver } from '../../runtime/pool/driver.ts'
import type { AgentToRouter } from '../../runtime/pool/wire.ts'
import type { Head, Version } from '../../sdk/model/function.ts'
import type { ExitCause } from '../../sdk/model/node-status.ts'
import { DEFAULT_POLICY, type Policy } from '../../sdk/model/policy.ts'
import { guestVersion } from '../harness/guest-instance.ts'

interface FakeInstance extends Instance {
  end(report: ExitReport): void
  cpuMs: number
}

let started: FakeInstance[]
let told: AgentToRouter[]
let supervisor: Supervisor
/** Starts that the test lets go on one by one; undefined: at once. */
let gates: (() => void)[] | undefined

beforeEach(() => {
  vi.useFakeTimers()
  started = []
  told = []
  gates = undefined
  const driver: InstanceDriver = {
    kind: 'worker',
    sandbox: 'none',
    limits: 'none',
    adopt: () => Promise.resolve([]),
    keepBlanks: () => undefined,
    blanks: () => [],
    pids: () => [],
    close: () => Promise.resolve(),
    async start(version) {
      if (gates !== undefined) await new Promise<void>((resolve) => gates!.push(resolve))
      const instance = fakeInstance(version, `i${started.length}`)
      started.push(instance)
      return instance
    },
  }
  supervisor = new Supervisor({
    driver,
    getVersion: (functionName, versionId) => Promise.resolve(versionNamed(functionName, versionId)),
    tellRouter: (message) => {
      told.push(message)
      if (message.type === 'instance-drain') queueMicrotask(() => supervisor.onDrained(message.id))
      return true
    },
    onEvent: () => undefined,
  })
})
afterEach(async () => {
  const closing = supervisor.close(0)
  await vi.advanceTimersByTimeAsync(1_000)
  await closing
  vi.useRealTimers()
})

function versionNamed(functionName: string, id: string): Version {
  return { ...guestVersion({ modules: { 'index.js': '' } }).version, functionName, id }
}

function fakeInstance(version: Version, id: string): FakeInstance {
  const { promise, resolve } = Promise.withResolvers<ExitReport>()
  let exit: ExitReport | undefined
  const end = (report: ExitReport): void => {
    exit ??= report
    resolve(exit)
  }
  const instance: FakeInstance = {
    id,
    functionName: version.functionName,
    versionId: version.id,
    pid: 0,
    socketPath: '',
    startedAtMs: 0,
    state: 'running',
    cpuMs: 0,
    exited: promise,
    get exit() {
      return exit
    },
    usage: () => ({ cpuMs: instance.cpuMs, memoryBytes: 0 }),
    pendingWork: () => Promise.resolve(0),
    stop() {
      end({ cause: 'stopped', message: '' })
      return promise
    },
    kill: (cause: ExitCause) => end({ cause, message: cause }),
    end,
  }
  return instance
}

function head(policy: Partial<Policy>, ...names: string[]): Head {
  const functions = Object.fromEntries(
    names.map((name) => [
      name,
      {
        name,
        policy: { ...DEFAULT_POLICY, ...policy },
        deployment: { shares: [{ versionId: `v-${name}`, percent: 100 }] },
      },
    ]),
  )
  return { generation: 1, functions } as unknown as Head
}

const need = (name: string, queued: number): void =>
  supervisor.onNeed({ functionName: name, versionId: `v-${name}`, queued })

function load(name: string, inFlight: number): void {
  const busy = started.filter(({ exit }) => exit === undefined)
  supervisor.onLoad(
    busy.map(({ id }) => ({ id, inFlight: inFlight / busy.length, progress: 1 })),
    [{ functionName: name, versionId: `v-${name}`, inFlight, queued: 0, requests: 1 }],
  )
}

describe('the supervisor', () => {
  test('forgets the demand that a router knew when the router dies', async () => {
    await supervisor.start()
    supervisor.applyHead(head({ concurrency: 10, max: 3, idleMs: 1_000 }, 'a'))
    need('a', 1)
    await vi.advanceTimersByTimeAsync(10)
    load('a', 20)
    await vi.advanceTimersByTimeAsync(10)
    expect(started).toHaveLength(3)
    supervisor.onRouterLost()
    await vi.advanceTimersByTimeAsync(20_000)
    expect(supervisor.instances).toEqual([])
    expect(started).toHaveLength(3)
  })

  test('starts nothing for a deleted function, whose last requests are still under way', async () => {
    await supervisor.start()
    supervisor.applyHead(head({}, 'a'))
    need('a', 1)
    await vi.advanceTimersByTimeAsync(10)
    load('a', 1)
    supervisor.applyHead(head({}))
    need('a', 1)
    await vi.advanceTimersByTimeAsync(20_000)
    expect(started).toHaveLength(1)
    expect(supervisor.instances).toEqual([])
  })

  test('does a start that had to wait for others as soon as one of them is done, without being asked again', async () => {
    await supervisor.start()
    const names = Array.from({ length: 40 }, (_, index) => `f${index}`)
    supervisor.applyHead(head({}, ...names))
    gates = []
    for (const name of names) need(name, 1)
    await vi.advanceTimersByTimeAsync(0)
    expect(gates.length).toBeGreaterThan(0)
    expect(gates.length).toBeLessThan(40)
    // No time passes: only the end of one start begins the next.
    for (let round = 0; round < 40; round++) {
      gates.shift()?.()
      await vi.advanceTimersByTimeAsync(0)
    }
    expect(new Set(started.map(({ functionName }) => functionName))).toEqual(new Set(names))
  })

  test('holds a version back that crashes without an answer, and the next version not', async () => {
    await supervisor.start()
    supervisor.applyHead(head({}, 'a', 'b'))
    for (let round = 0; round < 5; round++) {
      need('a', 1)
      await vi.advanceTimersByTimeAsync(1)
      started.at(-1)!.end({ cause: 'crashed', message: 'exit code 1' })
      await vi.advanceTimersByTimeAsync(1)
    }
    told.length = 0
    need('a', 1)
    expect(told).toEqual([
      expect.objectContaining({
        type: 'start-refused',
        code: 'crash_loop',
        versionId: 'v-a',
        message: expect.stringContaining('exit code 1'),
      }),
    ])
    need('b', 1)
    await vi.advanceTimersByTimeAsync(1)
    expect(started.at(-1)!.functionName).toBe('b')
    // The time is over: once more.
    await vi.advanceTimersByTimeAsync(1_000)
    const before = started.length
    need('a', 1)
    await vi.advanceTimersByTimeAsync(1)
    expect(started).toHaveLength(before + 1)
  })
})
