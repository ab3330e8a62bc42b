import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { createConfigCache } from '../../runtime/isolate/config-cache.ts'
import type { IsolateDriverOptions } from '../../runtime/isolate/driver.ts'
import {
  ask,
  cgroupText,
  loadTestModules,
  testDriver,
  versionOf,
  type TestDriver,
} from '../harness/isolate-driver.ts'

const MIB = 1024 * 1024
const HELLO = 'export default { fetch: () => new Response("hello") }'
const MEMORY = { v1: ['memory', 'memory.limit_in_bytes'], v2: 'memory.max' } as const
const WEIGHT = { v1: ['cpu', 'cpu.shares'], v2: 'cpu.weight' } as const
/** Keeps as many MiB as the path says, in what the limit of V8's heap does not see. */
const KEEPING = `const kept = []
export default { fetch(request) {
  const count = Number(new URL(request.url).pathname.slice(1))
  for (let n = 0; n < count; n++) kept.push(new Uint8Array(1 << 20).fill(1))
  return new Response(String(kept.length)) } }`

let t: TestDriver
const open = async (options: Partial<IsolateDriverOptions> = {}): Promise<TestDriver> =>
  (t = await testDriver(options))
afterEach(() => t.end())

/** `cpu.shares` or `cpu.weight` as a weight where 100 is ordinary. */
const weightOf = (id: string): number => {
  const value = Number(cgroupText(t, id, WEIGHT))
  return t.driver.limits.startsWith('cgroup v1') ? (value * 100) / 1024 : value
}

describe('the limits in force', () => {
  test("are the node's before the version's before the defaults", async () => {
    await open()
    const asking = versionOf({ main: HELLO, limits: { memoryMib: 64, cpuMs: 400 } })
    const byVersion = await t.driver.start(asking)
    const byNode = await t.driver.start(asking, { memoryMib: 96, cpuMs: 300 })
    const byDefault = await t.driver.start(versionOf({ main: HELLO }))
    expect([byVersion, byNode, byDefault].map(({ memoryMib }) => memoryMib)).toEqual([64, 96, 128])
    expect([byVersion, byNode, byDefault].map(({ id }) => Number(cgroupText(t, id, MEMORY)) / MIB)).toEqual([
      64, 96, 128,
    ])
    for (const instance of [byVersion, byNode, byDefault]) instance.kill('cpu_limit')
    const messages = [byVersion, byNode, byDefault].map(async ({ exited }) => (await exited).message)
    expect(await Promise.all(messages)).toEqual([
      'CPU limit of 400 ms reached without an answer',
      'CPU limit of 300 ms reached without an answer',
      'CPU limit of 10000 ms reached without an answer',
    ])
  })

  test('are told to V8 with the configuration, also where the version was started with others before', async () => {
    await open()
    const version = versionOf({ main: HELLO, limits: { memoryMib: 64 } })
    const cache = createConfigCache({ loadModules: loadTestModules, socketDirectory: '/s' })
    const texts = [
      await cache.load(version),
      await cache.load(version, 512),
      await cache.load(version, 64),
    ].map(({ config }) => /--max-old-space-size=(\d+)/.exec(Buffer.from(config).toString('latin1'))?.[1])
    expect(texts).toEqual(['50', '484', '50'])
  })

  test('a kill may give its own words, for a limit that was changed meanwhile', async () => {
    await open()
    const instance = await t.driver.start(versionOf({ main: HELLO }))
    instance.kill('cpu_limit', 'CPU limit of 20 ms reached')
    expect(await instance.exited).toMatchObject({
      cause: 'cpu_limit',
      message: 'CPU limit of 20 ms reached',
    })
  })

  test('the report of an end has the CPU of the whole life', async () => {
    await open()
    const instance = await t.driver.start(
      versionOf({
        main: 'export default { fetch() { let n = 0; for (let i = 0; i < 1e8; i++) n += i; return new Response(String(n)) } }',
      }),
    )
    await ask(instance.socketPath)
    const { cpuMs } = instance.usage()
    expect(cpuMs).toBeGreaterThan(20)
    const report = await instance.stop({ graceMs: 5_000 })
    expect(report.cpuMs).toBeGreaterThanOrEqual(cpuMs)
  })

  test('what is expected of a new instance is never above its limit', async () => {
    await open()
    expect(t.driver.foresee({ kind: 'worker', memoryMib: 128 }).reserveMib).toBe(12)
    expect(t.driver.foresee({ kind: 'worker', memoryMib: 8 }).reserveMib).toBe(8)
  })
})

