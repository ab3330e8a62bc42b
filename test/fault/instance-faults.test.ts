import { createServer, type Server, type Socket } from 'node:net'
import { chownSync, readdirSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ask, testDriver, versionOf, type TestDriver } from '../harness/isolate-driver.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { Instance } from '../../runtime/pool/driver.ts'

/** What one instance does to itself, with a neighbour on the same node that must not notice. */
let t: TestDriver
let neighbour: Instance
beforeAll(async () => {
  t = await testDriver()
  neighbour = await t.driver.start(
    versionOf({ name: 'neighbour', main: 'export default { fetch: () => new Response("here") }' }),
  )
})
afterAll(() => t.end())

async function start(name: string, main: string, memoryMib = 128): Promise<Instance> {
  return t.driver.start(versionOf({ name, main, limits: { memoryMib } }))
}

/** The request on the instance fails, the neighbour answers, and exactly one line tells of it. */
async function expectFault(instance: Instance, cause: string, message: RegExp): Promise<void> {
  const exit = await instance.exited
  expect(exit).toMatchObject({ cause, message: expect.stringMatching(message) as string })
  expect(instance.exit).toBe(exit)
  const lines = t.lines.filter(
    ({ source, instanceId }) => source === 'instance' && instanceId === instance.id,
  )
  expect(lines.map((line) => line.message)).toEqual([`ended (${cause}): ${exit.message}`])
  expect(lines[0]).toMatchObject({
    level: 'error',
    functionName: instance.functionName,
    versionId: instance.versionId,
  })
  expect((await ask(neighbour.socketPath)).text).toBe('here')
}

test('an endless loop burns CPU, ignores SIGTERM, and ends by kill with its cause', async () => {
  const instance = await start('loop', 'export default { fetch() { for (;;) {} } }')
  const request = expect(ask(instance.socketPath)).rejects.toThrow(/socket hang up|ECONNRESET/)
  const before = instance.usage().cpuMs
  while (instance.usage().cpuMs < before + 100) await new Promise((resolve) => setTimeout(resolve, 10))
  expect(await instance.pendingWork()).toBe(0)
  process.kill(instance.pid, 'SIGTERM')
  const burnt = instance.usage().cpuMs
  while (instance.usage().cpuMs < burnt + 100) await new Promise((resolve) => setTimeout(resolve, 10))
  expect(instance.exit).toBeUndefined()
  instance.kill('cpu_limit')
  await request
  await expectFault(instance, 'cpu_limit', /^CPU limit of 10000 ms reached/)
})

test('stop ends an endless loop after the grace', async () => {
  const instance = await start('stubborn', 'export default { fetch() { for (;;) {} } }')
  const request = expect(ask(instance.socketPath)).rejects.toThrow()
  const before = instance.usage().cpuMs
  while (instance.usage().cpuMs < before + 50) await new Promise((resolve) => setTimeout(resolve, 10))
  expect(await instance.stop({ graceMs: 50 })).toMatchObject({ cause: 'stopped' })
  await request
})

test('a heap that only grows is out of memory', async () => {
  const main =
    'const kept = []; export default { fetch() { for (;;) kept.push({ text: "x".repeat(100) + kept.length }) } }'
  const instance = await start('heap', main, 64)
  await expect(ask(instance.socketPath)).rejects.toThrow()
  await expectFault(instance, 'out_of_memory', /memory limit of 64 MiB|out of memory/)
})

test('ArrayBuffers, which no heap limit sees, are out of memory at the limit of the version', async () => {
  const main =
    'const kept = []; export default { fetch() { for (;;) kept.push(new Uint8Array(1 << 20).fill(1)) } }'
  const instance = await start('buffers', main, 96)
  await expect(ask(instance.socketPath)).rejects.toThrow()
  await expectFault(instance, 'out_of_memory', /^memory limit of 96 MiB reached$/)
})

test('abortIsolate ends its own instance only, as a crash', async () => {
  const main =
    "import { abortIsolate } from 'cloudflare:workers'; export default { fetch() { abortIsolate('enough'); return new Response() } }"
  const instance = await start('abort', main)
  await expect(ask(instance.socketPath)).rejects.toThrow()
  await expectFault(instance, 'crashed', /^abortIsolate\(\) was called: enough$/)
})

test('more connections than open files are a crash of that instance, by name', async () => {
  const servers: Server[] = []
  const sockets: Socket[] = []
  const listen = async ({ socketPath, uid }: { socketPath: string; uid: number }): Promise<void> => {
    const server = createServer((socket) => void sockets.push(socket.on('error', () => undefined)))
    servers.push(server)
    await new Promise<void>((resolve) => server.listen(socketPath, resolve))
    chownSync(socketPath, uid, uid)
  }
  const node = await testDriver({ egress: { ...t.egress, listen } })
  try {
    const main = `export default { async fetch(request) {
      for (let n = 0; n < ${INSTANCE_LIMITS.openFilesMax + 1_000}; n++) fetch('http://far.example/' + n).catch(() => 0)
      await scheduler.wait(60_000)
      return new Response() } }`
    const instance = await node.driver.start(versionOf({ main, limits: { memoryMib: 2_048 } }))
    const request = expect(ask(instance.socketPath)).rejects.toThrow()
    const files = (): number => readdirSync(`/proc/${instance.pid}/fd`).length
    while (instance.exit === undefined && files() < INSTANCE_LIMITS.openFilesMax) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    // The one connection too many.
    await expect(ask(instance.socketPath)).rejects.toThrow()
    expect(await instance.exited).toMatchObject({
      cause: 'crashed',
      message: `limit of ${INSTANCE_LIMITS.openFilesMax} open files and connections reached`,
    })
    await request
    expect((await ask(neighbour.socketPath)).text).toBe('here')
  } finally {
    for (const socket of sockets) socket.destroy()
    for (const server of servers) server.close()
    await node.end()
  }
})

test('a flood of log lines stays within bounds, and the instance goes on', async () => {
  const main = `const line = 'x'.repeat(8000); let rounds = 0
export default { fetch() { for (let i = 0; i < 500; i++) console.log(line); return new Response(String(++rounds)) } }`
  const instance = await start('flood', main)
  for (let round = 1; round <= 10; round++) expect((await ask(instance.socketPath)).text).toBe(String(round))
  const dropped = await t.line(
    ({ source, functionName }) => source === 'instance' && functionName === 'flood',
  )
  expect(dropped).toMatchObject({
    level: 'warn',
    message: expect.stringMatching(/^\d+ bytes of output were dropped/) as string,
  })
  expect((await ask(instance.socketPath)).text).toBe('11')
  expect(await instance.stop({ graceMs: 5_000 })).toMatchObject({ cause: 'stopped' })
})
