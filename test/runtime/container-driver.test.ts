import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ask, freeze, thaw } from '../harness/isolate-driver.ts'
import {
  codeVersion,
  openContainerPlace,
  putBlob,
  versionOf,
  type ContainerPlace,
} from '../harness/container-driver.ts'
import { describeEngine } from '../harness/engine.ts'
import { LAMBDA_HEADERS } from '../../runtime/lambda/wire.ts'
import { cgroupOfProcess } from '../../runtime/machine/cgroup.ts'
import { isIsolaError } from '../../sdk/model/errors.ts'

let place: ContainerPlace

const HELLO = "export const handler = async () => 'hello'"
const invoke = { [LAMBDA_HEADERS.invoke]: 'event' }
const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`)
const failure = async (starting: Promise<unknown>): Promise<{ code: string; message: string }> => {
  const error = await starting.then(
    () => new Error('it started'),
    (thrown: unknown) => thrown,
  )
  if (!isIsolaError(error)) throw error as Error
  return { code: error.code, message: error.message }
}
const post = async (socketPath: string, event: string): Promise<void> => {
  const { promise, resolve } = Promise.withResolvers<void>()
  const asked = request(
    { socketPath, method: 'POST', headers: { host: 'test.example', ...invoke } },
    (answer) => {
      answer.resume().on('close', resolve)
    },
  )
  asked.on('error', () => resolve()).end(event)
  await promise
}
/** Nothing of it: containers, directories, processes. Blanks are. */
const nothingLeft = async (): Promise<void> => {
  await expect.poll(() => place.containers(), { timeout: 10_000 }).toEqual([])
  for (const folder of [join('r', 'c'), join('d', 'containers')]) {
    await expect.poll(() => readdirSync(join(place.directory, folder)), { timeout: 10_000 }).toEqual([])
  }
  expect(place.driver.pids()).toEqual([])
}

describeEngine('code on a platform runtime', () => {
  beforeAll(async () => {
    place = await openContainerPlace({ startTimeoutMs: 3_000 })
  })
  afterAll(() => place.end())

  test('starts without a blank, answers, is measured, and stops without a trace', async () => {
    const instance = await place.driver.start(await codeVersion(HELLO))
    expect(instance).toMatchObject({ functionName: 'tested', state: 'running', memoryMib: 256 })
    expect((await ask(instance.socketPath, '/', invoke)).text).toBe('"hello"')
    expect(readFileSync(`/proc/${instance.pid}/cmdline`, 'latin1')).toContain('client.js')
    expect(instance.usage().memoryBytes).toBeGreaterThan(4_000_000)
    expect(instance.usage().cpuMs).toBeGreaterThan(1)
    expect(await instance.pendingWork()).toBe(0)
    expect(place.driver.pids()).toContain(instance.pid)
    expect(await instance.stop({ graceMs: 5_000 })).toMatchObject({ cause: 'stopped', message: 'stopped' })
    expect(instance.state).toBe('gone')
    expect(instance.usage()).toEqual({ cpuMs: 0, memoryBytes: 0 })
    expect(isAlive(instance.pid)).toBe(false)
    await nothingLeft()
  })

  test('starts on a blank that waits, which is used once', async () => {
    const version = await codeVersion(HELLO)
    const { blankClass } = place.driver.foresee({
      kind: 'container',
      content: version.content,
      memoryMib: 256,
    })
    place.driver.keepBlanks(blankClass!, 1)
    await place.blanks(1)
    const [blank] = place.driver.blanks()
    expect(blank).toMatchObject({ blankClass: 'nodejs24/256/64' })
    expect(blank!.memoryBytes).toBeGreaterThan(4_000_000)
    const instance = await place.driver.start(version)
    expect(instance.pid).toBe(blank!.pid)
    expect((await ask(instance.socketPath, '/', invoke)).text).toBe('"hello"')
    await expect.poll(() => place.driver.blanks()[0]?.pid, { timeout: 10_000 }).toBeGreaterThan(0)
    expect(place.driver.blanks()[0]!.pid).not.toBe(instance.pid)
    place.driver.keepBlanks(blankClass!, 0)
    await instance.stop({ graceMs: 5_000 })
    await nothingLeft()
  })

  test('a blank that ends by itself is replaced, and no start gets it', async () => {
    place.driver.keepBlanks('nodejs24/128/32', 1)
    await place.blanks(1)
    const { pid } = place.driver.blanks()[0]!
    process.kill(pid, 'SIGKILL')
    await expect.poll(() => place.driver.blanks()[0]?.pid ?? pid, { timeout: 10_000 }).not.toBe(pid)
    place.driver.keepBlanks('nodejs24/128/32', 0)
    await nothingLeft()
  })

  test('has its variables, and none of the node', async () => {
    const instance = await place.driver.start(
      await codeVersion('export const handler = async () => process.env', {
        bindings: [
          { type: 'text', name: 'GREETING', text: 'good day' },
          { type: 'json', name: 'OPTIONS', json: { a: [1] } },
        ],
      }),
    )
    const environment = JSON.parse((await ask(instance.socketPath, '/', invoke)).text) as Record<
      string,
      string
    >
    expect(environment).toMatchObject({
      GREETING: 'good day',
      OPTIONS: '{"a":[1]}',
      AWS_LAMBDA_FUNCTION_NAME: 'tested',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '256',
    })
    expect(Object.keys(environment).filter((name) => name.startsWith('npm_') || name === 'VITEST')).toEqual(
      [],
    )
    instance.kill('killed')
    expect(await instance.exited).toMatchObject({ cause: 'killed', message: 'killed' })
  })

  test('writes lines with its request, its level and its instance', async () => {
    const instance = await place.driver.start(
      await codeVersion(
        "export const handler = async () => { console.warn('careful'); process.stdout.write('raw\\n'); process.stderr.write('bad\\n') }",
      ),
    )
    await ask(instance.socketPath, '/', { ...invoke, 'x-request-id': '8f5c7a10-0000-4000-8000-00000000000a' })
    const isOwn = (message: string) => (line: { instanceId?: string | undefined; message: string }) =>
      line.instanceId === instance.id && line.message === message
    expect(await place.line(isOwn('careful'))).toMatchObject({
      source: 'console',
      level: 'warn',
      functionName: 'tested',
      versionId: instance.versionId,
      requestId: '8f5c7a10-0000-4000-8000-00000000000a',
    })
    expect(await place.line(isOwn('raw'))).toMatchObject({ level: 'log' })
    expect(await place.line(isOwn('bad'))).toMatchObject({ level: 'error' })
    instance.kill('stopped')
    await instance.exited
  })

  test('has the limits in force: memory, processors, processes', async () => {
    const instance = await place.driver.start(await codeVersion(HELLO, { settings: { cpus: 0.5 } }), {
      memoryMib: 160,
    })
    expect(instance.memoryMib).toBe(160)
    const { directories } = cgroupOfProcess(instance.pid, '')!
    const value = (v1: readonly [string, string], v2: string): string =>
      readFileSync(
        directories['unified'] === undefined
          ? join(directories[v1[0]]!, v1[1])
          : join(directories['unified'], v2),
        'utf8',
      ).trim()
    expect(value(['memory', 'memory.limit_in_bytes'], 'memory.max')).toBe(String(160 * 1024 * 1024))
    expect(value(['cpu', 'cpu.cfs_quota_us'], 'cpu.max').split(' ')[0]).toBe('50000')
    expect(value(['pids', 'pids.max'], 'pids.max')).toBe('256')
    instance.setCpuWeight(250)
    expect(value(['cpu', 'cpu.shares'], 'cpu.weight')).toBe(directories['unified'] ? '250' : '2560')
    instance.setMemoryRank('first')
    expect(readFileSync(`/proc/${instance.pid}/oom_score_adj`, 'utf8').trim()).toBe('900')
    instance.kill('stopped')
    await instance.exited
  })

  test('one that is frozen is measured, answers when it is thawed, and stops frozen or not', async () => {
    const instance = await place.driver.start(await codeVersion(HELLO))
    await freeze(instance.freezer)
    expect(instance.usage().memoryBytes).toBeGreaterThan(4_000_000)
    thaw(instance.freezer!)
    expect((await ask(instance.socketPath, '/', invoke)).text).toBe('"hello"')
    await freeze(instance.freezer)
    expect(await instance.stop({ graceMs: 10_000 })).toMatchObject({ cause: 'stopped' })
    const second = await place.driver.start(await codeVersion(HELLO))
    await freeze(second.freezer)
    second.kill('cpu_limit')
    expect(await second.exited).toMatchObject({
      cause: 'cpu_limit',
      message: 'CPU limit of 3600000 ms reached without an answer',
    })
    await nothingLeft()
  })

  test('a crash ends it with its exit code and its last words, and whoever called is told', async () => {
    const instance = await place.driver.start(
      await codeVersion(
        "export const handler = () => { process.stderr.write('the end\\n'); process.exit(3) }",
      ),
    )
    const answer = await ask(instance.socketPath, '/', invoke)
    expect(JSON.parse(answer.text)).toMatchObject({
      errorType: 'Runtime.ExitError',
      errorMessage: expect.stringContaining('exit status 3') as string,
    })
    expect(await instance.exited).toMatchObject({
      cause: 'crashed',
      message: 'exit code 3',
      detail: 'the end',
    })
    expect(
      await place.line(({ message }) => message === 'ended (crashed): exit code 3: the end'),
    ).toMatchObject({
      source: 'instance',
      instanceId: instance.id,
    })
    await nothingLeft()
  })

  test('one that takes more memory than it may is ended for that', async () => {
    const instance = await place.driver.start(
      await codeVersion(
        'export const handler = () => { const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20, 1)) }',
        { limits: { memoryMib: 64 } },
      ),
    )
    const answer = await ask(instance.socketPath, '/', invoke)
    expect(JSON.parse(answer.text)).toMatchObject({ errorType: 'Runtime.OutOfMemory' })
    expect(await instance.exited).toMatchObject({
      cause: 'out_of_memory',
      message: 'memory limit of 64 MiB reached',
    })
  })

  test('a child that takes too much memory is ended alone, and is no cause of what comes later', async () => {
    const instance = await place.driver.start(
      await codeVersion(
        `import { spawnSync } from 'node:child_process'
        const eat = 'const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20, 1))'
        export const handler = async ({ end }) => end ? process.exit(3) : spawnSync(process.execPath, ['-e', eat]).signal`,
        { limits: { memoryMib: 128 } },
      ),
    )
    expect((await ask(instance.socketPath, '/', invoke)).text).toBe('"SIGKILL"')
    expect((await ask(instance.socketPath, '/', invoke)).text).toBe('"SIGKILL"')
    expect(instance.state).toBe('running')
    await post(instance.socketPath, '{"end":true}')
    expect(await instance.exited).toMatchObject({ cause: 'crashed', message: 'exit code 3' })
  })

  test('an invocation that takes too long ends its instance, in the words of the limit', async () => {
    const instance = await place.driver.start(
      await codeVersion('export const handler = () => new Promise(() => setInterval(() => {}, 1000))', {
        settings: { timeoutMs: 1_000 },
      }),
    )
    const answer = await ask(instance.socketPath, '/', invoke)
    expect(JSON.parse(answer.text)).toMatchObject({ errorType: 'Sandbox.Timedout' })
    expect(await instance.exited).toMatchObject({
      cause: 'killed',
      message: expect.stringContaining('timed out') as string,
    })
    await nothingLeft()
  })

  test('one that ignores SIGTERM is killed when the grace is over', async () => {
    const instance = await place.driver.start(await codeVersion(`process.on('SIGTERM', () => {}); ${HELLO}`))
    expect(await instance.stop({ graceMs: 100 })).toMatchObject({ cause: 'stopped' })
    expect(isAlive(instance.pid)).toBe(false)
  })

  test.each([
    ['a handler that is not there', 'export const other = 1', 'Runtime.HandlerNotFound'],
    ['a module that throws', "throw new TypeError('no luck')", 'no luck'],
    ['a syntax error', 'export const handler = (', 'Runtime.UserCodeSyntaxError'],
    ['an exit at load', "process.stderr.write('giving up\\n'); process.exit(7)", 'exit code 7: giving up'],
    ['an endless loop at load', 'for (;;) {}', '3.00 seconds'],
  ])('does not start because of %s, says so, and leaves nothing', async (_, code, words) => {
    const { code: errorCode, message } = await failure(place.driver.start(await codeVersion(code)))
    expect(errorCode).toBe('start_failed')
    expect(message).toContain('function "tested" did not start: ')
    expect(message).toContain(words)
    expect(await place.line((line) => line.message === message)).toMatchObject({ source: 'instance' })
    await nothingLeft()
  })

  test('does not start where its memory is not enough for its modules', async () => {
    const { code, message } = await failure(
      place.driver.start(
        await codeVersion(`const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20, 1)); ${HELLO}`, {
          limits: { memoryMib: 64 },
        }),
      ),
    )
    expect(code).toBe('start_failed')
    expect(message).toContain('memory limit of 64 MiB reached')
    await nothingLeft()
  })

  test('an archive that is none is refused before anything is made', async () => {
    const source = {
      type: 'code',
      runtime: 'nodejs24',
      handler: 'index.handler',
      archive: putBlob(Buffer.from('not a zip')),
    } as const
    const { code } = await failure(place.driver.start(versionOf({ protocol: 'lambda', source })))
    expect(code).toBe('version_refused')
    const missing = { ...source, archive: { sha256: 'f'.repeat(64), sizeBytes: 1 } }
    expect(
      await failure(place.driver.start(versionOf({ protocol: 'lambda', source: missing }))),
    ).toMatchObject({
      code: 'blob_missing',
    })
    await nothingLeft()
  })

  test('several start at a time, more than the engine is given at once', async () => {
    const version = await codeVersion(HELLO)
    const instances = await Promise.all(Array.from({ length: 6 }, () => place.driver.start(version)))
    expect(new Set(instances.map(({ id }) => id)).size).toBe(6)
    for (const { socketPath } of instances) {
      expect((await ask(socketPath, '/', invoke)).text).toBe('"hello"')
    }
    await Promise.all(instances.map((instance) => instance.stop({ graceMs: 5_000 })))
    await nothingLeft()
  })
})

describeEngine('all containers of a node', () => {
  test('have its budget together, and one that is ended for that is told so', async () => {
    const own = await openContainerPlace({ budget: { memoryMib: 128, cpus: 1 } })
    try {
      const eater = await own.driver.start(
        await codeVersion(
          'export const handler = () => { const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20, 1)) }',
        ),
        { memoryMib: 512 },
      )
      expect(eater.usage().memoryBytes).toBeGreaterThan(4_000_000)
      await ask(eater.socketPath, '/', invoke)
      expect(await eater.exited).toMatchObject({
        cause: 'node_out_of_memory',
        message:
          "the node's memory budget of 128 MiB for all containers was used up; this instance was below its own limit of 512 MiB",
      })
    } finally {
      await own.end()
    }
  })
})
