import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ask, loadTestModules, testDriver, versionOf, type TestDriver } from '../harness/isolate-driver.ts'
import { openCgroupTree } from '../../runtime/machine/cgroup.ts'

const HELLO = 'export default { fetch: (request) => new Response(`hello ${new URL(request.url).pathname}`) }'

let t: TestDriver
beforeEach(async () => {
  t = await testDriver({ startTimeoutMs: 5_000 })
})
afterEach(() => t.end())

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`)
const blanksToBe = async (count: number): Promise<void> => {
  while (t.driver.blanks().length !== count) await new Promise((resolve) => setTimeout(resolve, 5))
}
const cgroupIds = (): readonly string[] => {
  const tree = openCgroupTree({ name: t.isolationName })
  if ('unavailable' in tree) throw new Error(tree.unavailable)
  const ids = tree.ids()
  tree.close()
  return ids
}

describe('starting', () => {
  test('a version started without a blank answers requests on its socket', async () => {
    const instance = await t.driver.start(versionOf({ main: HELLO, name: 'shop' }))
    expect(await ask(instance.socketPath, '/a')).toMatchObject({ status: 200, text: 'hello /a' })
    expect(instance).toMatchObject({ functionName: 'shop', state: 'running', exit: undefined })
    expect(t.egress.calls).toEqual([`listen ${instance.id}`, `assign ${instance.id} shop`])
  })

  test('a waiting blank becomes the instance, and another blank takes its place', async () => {
    t.driver.keepBlanks('worker', 1)
    await blanksToBe(1)
    const [blank] = t.driver.blanks()
    const instance = await t.driver.start(versionOf({ main: HELLO }))
    expect(instance.pid).toBe(blank!.pid)
    await blanksToBe(1)
    expect(t.driver.blanks()[0]!.pid).not.toBe(instance.pid)
  })

  test('fewer blanks wanted ends the surplus', async () => {
    t.driver.keepBlanks('worker', 2)
    await blanksToBe(2)
    const pids = t.driver.blanks().map(({ pid }) => pid)
    t.driver.keepBlanks('worker', 0)
    await blanksToBe(0)
    await t.driver.close()
    expect(pids.filter(isAlive)).toEqual([])
  })

  test('a blank that ends by itself is replaced', async () => {
    t.driver.keepBlanks('worker', 1)
    await blanksToBe(1)
    const { pid } = t.driver.blanks()[0]!
    process.kill(pid, 'SIGKILL')
    await blanksToBe(0)
    await blanksToBe(1)
    expect(t.driver.blanks()[0]!.pid).not.toBe(pid)
  })

  test('two instances of one version at the same time have sockets and user ids of their own', async () => {
    const version = versionOf({ main: HELLO })
    const [one, two] = await Promise.all([t.driver.start(version), t.driver.start(version)])
    expect((await ask(one.socketPath, '/1')).text).toBe('hello /1')
    expect((await ask(two.socketPath, '/2')).text).toBe('hello /2')
    const uidOf = (pid: number): string =>
      /Uid:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]!
    expect(uidOf(one.pid)).not.toBe(uidOf(two.pid))
  })

  test('console output becomes log lines that name function, version and instance', async () => {
    const version = versionOf({
      name: 'logs',
      main: "export default { fetch() { console.warn('seen'); return new Response() } }",
    })
    const instance = await t.driver.start(version)
    await ask(instance.socketPath)
    const line = await t.line(({ message }) => message.includes('seen'))
    expect(line).toMatchObject({ functionName: 'logs', versionId: version.id, instanceId: instance.id })
  })

  test('usage grows with work and is zero after the end', async () => {
    const main =
      'export default { fetch() { const end = Date.now() + 1; let n = 0; for (let i = 0; i < 3e7; i++) n += i; return new Response(String(n)) } }'
    const instance = await t.driver.start(versionOf({ main }))
    const before = instance.usage()
    await ask(instance.socketPath)
    const after = instance.usage()
    expect(before.memoryBytes).toBeGreaterThan(1_000_000)
    expect(after.cpuMs).toBeGreaterThan(before.cpuMs)
    await instance.stop({ graceMs: 1_000 })
    expect(instance.usage()).toEqual({ cpuMs: 0, memoryBytes: 0 })
  })

  test('waitUntil work not yet done is counted', async () => {
    const main = `let finish; const work = new Promise((resolve) => { finish = resolve })
