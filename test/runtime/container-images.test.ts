import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { LAMBDA_HEADERS } from '../../runtime/lambda/wire.ts'
import { isIsolaError } from '../../sdk/model/errors.ts'
import {
  codeVersion,
  openContainerPlace,
  serverVersion,
  versionOf,
  type ContainerPlace,
} from '../harness/container-driver.ts'
import { describeEngine } from '../harness/engine.ts'
import { ask } from '../harness/isolate-driver.ts'

const SERVER = `require('http').createServer((q, s) => s.end(JSON.stringify({
  port: process.env.PORT, uid: process.getuid(), name: process.env.NAME })) ).listen(process.env.PORT)
  process.on('SIGTERM', () => process.exit())`
/** What an image with AWS's runtime client does, in its shortest form. */
const RUNTIME = `const api = 'http://' + process.env.AWS_LAMBDA_RUNTIME_API + '/2018-06-01/runtime/invocation/'
  ;(async () => { for (;;) {
    const next = await fetch(api + 'next')
    const id = next.headers.get('lambda-runtime-aws-request-id')
    await fetch(api + id + '/response', { method: 'POST', body: JSON.stringify({ event: await next.json(), handler: process.env._HANDLER, memory: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE }) })
  } })()`
const event = { [LAMBDA_HEADERS.invoke]: 'event' }

let place: ContainerPlace
const failure = async (starting: Promise<unknown>): Promise<{ code: string; message: string }> => {
  const error = await starting.then(
    () => new Error('it started'),
    (thrown: unknown) => thrown,
  )
  if (!isIsolaError(error)) throw error as Error
  return { code: error.code, message: error.message }
}
const nothingLeft = async (): Promise<void> => {
  await expect.poll(() => place.containers(), { timeout: 10_000 }).toEqual([])
  for (const folder of [join('r', 'c'), join('d', 'containers')]) {
    await expect.poll(() => readdirSync(join(place.directory, folder)), { timeout: 10_000 }).toEqual([])
  }
  expect(place.driver.pids()).toEqual([])
}