describe('memory', () => {
  const BOMBS = {
    heap: 'const kept = []; export default { fetch() { for (;;) kept.push({ text: "x".repeat(100) + kept.length }) } }',
    buffers: KEEPING.replace('count;', '1e9;'),
    wasm: 'export default { fetch() { const m = new WebAssembly.Memory({ initial: 16, maximum: 65536 }); for (;;) { m.grow(16); new Uint8Array(m.buffer, m.buffer.byteLength - (1 << 20)).fill(1) } } }',
  }
  for (const [name, main] of Object.entries(BOMBS)) {
    test(`a function of 32 MiB whose ${name} only grows is out of memory, and hello has room in it`, async () => {
      await open()
      const hello = await t.driver.start(versionOf({ main: HELLO }), { memoryMib: 32 })
      const bomb = await t.driver.start(versionOf({ main }), { memoryMib: 32 })
      await expect(ask(bomb.socketPath)).rejects.toThrow()
      expect(await bomb.exited).toMatchObject({
        cause: 'out_of_memory',
        message: expect.stringMatching(
          /^memory limit of 32 MiB reached$|heap out of memory.*32 MiB/,
        ) as string,
      })
      for (let n = 0; n < 50; n++) expect((await ask(hello.socketPath)).text).toBe('hello')
    })
  }

  test('a function of 512 MiB may keep 400 MiB of buffers', async () => {
    await open()
    const instance = await t.driver.start(versionOf({ main: KEEPING }), { memoryMib: 512 })
    expect((await ask(instance.socketPath, '/400')).text).toBe('400')
    expect(instance.usage().memoryBytes).toBeGreaterThan(400 * MIB)
  })

  test('a function of 512 MiB may keep 400 MiB of arrays among as much garbage, and still answers', async () => {
    await open()
    // Each MiB that stays leaves more than one behind.
    const main = `const kept = []
export default { fetch() {
  while (kept.length < 400) {
    const made = []
    for (let i = 0; i < 131_072; i++) made[i] = i + 0.5
    kept.push(made.slice())
  }
  return new Response(String(kept.length)) } }`
    const instance = await t.driver.start(versionOf({ main }), { memoryMib: 512 })
    expect((await ask(instance.socketPath)).text).toBe('400')
    expect(instance.usage().memoryBytes).toBeGreaterThan(400 * MIB)
    expect((await ask(instance.socketPath)).text).toBe('400')
  })
})