export default { fetch(request, env, ctx) { if (request.url.endsWith('/end')) finish(); else ctx.waitUntil(work); return new Response() } }`
    const instance = await t.driver.start(versionOf({ main }))
    expect(await instance.pendingWork()).toBe(0)
    await ask(instance.socketPath, '/begin')
    expect(await instance.pendingWork()).toBe(1)
  })

  test('the memory limit of the version is in force', async () => {
    const instance = await t.driver.start(versionOf({ main: HELLO, limits: { memoryMib: 64 } }))
    const record = JSON.parse(
      readFileSync(join(t.runDirectory, 'i', instance.id, 'instance.json'), 'utf8'),
    ) as {
      cgroup: Record<string, string>
    }
    const limit = record.cgroup['unified']
      ? readFileSync(join(record.cgroup['unified'], 'memory.max'), 'utf8')
      : readFileSync(join(record.cgroup['memory']!, 'memory.limit_in_bytes'), 'utf8')
    expect(Number(limit)).toBe(64 * 1024 * 1024)
  })
})

describe('a version that does not start is refused with its own message, and leaves nothing', () => {
  const refusals: readonly [string, string, RegExp][] = [
    ['a syntax error', 'export default { fetch( }', /SyntaxError|Unexpected token/],
    [
      'a throw at load',
      "throw new Error('no database here'); export default { fetch() {} }",
      /no database here/,
    ],
    ['a missing module', "import './gone.js'; export default { fetch() {} }", /gone\.js/],
    ['no fetch handler', 'export default { scheduled() {} }', /index\.js has no fetch handler/],
    ['no default export', 'export const a = 1', /default export|fetch handler/],
    ['an endless loop at load', 'for (;;) {} export default { fetch() {} }', /not ready after 5000 ms/],
    [
      'more memory than allowed at load',
      'const a = []; for (;;) a.push(new Uint8Array(1e6).fill(1)); export default { fetch() {} }',
      /memory limit of 128 MiB|out of memory/,
    ],
  ]
  for (const [title, main, message] of refusals) {
    test(title, async () => {
      await expect(t.driver.start(versionOf({ name: 'broken', main }))).rejects.toMatchObject({
        code: 'start_failed',
        message: expect.stringMatching(message) as string,
      })
      expect(t.lines.at(-1)).toMatchObject({ source: 'instance', level: 'error', functionName: 'broken' })
      expect(t.lines.at(-1)!.message).toMatch(message)
      expect(readdirSync(join(t.runDirectory, 'i'))).toEqual([])
      expect(cgroupIds()).toEqual([])
    })
  }

  test('a failed start does not keep another version from starting', async () => {
    const [broken, good] = await Promise.allSettled([
      t.driver.start(versionOf({ main: 'export default { fetch( }' })),
      t.driver.start(versionOf({ main: HELLO })),
    ])
    expect(broken.status).toBe('rejected')
    expect(good.status).toBe('fulfilled')
  })

  test('a module whose bytes are not to be had is named', async () => {
    const version = versionOf({ main: HELLO })
    const [module] = version.content.modules
    const modules = [{ ...module!, sha256: '0'.repeat(64) }]
    await expect(
      t.driver.start({ ...version, id: 'other', content: { ...version.content, modules } }),
    ).rejects.toMatchObject({
      code: 'blob_missing',
    })
    expect(readdirSync(join(t.runDirectory, 'i'))).toEqual([])
  })

  test("an egress proxy that cannot listen fails the start, by name and as the node's own fault", async () => {
    const listen = (): Promise<void> => Promise.reject(new Error('egress is down'))
    const other = await testDriver({ egress: { ...t.egress, listen } })
    try {
      await expect(other.driver.start(versionOf({ main: HELLO }))).rejects.toMatchObject({
        code: 'internal',
        message: expect.stringContaining('egress is down') as string,
      })
    } finally {
      await other.end()
    }
  })
})

describe('ending', () => {
  test('stop lets what is in flight finish, and reports no fault', async () => {
    const main = `export default { async fetch() { console.log('here'); await scheduler.wait(300); return new Response('done') } }`
    const instance = await t.driver.start(versionOf({ main }))
    const answer = ask(instance.socketPath)
    await t.line(({ message }) => message.includes('here'))
    const report = instance.stop({ graceMs: 10_000 })
    expect(instance.state).toBe('draining')
    expect((await answer).text).toBe('done')
    expect(await report).toMatchObject({ cause: 'stopped' })
    expect(instance).toMatchObject({ state: 'gone', exit: { cause: 'stopped' } })
    expect(t.lines.filter(({ source }) => source === 'instance')).toEqual([])
  })

  test('the cause given to kill is the cause reported and logged, once', async () => {
    const instance = await t.driver.start(versionOf({ main: HELLO, limits: { cpuMs: 700 } }))
    instance.kill('cpu_limit')
    instance.kill('killed')
    expect(await instance.exited).toMatchObject({
      cause: 'cpu_limit',
      message: 'CPU limit of 700 ms reached without an answer',
    })
    expect(t.lines.filter(({ source }) => source === 'instance').map(({ message }) => message)).toEqual([
      'ended (cpu_limit): CPU limit of 700 ms reached without an answer',
    ])
    expect(await instance.pendingWork()).toBe(0)
    expect(await instance.stop({ graceMs: 0 })).toMatchObject({ cause: 'cpu_limit' })
  })

  test('a signal from elsewhere is a crash that names the signal', async () => {
    const instance = await t.driver.start(versionOf({ main: HELLO }))
    process.kill(instance.pid, 'SIGKILL')
    expect(await instance.exited).toMatchObject({
      cause: 'crashed',
      message: expect.stringContaining('SIGKILL') as string,
    })
  })

  test('close leaves no process, no cgroup and no file', async () => {
    t.driver.keepBlanks('worker', 2)
    await blanksToBe(2)
    const instance = await t.driver.start(versionOf({ main: HELLO }))
    const starting = t.driver.start(versionOf({ main: 'for (;;) {} export default { fetch() {} }' }))
    const refused = expect(starting).rejects.toMatchObject({ code: 'start_failed' })
    while (t.egress.calls.filter((call) => call.startsWith('assign')).length < 2) {
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    await blanksToBe(2)
    const pids = readdirSync(join(t.runDirectory, 'i')).map((id) => {
      const text = readFileSync(join(t.runDirectory, 'i', id, 'instance.json'), 'utf8')
      return (JSON.parse(text) as { process: { pid: number } }).process.pid
    })
    expect(pids).toHaveLength(4)
    expect(pids).toContain(instance.pid)
    expect(pids.every(isAlive)).toBe(true)
    await t.driver.close()
    await refused
    expect(pids.filter(isAlive)).toEqual([])
    expect(readdirSync(t.runDirectory)).toEqual([])
    expect(cgroupIds()).toEqual([])
    expect(t.egress.calls.filter((call) => call.startsWith('close')).length).toBe(
      t.egress.calls.filter((call) => call.startsWith('listen')).length,
    )
    await expect(t.driver.start(versionOf({ main: HELLO }))).rejects.toMatchObject({ code: 'draining' })
  })
})

test('a start that still loads its modules when the driver closes starts nothing', async () => {
  const waiting = Promise.withResolvers<ReadonlyMap<string, Uint8Array>>()
  const other = await testDriver({ loadModules: () => waiting.promise })
  const refused = expect(other.driver.start(versionOf({ main: HELLO }))).rejects.toMatchObject({
    code: 'draining',
  })
  await other.driver.close()
  waiting.resolve(await loadTestModules())
  await refused
  expect(other.egress.calls).toEqual([])
  await other.end()
})

test('a run directory too long for sockets is refused with its length', async () => {
  const runDirectory = join(tmpdir(), 'x'.repeat(100))
  await expect(testDriver({ runDirectory })).rejects.toMatchObject({
    code: 'invalid_argument',
    message: expect.stringMatching(/shorter path/) as string,
  })
})