describeEngine('images in sandboxes', () => {
  beforeAll(async () => {
    place = await openContainerPlace({ startTimeoutMs: 4_000 })
  })
  afterAll(async () => {
    await place.end()
    expect(await place.containers()).toEqual([])
    expect(await place.engine.listNetworks({ 'isola.node': place.isolationName })).toEqual([])
    expect(existsSync(place.directory)).toBe(false)
    const groups = readdirSync('/sys/fs/cgroup').flatMap((name) => {
      const path = join('/sys/fs/cgroup', name, `isola-${place.isolationName}-containers`)
      return existsSync(path) ? [path] : []
    })
    expect(groups).toEqual([])
  })

  test('a server is called where $PORT says, runs as nobody, and is measured with its forwarder', async () => {
    const version = await serverVersion(place.engine, SERVER, {
      settings: { port: 3000, cpus: 0.5 },
    })
    const named = {
      ...version,
      content: { ...version.content, bindings: [{ type: 'text', name: 'NAME', text: 'n' }] },
    } as const
    expect(place.driver.foresee({ kind: 'container', content: named.content, memoryMib: 256 })).toEqual({
      reserveMib: 48,
      blankClass: 'sandbox/3000',
    })
    const instance = await place.driver.start(named)
    expect(JSON.parse((await ask(instance.socketPath)).text)).toEqual({
      port: '3000',
      uid: 64_000,
      name: 'n',
    })
    expect(instance.usage().memoryBytes).toBeGreaterThan(8_000_000)
    expect(await place.containers()).toHaveLength(2)
    expect(await instance.stop({ graceMs: 5_000 })).toMatchObject({ cause: 'stopped' })
    await nothingLeft()
  })

  test('begins in a sandbox that waits, which is used once', async () => {
    place.driver.keepBlanks('sandbox', 1)
    await place.blanks(1)
    const { pid } = place.driver.blanks()[0]!
    const instance = await place.driver.start(await serverVersion(place.engine, SERVER))
    expect(place.driver.pids()).toContain(pid)
    const namespaceOf = (of: number): string => readFileSync(`/proc/${of}/net/dev`, 'utf8').split('\n')[0]!
    expect(namespaceOf(instance.pid)).toBe(namespaceOf(pid))
    expect((await ask(instance.socketPath)).status).toBe(200)
    place.driver.keepBlanks('sandbox', 0)
    instance.kill('killed')
    await instance.exited
    await nothingLeft()
  })

  test("AWS's runtime client finds its Runtime API at 127.0.0.1:9001 and in its environment", async () => {
    const { imageId } = (await serverVersion(place.engine, '')).content.source as { imageId: string }
    const instance = await place.driver.start(
      versionOf({
        protocol: 'lambda',
        source: { type: 'image', imageId, entryPoint: ['node', '-e', RUNTIME], command: ['app.handler'] },
        limits: { memoryMib: 192 },
      }),
    )
    expect(JSON.parse((await ask(instance.socketPath, '/', event)).text)).toEqual({
      event: {},
      handler: 'app.handler',
      memory: '192',
    })
    await instance.stop({ graceMs: 100 })
    await nothingLeft()
  })

  test('code that reaches out has a network, and its function', async () => {
    const version = await codeVersion(
      "import { networkInterfaces } from 'node:os'; export const handler = async () => Object.keys(networkInterfaces()).length",
      { settings: { egress: true } },
    )
    const instance = await place.driver.start(version)
    expect((await ask(instance.socketPath, '/', event)).text).toBe('2')
    await instance.stop({ graceMs: 5_000 })
    await nothingLeft()
  })

  test('whose sandbox ends is ended, because nobody reaches it any more', async () => {
    const instance = await place.driver.start(await serverVersion(place.engine, SERVER))
    const sandboxPid = place.driver.pids().find((pid) => pid !== instance.pid)!
    process.kill(sandboxPid, 'SIGKILL')
    expect(await instance.exited).toMatchObject({
      cause: 'crashed',
      message: 'the sandbox of its network has ended',
    })
    await nothingLeft()
  })

  test('one that takes too much memory, or exits, is reported as such', async () => {
    const eater = await place.driver.start(
      await serverVersion(
        place.engine,
        "require('http').createServer(() => { const k = []; for (;;) k.push(Buffer.alloc(1 << 20, 1)) }).listen(8080)",
        { limits: { memoryMib: 96 } },
      ),
    )
    // Whatever its forwarder makes of a connection that breaks.
    await ask(eater.socketPath).catch(() => undefined)
    expect(await eater.exited).toMatchObject({
      cause: 'out_of_memory',
      message: 'memory limit of 96 MiB reached',
    })
    const leaver = await place.driver.start(
      await serverVersion(
        place.engine,
        "require('http').createServer(() => { console.error('bye'); process.exit(4) }).listen(8080)",
      ),
    )
    await ask(leaver.socketPath).catch(() => undefined)
    expect(await leaver.exited).toMatchObject({ cause: 'crashed', message: 'exit code 4', detail: 'bye' })
    await nothingLeft()
  })

  test.each([
    [
      'listens nowhere',
      'setInterval(() => {}, 1000)',
      'it did not listen on port 8080 within 4000 ms: listen on 0.0.0.0:$PORT, or set "port" to where it listens',
    ],
    ['exits', "console.error('no configuration'); process.exit(9)", 'exit code 9: no configuration'],
  ])('one that %s does not start, says so, and leaves nothing', async (_, script, words) => {
    const { code, message } = await failure(place.driver.start(await serverVersion(place.engine, script)))
    expect(code).toBe('start_failed')
    expect(message).toBe(`function "tested" did not start: ${words}`)
    await nothingLeft()
  })

  test('one whose command is not in it does not start', async () => {
    const { imageId } = (await serverVersion(place.engine, '')).content.source as { imageId: string }
    const { code, message } = await failure(
      place.driver.start(
        versionOf({
          protocol: 'http',
          source: { type: 'image', imageId, entryPoint: ['/no/such/program'], command: [] },
        }),
      ),
    )
    expect(code).toBe('start_failed')
    expect(message).toContain('/no/such/program')
    await nothingLeft()
  })

  test('an image that is not here is refused', async () => {
    const source = { type: 'image', imageId: `sha256:${'0'.repeat(64)}` } as const
    const { code, message } = await failure(place.driver.start(versionOf({ protocol: 'http', source })))
    expect(code).toBe('version_refused')
    expect(message).toContain('is not on this node: build, load or pull it')
    await nothingLeft()
  })

  test('closing ends what runs, what waits and what is starting', async () => {
    const own = await openContainerPlace({ startTimeoutMs: 60_000 })
    own.driver.keepBlanks('sandbox', 1)
    await own.blanks(1)
    const instance = await own.driver.start(await codeVersion('export const handler = async () => 1'))
    const starting = failure(own.driver.start(await codeVersion('for (;;) {}')))
    await expect.poll(() => own.driver.pids().length, { timeout: 10_000 }).toBeGreaterThan(2)
    await own.end()
    expect((await instance.exited).cause).toBe('stopped')
    expect((await starting).code).toBe('draining')
    expect(await own.containers()).toEqual([])
    expect(own.driver.pids()).toEqual([])
    await expect(own.driver.start(await codeVersion('export const handler = 1'))).rejects.toMatchObject({
      code: 'draining',
    })
  })
})