describe('processors', () => {
  test('what starts weighs more than what runs, and what runs weighs what is set', async () => {
    await open()
    t.driver.keepBlanks('worker', 1)
    while (t.driver.blanks().length < 1) await new Promise((resolve) => setTimeout(resolve, 5))
    const [blankId] = readdirSync(join(t.runDirectory, 'i'))
    expect(weightOf(blankId!)).toBe(1_000)
    const instance = await t.driver.start(versionOf({ main: HELLO }))
    expect(instance.id).toBe(blankId)
    expect(weightOf(instance.id)).toBe(100)
    for (const [asked, set] of [
      [50, 50],
      [0, 1],
      [1_000_000, 10_000],
    ] as const) {
      instance.setCpuWeight(asked)
      expect(Math.round(weightOf(instance.id))).toBe(set)
    }
    await instance.stop({ graceMs: 1_000 })
    instance.setCpuWeight(100)
  })

  test('a function that loops while it is loaded soon weighs no more than others', async () => {
    await open({ startTimeoutMs: 3_000 })
    const starting = t.driver.start(versionOf({ main: 'for (;;) {} export default { fetch() {} }' }))
    const refused = expect(starting).rejects.toMatchObject({ code: 'start_failed' })
    while (t.egress.calls.length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
    const [id] = readdirSync(join(t.runDirectory, 'i'))
    expect(weightOf(id!)).toBe(1_000)
    while (weightOf(id!) !== 100) await new Promise((resolve) => setTimeout(resolve, 20))
    await refused
  })
})

describe('the budget of all instances', () => {
  const TOGETHER = { ...MEMORY, parent: true }

  test('ends the largest when it is used up, and says so rather than its own limit', async () => {
    await open({ budget: { memoryMib: 160, cpus: 64 } })
    const version = versionOf({ main: KEEPING })
    const large = await t.driver.start(version)
    const small = await t.driver.start(version)
    expect(Number(cgroupText(t, large.id, TOGETHER))).toBe(160 * MIB)
    await ask(large.socketPath, '/90')
    // The small one asks for what is too much, and the kernel takes it from the larger.
    await ask(small.socketPath, '/60')
    expect(await large.exited).toMatchObject({
      cause: 'node_out_of_memory',
      message:
        "the node's memory budget of 160 MiB for all instances was used up; this instance was below its own limit of 128 MiB",
    })
    expect((await ask(small.socketPath, '/0')).text).toBe('60')
  })

  test('takes it from whom the node ranks first, however small, and not from whom it ranks last', async () => {
    await open({ budget: { memoryMib: 160, cpus: 64 } })
    const version = versionOf({ main: KEEPING })
    const large = await t.driver.start(version)
    const greedy = await t.driver.start(version)
    large.setMemoryRank('last')
    greedy.setMemoryRank('first')
    await ask(large.socketPath, '/90')
    await expect(ask(greedy.socketPath, '/60')).rejects.toThrow()
    expect(await greedy.exited).toMatchObject({ cause: 'node_out_of_memory' })
    expect((await ask(large.socketPath, '/0')).text).toBe('90')
    greedy.setMemoryRank('ordinary')
  })

  test("leaves an instance's own limit what it is", async () => {
    await open({ budget: { memoryMib: 300, cpus: 64 } })
    const bomb = await t.driver.start(versionOf({ main: KEEPING }), { memoryMib: 64 })
    await expect(ask(bomb.socketPath, '/1000')).rejects.toThrow()
    expect((await bomb.exited).message).toBe('memory limit of 64 MiB reached')
  })

  test('of less than one processor is also the most that one instance gets', async () => {
    await open({ budget: { memoryMib: 512, cpus: 0.5 } })
    const instance = await t.driver.start(versionOf({ main: HELLO }))
    const quota = { v1: ['cpu', 'cpu.cfs_quota_us'], v2: 'cpu.max' } as const
    expect(cgroupText(t, instance.id, { ...quota, parent: true })).toMatch(/^50000/)
    expect(cgroupText(t, instance.id, quota)).toMatch(/^50000/)
    expect((await ask(instance.socketPath)).text).toBe('hello')
  })

  test('may be lowered below what runs: that goes on, and the rest follows when there is room', async () => {
    const earlier = await open()
    const version = versionOf({ main: KEEPING })
    const large = await earlier.driver.start(version)
    const other = await earlier.driver.start(version)
    await ask(large.socketPath, '/80')
    const budget = { memoryMib: 64, cpus: 0.5 }
    const later = await testDriver({
      budget,
      runDirectory: t.runDirectory,
      isolationName: t.isolationName,
    })
    const limitMib = (): number => Number(cgroupText(t, other.id, TOGETHER)) / MIB
    expect(limitMib()).toBeGreaterThan(80)
    expect(cgroupText(t, other.id, { v1: ['cpu', 'cpu.cfs_quota_us'], v2: 'cpu.max' })).toMatch(
      t.driver.limits.startsWith('cgroup v1') ? /^50000/ : /^\d/,
    )
    const adopted = await later.driver.adopt()
    expect(adopted).toHaveLength(2)
    expect((await ask(large.socketPath, '/0')).text).toBe('80')
    await adopted.find(({ id }) => id === large.id)!.stop({ graceMs: 5_000 })
    while (limitMib() !== 64) await new Promise((resolve) => setTimeout(resolve, 10))
    expect((await ask(other.socketPath, '/1')).text).toBe('1')
    // And without a budget there is no such limit.
    const last = await testDriver({ runDirectory: t.runDirectory, isolationName: t.isolationName })
    expect(cgroupText(t, other.id, TOGETHER)).toMatch(/^max$|^9223372036854771712$/)
    await last.driver.adopt()
    await last.driver.close()
    await later.driver.close()
  })
})

describe('blanks', () => {
  test('a burst of eight starts with two blanks is eight instances, and two blanks again', async () => {
    await open()
    t.driver.keepBlanks('worker', 2)
    while (t.driver.blanks().length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
    const version = versionOf({ main: HELLO })
    const instances = await Promise.all(Array.from({ length: 8 }, () => t.driver.start(version)))
    expect(new Set(instances.map(({ pid }) => pid)).size).toBe(8)
    const answers = await Promise.all(instances.map(({ socketPath }) => ask(socketPath)))
    expect(answers.map(({ text }) => text)).toEqual(Array.from({ length: 8 }, () => 'hello'))
    while (t.driver.blanks().length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(t.driver.pids()).toHaveLength(10)
    for (const { memoryBytes } of t.driver.blanks()) expect(memoryBytes).toBeLessThan(64 * MIB)
  })

  test('none are kept where none are wanted, and a start makes its own', async () => {
    await open()
    t.driver.keepBlanks('worker', 0)
    const instance = await t.driver.start(versionOf({ main: HELLO }))
    expect(t.driver.blanks()).toEqual([])
    expect(t.driver.pids()).toEqual([instance.pid])
  })
})
