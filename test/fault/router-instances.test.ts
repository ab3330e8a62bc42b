import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { unlinkSync } from 'node:fs'
import type { Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import { startRawInstance } from '../harness/fake-instance.ts'
import { hello, startTestRouter, type RawResponse, type TestRouter } from '../harness/router-process.ts'

async function aRouter(options: Parameters<typeof startTestRouter>[0] = {}): Promise<TestRouter> {
  const router = await startTestRouter(options)
  await router.apply([hello(options.policy)])
  return router
}

const get = (router: TestRouter, path = '/'): string => `GET ${path} HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`
const post = (router: TestRouter, body: string): string =>
  `POST / HTTP/1.1\r\nHost: ${router.host}\r\nContent-Length: ${body.length}\r\n\r\n${body}`

const answerOk = (socket: Socket, received: string): void => {
  if (/\r\n\r\n/.test(received)) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
}

const codeOf = (response: RawResponse): string =>
  (JSON.parse(response.body.toString()) as { error: { code: string } }).error.code

/**
 * A process of its own that listens and reads nothing (`deaf`), one read of each connection (`sipping`), or everything
 * (`mute`), and never answers: what the kernel says of its connections when it is killed is what the router lives by.
 */
async function startVictim(
  socketPath: string,
  kind: 'deaf' | 'sipping' | 'mute',
): Promise<{ kill(): Promise<void>; reads(text: string): Promise<void> }> {
  const onSocket = {
    deaf: `console.log('accepted')`,
    sipping: `socket.once('data', () => { socket.pause(); console.log('sipped') })`,
    mute: `socket.on('data', (chunk) => console.log(chunk.toString()))`,
  }
  const script = `
    const server = require('net').createServer({ pauseOnConnect: ${kind === 'deaf'} }, (socket) => { ${onSocket[kind]} })
    server.listen(${JSON.stringify(socketPath)}, () => console.log('listening'))`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const reads = async (text: string): Promise<void> => {
    while (!output.includes(text)) await once(child.stdout, 'data')
  }
  await reads('listening')
  return {
    reads,
    async kill() {
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
  }
}

describe('an instance that ends before it has answered:', () => {
  test.each([
    ['cpu_limit', 503, 'cpu_limit_exceeded'],
    ['out_of_memory', 503, 'memory_limit_exceeded'],
    ['node_out_of_memory', 503, 'node_full'],
    ['crashed', 502, 'instance_crashed'],
    ['killed', 502, 'instance_crashed'],
    ['stopped', 503, 'draining'],
  ] as const)('%s is answered %i %s, with what the agent says about it', async (cause, status, code) => {
    await using router = await aRouter()
    const victim = await startVictim(router.socketPath('one'), 'mute')
    router.up('one')
    const asked = [router.ask(get(router, '/a')), router.ask(get(router, '/b'))]
    await victim.reads('/a')
    await victim.reads('/b')
    // One hears of the cause before the connection breaks, as the watchdog tells it; the others after.
    if (cause === 'cpu_limit')
      router.agent.send({ type: 'instance-gone', id: 'one', cause, message: 'told why' })
    await victim.kill()
    if (cause !== 'cpu_limit')
      router.agent.send({ type: 'instance-gone', id: 'one', cause, message: 'told why' })
    for (const response of await Promise.all(asked)) {
      expect(response.status).toBe(status)
      expect(JSON.parse(response.body.toString())).toMatchObject({
        error: { code, message: expect.stringContaining('told why') },
      })
    }
    const { lines } = await router.agent.heard('log', ({ lines }) =>
      lines.some((line) => line.request?.error === code),
    )
    expect(lines[0]).toMatchObject({ instanceId: 'one', level: 'error', request: { status } })
  })

  test('without a word from the agent it is a crash, after a moment', async () => {
    await using router = await aRouter({ limits: { causeWaitMs: 50 } })
    const victim = await startVictim(router.socketPath('one'), 'mute')
    router.up('one')
    const asked = router.ask(get(router, '/a'))
    await victim.reads('/a')
    await victim.kill()
    const response = await asked
    expect([response.status, codeOf(response)]).toEqual([502, 'instance_crashed'])
  })

  test("the agent's word counts although the instance does not close its connections", async () => {
    await using router = await aRouter({ limits: { causeWaitMs: 50 } })
    await using instance = await startRawInstance(router.socketPath('one'))
    router.up('one')
    const asked = router.ask(get(router))
    await instance.until((text) => text.endsWith('\r\n\r\n'))
    router.agent.send({ type: 'instance-gone', id: 'one', cause: 'out_of_memory', message: 'limit reached' })
    expect(codeOf(await asked)).toBe('memory_limit_exceeded')
  })

  test('an answer that was already on its way still arrives', async () => {
    await using router = await aRouter()
    await using instance = await startRawInstance(router.socketPath('one'))
    router.up('one')
    const asked = router.ask(get(router))
    await instance.until((text) => text.endsWith('\r\n\r\n'))
    router.agent.send({ type: 'instance-gone', id: 'one', cause: 'stopped', message: '' })
    instance.connections[0]!.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    expect((await asked).body.toString()).toBe('ok')
  })

  test('a request that it never read is sent to another instance', async () => {
    await using router = await aRouter({ policy: { concurrency: 10 } })
    const victim = await startVictim(router.socketPath('one'), 'deaf')
    router.up('one')
    const asked = [router.ask(get(router, '/a')), router.ask(get(router, '/b'))]
    await victim.reads('accepted\naccepted')
    router.undo.use(await startRawInstance(router.socketPath('two'), answerOk))
    router.up('two')
    await victim.kill()
    for (const response of await Promise.all(asked))
      expect([response.status, response.body.toString()]).toEqual([200, 'ok'])
    await router.agent.heard('instance-unreachable', ({ id }) => id === 'one').catch(() => undefined)
  })

  test('a request with a body that it may have read is not sent again', async () => {
    await using router = await aRouter({ limits: { causeWaitMs: 50, heldBodyBytesMax: 1_000_000 } })
    const victim = await startVictim(router.socketPath('one'), 'sipping')
    router.up('one')
    const asked = router.ask(post(router, 'x'.repeat(500_000)))
    await victim.reads('sipped')
    await using other = await startRawInstance(router.socketPath('two'), answerOk)
    router.up('two')
    await victim.kill()
    expect(codeOf(await asked)).toBe('instance_crashed')
    expect(other.received()).toBe('')
  })
})

test('an instance that ends in the middle of its answer breaks the answer off', async () => {
  await using router = await aRouter()
  await using instance = await startRawInstance(router.socketPath('one'), (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n')
  })
  router.up('one')
  const client = await router.open()
  client.send(get(router))
  await client.until((text) => text.includes('hello'))
  router.agent.send({ type: 'instance-gone', id: 'one', cause: 'cpu_limit', message: 'burnt' })
  for (const connection of instance.connections) connection.destroy()
  expect(await client.closed()).not.toMatch(/0\r\n\r\n$/)
  client.socket.destroy()
  const { lines } = await router.agent.heard('log')
  expect(lines[0]!.request).toMatchObject({ status: 200, error: 'cpu_limit_exceeded' })
})

test('an instance that nobody listens for is reported, left out, and its requests go to another', async () => {
  await using router = await aRouter()
  router.up('ghost')
  const asked = [router.ask(get(router)), router.ask(post(router, 'body'))]
  const report = await router.agent.heard('instance-unreachable')
  expect(report).toMatchObject({ id: 'ghost', message: expect.stringContaining('ENOENT') })
  await router.agent.heard('need')
  await using other = await startRawInstance(router.socketPath('one'), answerOk)
  router.up('one')
  for (const response of await Promise.all(asked)) expect(response.status).toBe(200)
  expect(other.received()).toContain('\r\n\r\nbody')
  expect(router.agent.messages.filter(({ type }) => type === 'instance-unreachable')).toHaveLength(1)
})

test('a request tries a bounded number of instances', async () => {
  await using router = await aRouter({ limits: { attemptsMax: 3 } })
  for (const id of ['a', 'b', 'c', 'd', 'e']) router.up(id)
  const response = await router.ask(get(router))
  expect([response.status, codeOf(response)]).toEqual([502, 'instance_crashed'])
  expect(
    router.agent.messages.filter(({ type }) => type === 'instance-unreachable').length,
  ).toBeLessThanOrEqual(3)
})

describe('a kept-alive connection that the instance closes:', () => {
  test('while it is idle: the next request gets a new one', async () => {
    await using router = await aRouter()
    await using instance = await startRawInstance(router.socketPath('one'), answerOk)
    router.up('one')
    for (let count = 0; count < 20; count++) {
      expect((await router.ask(count % 2 === 0 ? get(router) : post(router, 'x'))).status).toBe(200)
      for (const connection of instance.connections) connection.end()
    }
    expect(instance.accepted).toBeGreaterThan(10)
  })

  test('at any moment, under load: no request that can be sent again fails', async () => {
    await using router = await aRouter()
    let answers = 0
    await using instance = await startRawInstance(router.socketPath('one'), (socket) => {
      answers++
      // With its last answer, like a server that has served enough on one connection but does not say so.
      const close = answers % 3 === 0
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', () => close && socket.destroy())
    })
    router.up('one')
    const worker = async (): Promise<void> => {
      const client = await router.open()
      for (let count = 0; count < 100; count++) {
        client.send(get(router))
        expect((await client.response()).status).toBe(200)
      }
      client.socket.destroy()
    }
    await Promise.all([worker(), worker(), worker(), worker()])
    expect(instance.accepted).toBeGreaterThan(50)
  })
})

test('more connections than an instance can take in at once wait for it, as long as it is not too long', async () => {
  const script = (path: string): string =>
    `require('net').createServer((socket) => socket.on('data', () => socket.write('HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok')))
      .listen(${JSON.stringify(path)}, 1, () => console.log('listening'))`
  await using router = await aRouter({ limits: { connectTimeoutMs: 3_000 } })
  const child = spawn(process.execPath, ['-e', script(router.socketPath('one'))], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  router.up('one')
  child.kill('SIGSTOP')
  const asked = Array.from({ length: 8 }, () => router.ask(get(router)))
  await router.agent.heard('load', ({ versions }) => (versions[0]?.requests ?? 0) > 20)
  child.kill('SIGCONT')
  for (const response of await Promise.all(asked)) expect(response.status).toBe(200)
  child.kill('SIGKILL')
})

test('an instance that takes no new connection keeps the requests it has', async () => {
  await using router = await aRouter({ limits: { causeWaitMs: 20 } })
  await using one = await startRawInstance(router.socketPath('one'))
  router.up('one')
  const asked = router.ask(get(router, '/running'))
  await one.until((text) => text.endsWith('\r\n\r\n'))
  unlinkSync(router.socketPath('one'))
  const refused = router.ask(get(router, '/refused'))
  await router.agent.heard('instance-unreachable', ({ id }) => id === 'one')
  await using two = await startRawInstance(router.socketPath('two'), answerOk)
  router.up('two')
  expect((await refused).status).toBe(200)
  expect(two.received()).toContain('/refused')
  one.connections[0]!.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  expect((await asked).status).toBe(200)
})

test('a draining instance gets nothing new, finishes what it has, is reported, and its connections close', async () => {
  await using router = await aRouter()
  await using one = await startRawInstance(router.socketPath('one'))
  router.up('one')
  const asked = router.ask(get(router, '/old'))
  await one.until((text) => text.endsWith('\r\n\r\n'))
  router.agent.send({ type: 'instance-drain', id: 'one' })
  router.undo.use(await startRawInstance(router.socketPath('two'), answerOk))
  router.up('two')
  expect((await router.ask(get(router, '/new'))).status).toBe(200)
  expect(one.received()).not.toContain('/new')
  expect(router.agent.messages.some(({ type }) => type === 'instance-drained')).toBe(false)
  one.connections[0]!.write('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold')
  expect((await asked).body.toString()).toBe('old')
  expect(await router.agent.heard('instance-drained')).toEqual({ type: 'instance-drained', id: 'one' })
  await one.openConnections(0)
  router.agent.send({ type: 'instance-drain', id: 'never-known' })
  await router.agent.heard('instance-drained', ({ id }) => id === 'never-known')
})

test('only the first request of an instance that was started for it is cold', async () => {
  await using router = await aRouter()
  const asked = router.ask(get(router, '/first'))
  await router.agent.heard('need')
  router.undo.use(await startRawInstance(router.socketPath('one'), answerOk))
  router.up('one', { cold: true })
  await asked
  await router.ask(get(router, '/second'))
  const lineOf = async (path: string): Promise<unknown> => {
    const { lines } = await router.agent.heard('log', ({ lines }) =>
      lines.some((line) => line.request?.path === path),
    )
    return lines.find((line) => line.request?.path === path)
  }
  expect(await lineOf('/first')).toMatchObject({
    source: 'request',
    level: 'info',
    functionName: 'hello',
    versionId: 'hello-v1',
    instanceId: 'one',
    message: expect.stringMatching(/^GET hello\.localhost\/first 200 [\d.]+ ms$/),
    request: { method: 'GET', host: 'hello.localhost', path: '/first', status: 200, cold: true },
  })
  expect(await lineOf('/second')).toMatchObject({ request: { cold: false } })
})

test('a request is not cold where its instance was started ahead of it', async () => {
  await using router = await aRouter()
  router.undo.use(await startRawInstance(router.socketPath('one'), answerOk))
  router.up('one', { cold: true })
  await router.agent.heard('load', ({ instances }) => instances.some(({ id }) => id === 'one'))
  await router.ask(get(router, '/first'))
  const { lines } = await router.agent.heard('log', ({ lines }) => lines.length > 0)
  expect(lines).toEqual([expect.objectContaining({ request: expect.objectContaining({ cold: false }) })])
})

test('the queue is served in its order as slots come back', async () => {
  await using router = await aRouter({ policy: { concurrency: 1 } })
  await using one = await startRawInstance(router.socketPath('one'))
  router.up('one')
  const asked = ['/1', '/2', '/3'].map((path) => router.ask(get(router, path)))
  for (const [index, path] of ['/1', '/2', '/3'].entries()) {
    await one.until((text) => text.split('\r\n\r\n').length === index + 2)
    expect(one.received().split('GET ').at(-1)).toMatch(/^\/[123] /)
    expect(path).toMatch(/./)
    one.connections.at(-1)!.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  }
  await Promise.all(asked)
  expect(one.accepted).toBe(1)
})

test('a socket that a new instance takes over is found again', async () => {
  await using router = await aRouter()
  const first = await startRawInstance(router.socketPath('one'), answerOk)
  router.up('one')
  expect((await router.ask(get(router))).status).toBe(200)
  await first.stop()
  router.agent.send({ type: 'instance-gone', id: 'one', cause: 'crashed', message: '' })
  try {
    unlinkSync(router.socketPath('one'))
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOENT' })
  }
  router.undo.use(await startRawInstance(router.socketPath('one'), answerOk))
  router.up('one')
  expect((await router.ask(get(router))).status).toBe(200)
})
