import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ask, freeze, testDriver, thaw, versionOf, type TestDriver } from '../harness/isolate-driver.ts'
import type { Instance } from '../../runtime/pool/driver.ts'

/** What the router does to an instance by writing to a file; the tests stand for the router. */
let t: TestDriver
beforeEach(async () => {
  t = await testDriver()
})
afterEach(() => t.end())

const HELLO = 'export default { fetch: () => new Response("hello") }'
const start = (main = HELLO): Promise<Instance> => t.driver.start(versionOf({ main }))

test('the driver says that there is a freezer', () => {
  expect(t.driver.limits).toMatch(/^cgroup v[12]: memory, cpu, pids, freezer$/)
})

test('a request to a frozen instance waits, and is answered once it is thawed', async () => {
  const instance = await start()
  await freeze(instance.freezer)
  let answered = false
  const answer = ask(instance.socketPath).then(({ text }) => {
    answered = true
    return text
  })
  // Another instance has long answered by then.
  const other = await start()
  await ask(other.socketPath)
  expect(answered).toBe(false)
  thaw(instance.freezer!)
  expect(await answer).toBe('hello')
})

test('a frozen instance is measured, and is not asked what it cannot answer', async () => {
  const instance = await start(
    'export default { fetch(request, env, ctx) { ctx.waitUntil(new Promise(() => {})); return new Response() } }',
  )
  await ask(instance.socketPath)
  expect(await instance.pendingWork()).toBe(1)
  await freeze(instance.freezer)
  const asked = new Promise((resolve) => {
    setImmediate(() => resolve('asked'))
  })
  expect(await Promise.race([instance.pendingWork(), asked])).toBe(0)
  const { cpuMs, memoryBytes } = instance.usage()
  expect(memoryBytes).toBeGreaterThan(1_000_000)
  expect(cpuMs).toBeGreaterThan(0)
  expect(instance.usage().cpuMs).toBe(cpuMs)
  thaw(instance.freezer!)
  expect(await instance.pendingWork()).toBe(1)
})

test('a frozen instance can be killed', async () => {
  const instance = await start()
  await freeze(instance.freezer)
  instance.kill('killed')
  expect(await instance.exited).toMatchObject({ cause: 'killed' })
  expect(existsSync(`/proc/${instance.pid}`)).toBe(false)
})

test('a frozen instance can be stopped, without waiting for the grace', async () => {
  const instance = await start()
  await freeze(instance.freezer)
  expect(await instance.stop({ graceMs: 3_600_000 })).toMatchObject({ cause: 'stopped' })
})

test('one that is frozen while it ends ends all the same', async () => {
  const instance = await start(
    `export default { async fetch() { console.log('here'); await scheduler.wait(200); return new Response('done') } }`,
  )
  const answer = ask(instance.socketPath)
  await t.line(({ message }) => message.includes('here'))
  const stopped = instance.stop({ graceMs: 3_600_000 })
  writeFileSync(instance.freezer!.file, instance.freezer!.frozen)
  // FROZEN, or FREEZING if it has just been woken.
  expect(readFileSync(instance.freezer!.file, 'utf8')).toMatch(/^(FR|1)/)
  expect((await answer).text).toBe('done')
  expect(await stopped).toMatchObject({ cause: 'stopped' })
})

test('close leaves nothing of frozen instances', async () => {
  const instance = await start()
  await freeze(instance.freezer)
  await t.driver.close()
  expect(existsSync(`/proc/${instance.pid}`)).toBe(false)
  expect(existsSync(instance.freezer!.file)).toBe(false)
})

test('the memory of one that is frozen does not ask it to collect', async () => {
  const instance = await t.driver.start(
    versionOf({
      main: 'const kept = new Uint8Array(70 << 20).fill(1); export default { fetch: () => new Response(String(kept.length)) }',
    }),
    { memoryMib: 100 },
  )
  await freeze(instance.freezer)
  const connections = (): number =>
    process.getActiveResourcesInfo().filter((resource) => resource.startsWith('Pipe')).length
  const before = connections()
  expect(instance.usage().memoryBytes).toBeGreaterThan(70 << 20)
  expect(connections()).toBe(before)
  thaw(instance.freezer!)
  await expect.poll(() => (instance.usage(), connections()), { interval: 1 }).toBeGreaterThan(before)
})
