import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startHttpInstance, startRawInstance } from '../harness/fake-instance.ts'
import { hello, startTestRouter, type TestRouter } from '../harness/router-process.ts'

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

const get = (router: TestRouter, path = '/'): string => `GET ${path} HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`

test('with the agent gone the router serves on; the next agent is told where it stands', async () => {
  await using router = await startTestRouter()
  await router.apply([hello()], 7)
  router.undo.use(
    await startHttpInstance(router.socketPath('one'), (_request, response) => response.end('ok')),
  )
  router.up('one')
  router.agent.close()
  for (let count = 0; count < 3; count++) expect((await router.ask(get(router))).status).toBe(200)
  const waiting = await router.open()
  waiting.send(`GET /unanswered HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`)
  expect((await waiting.response()).status).toBe(200)
  waiting.socket.destroy()

  const agent = await router.connectAgent()
  expect(await agent.heard('hello')).toMatchObject({
    type: 'hello',
    pid: router.pid,
    httpHost: '127.0.0.1',
    httpPort: router.port,
    generation: 7,
  })
  const { versions, instances } = await agent.heard('load')
  expect(instances).toEqual([{ id: 'one', inFlight: 0, progress: 4, started: 4, paused: false }])
  expect(versions).toEqual([
    {
      functionName: 'hello',
      versionId: 'hello-v1',
      inFlight: 0,
      queued: 0,
      requests: 4,
      concurrency: expect.any(Number),
    },
  ])
  const { lines, dropped } = await agent.heard('log')
  expect([lines.length, dropped]).toEqual([4, 0])
})

test('a request that waits while there is no agent is asked for again when one comes', async () => {
  await using router = await startTestRouter()
  await router.apply()
  router.agent.close()
  const asked = router.ask(get(router))
  router.agent = await router.connectAgent()
  expect(await router.agent.heard('need')).toMatchObject({ versionId: 'hello-v1', queued: 1 })
  router.undo.use(
    await startRawInstance(router.socketPath('one'), (socket) =>
      socket.write('HTTP/1.1 204 No Content\r\n\r\n'),
    ),
  )
  router.up('one')
  expect((await asked).status).toBe(204)
})

test('logs of the time without an agent are kept up to their bound, and the others counted', async () => {
  await using router = await startTestRouter({ limits: { logLinesBufferedMax: 3 } })
  await router.apply()
  router.undo.use(
    await startHttpInstance(router.socketPath('one'), (_request, response) => response.end('ok')),
  )
  router.up('one')
  await router.ask(get(router, '/seen'))
  await router.agent.heard('log')
  router.agent.close()
  for (let count = 0; count < 5; count++) await router.ask(get(router, `/${count}`))
  const { lines, dropped } = await (await router.connectAgent()).heard('log')
  expect(lines.map((line) => line.request!.path)).toEqual(['/0', '/1', '/2'])
  expect(dropped).toBe(2)
})

test('a snapshot older than the one in force is not taken', async () => {
  await using router = await startTestRouter()
  await router.apply([hello()], 5)
  router.agent.send({ type: 'snapshot', snapshot: { generation: 4, baseDomain: 'localhost', functions: [] } })
  await router.apply([hello()], 5)
  expect(router.agent.messages.filter(({ type }) => type === 'applied')).toHaveLength(2)
  expect(router.stderr()).toContain('snapshot 4 is older than 5')
})

test('a snapshot that cannot be read leaves the one in force', async () => {
  await using router = await startTestRouter()
  await router.apply([hello()], 5)
  router.agent.send({
    type: 'snapshot',
    snapshot: {
      generation: 6,
      baseDomain: 'localhost',
      functions: [{ ...hello(), patterns: ['http://x/'] }],
    },
  })
  await router.apply([hello()], 7)
  expect(router.stderr()).toContain('snapshot 6 cannot be taken, 5 stays in force')
})

test('an agent that names the instances anew takes the others out; what runs on them goes on', async () => {
  await using router = await startTestRouter()
  await router.apply()
  await using one = await startRawInstance(router.socketPath('one'))
  router.up('one')
  const asked = router.ask(get(router, '/old'))
  await one.until((text) => text.endsWith('\r\n\r\n'))
  router.agent = await router.connectAgent()
  await using two = await startRawInstance(router.socketPath('two'), (socket) =>
    socket.write('HTTP/1.1 204 No Content\r\n\r\n'),
  )
  const instance = {
    id: 'two',
    functionName: 'hello',
    versionId: 'hello-v1',
    socketPath: router.socketPath('two'),
  }
  router.agent.send({ type: 'instances', instances: [instance] })
  expect((await router.ask(get(router, '/new'))).status).toBe(204)
  expect(two.received()).toContain('/new')
  one.connections[0]!.write('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold')
  expect((await asked).body.toString()).toBe('old')
  await router.agent.heard('instance-drained', ({ id }) => id === 'one')
  await one.openConnections(0)
})

test('of two agents the later one counts', async () => {
  await using router = await startTestRouter()
  await router.apply([hello()], 3)
  const first = router.agent
  router.agent = await router.connectAgent()
  await router.agent.heard('hello')
  first.send({ type: 'shutdown', timeoutMs: 1 })
  await router.apply([hello()], 4)
  expect((await router.ask('GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n')).status).toBe(404)
})

test('a line that is no message ends the connection to that agent, not the router', async () => {
  await using router = await startTestRouter()
  await router.apply()
  const socket = connect(router.controlSocketPath)
  await once(socket, 'connect')
  socket.write('nonsense\n')
  socket.resume()
  await once(socket, 'close')
  const agent = await router.connectAgent()
  await agent.heard('hello')
})

test('a deploy under load: each request is answered by the old version or the new, none fails', async () => {
  await using router = await startTestRouter({ policy: { concurrency: 4 } })
  await router.apply()
  const answer = (name: string) => (_request: unknown, response: { end(text: string): void }) =>
    void setImmediate(() => response.end(name))
  router.undo.use(await startHttpInstance(router.socketPath('one'), answer('v1')))
  router.undo.use(await startHttpInstance(router.socketPath('two'), answer('v2')))
  router.up('one')
  const seen: string[] = []
  const load = { going: true }
  const worker = async (): Promise<void> => {
    const client = await router.open()
    while (load.going) {
      client.send(get(router))
      const response = await client.response()
      expect(response.status).toBe(200)
      seen.push(response.body.toString())
    }
    client.socket.destroy()
  }
  const workers = Array.from({ length: 8 }, worker)
  for (let round = 0; round < 10; round++) {
    const [version, id] = round % 2 === 0 ? (['hello-v2', 'two'] as const) : (['hello-v1', 'one'] as const)
    const other = id === 'one' ? 'two' : 'one'
    router.up(id, { versionId: version })
    await router.apply([{ ...hello({ concurrency: 4 }), shares: [{ versionId: version, percent: 100 }] }])
    const answered = seen.length
    router.agent.send({ type: 'instance-drain', id: other })
    await router.agent.heard('instance-drained', ({ id }) => id === other)
    router.agent.send({ type: 'instance-gone', id: other, cause: 'stopped', message: '' })
    while (seen.length < answered + 20) await new Promise((resolve) => setImmediate(resolve))
  }
  load.going = false
  await Promise.all(workers)
  expect(new Set(seen)).toEqual(new Set(['v1', 'v2']))
})

test('shutdown: the port closes, what is in flight finishes with "connection: close", then it says so and ends', async () => {
  await using router = await startTestRouter()
  await router.apply()
  await using one = await startRawInstance(router.socketPath('one'))
  router.up('one')
  const idle = await router.open()
  idle.send('GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n')
  await idle.response()
  const asked = router.ask(get(router))
  await one.until((text) => text.endsWith('\r\n\r\n'))
  router.agent.send({ type: 'shutdown', timeoutMs: 60_000 })
  await idle.closed()
  // What the kernel had accepted for the closed port is reset; then it is refused.
  while (await isOpen(router.port));
  one.connections[0]!.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  const response = await asked
  expect([response.status, response.headers.connection]).toEqual([200, 'close'])
  await router.agent.heard('drained')
  expect(await router.exit()).toBe(0)
  const { lines } = await router.agent.heard('log')
  expect(lines[0]!.request).toMatchObject({ status: 200 })
})

test('shutdown at its deadline: who waits is told, what still runs is cut', async () => {
  await using router = await startTestRouter()
  await router.apply([hello({ concurrency: 1 })])
  await using one = await startRawInstance(router.socketPath('one'))
  router.up('one')
  const running = await router.open()
  running.send(get(router))
  await one.until((text) => text.endsWith('\r\n\r\n'))
  const waiting = router.ask(get(router))
  await router.agent.heard('need')
  router.agent.send({ type: 'shutdown', timeoutMs: 100 })
  const response = await waiting
  expect([response.status, response.headers['x-isola-error']]).toEqual([503, 'draining'])
  await running.closed()
  expect(await router.exit()).toBe(0)
})

test('SIGINT is not for the router; SIGTERM drains it', async () => {
  await using router = await startTestRouter()
  await router.apply()
  router.process.kill('SIGINT')
  expect((await router.ask('GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n')).status).toBe(404)
  router.process.kill('SIGTERM')
  expect(await router.exit()).toBe(0)
})

test('a router that no agent ever speaks to ends; one whose agent died does not', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'isola-router-lonely-'))
  const main = new URL('../../router/main.ts', import.meta.url).pathname
  const lonely = spawn(process.execPath, [
    main,
    '--socket',
    `${directory}/c.sock`,
    '--http',
    '127.0.0.1:0',
    '--limit',
    'agentWaitMs=100',
  ])
  const exited = once(lonely, 'exit')
  await using router = await startTestRouter({ limits: { agentWaitMs: 100 } })
  await router.apply()
  router.agent.close()
  const [code] = await exited
  expect(code).toBe(0)
  rmSync(directory, { recursive: true, force: true })
  expect((await router.ask('GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n')).status).toBe(404)
})

test('a router that no agent can reach any more ends: its data directory is gone', async () => {
  await using router = await startTestRouter({ limits: { agentWaitMs: 100 } })
  await router.apply()
  router.agent.close()
  rmSync(router.controlSocketPath)
  expect(await router.exit()).toBe(0)
  expect(router.stderr()).toContain('is gone')
})

test.each([
  [['--http', '127.0.0.1:0'], '--socket is missing'],
  [['--socket', 'x', '--http', '8080'], '--http "8080" is no address'],
  [['--socket', 'x', '--trusted-proxies', '10.0.0.0/33'], 'trusted proxy "10.0.0.0/33" is no address block'],
  [['--socket', 'x', '--limit', 'speed=1'], '--limit "speed=1" is not usable'],
  [['--socket', 'x', '--nonsense'], '--nonsense'],
])('a wrong command line is refused with what is wrong: %j', async (argv, message) => {
  const main = new URL('../../router/main.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [main, ...argv], { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const [code] = await once(child, 'close')
  expect(code).toBe(1)
  expect(stderr).toContain(message)
})

test('requests that come before the first snapshot are served by it, and those who leave meanwhile are forgotten', async () => {
  await using router = await startTestRouter()
  const clients = await Promise.all([router.open(), router.open(), router.open()])
  for (const client of clients) client.send(get(router, '/early'))
  clients[0].socket.destroy()
  router.undo.use(
    await startHttpInstance(router.socketPath('one'), (_request, response) => response.end('served')),
  )
  // What is malformed needs no route: its answer shows that those who came before have been read.
  expect((await router.ask('GET / HTTP/1.1\r\n\r\n')).status).toBe(400)
  await router.apply([hello()])
  router.up('one')
  for (const client of clients.slice(1)) expect((await client.response()).body.toString()).toBe('served')
})

test('a router that gets no snapshot tells those who wait for it to try again', async () => {
  await using router = await startTestRouter({ limits: { firstSnapshotWaitMs: 100, waitingRequestsMax: 1 } })
  const [first, second] = await Promise.all([router.open(), router.open()])
  first.send(get(router))
  second.send(get(router))
  const answers = await Promise.all([first.response(), second.response()])
  expect(answers.map(({ status, headers }) => [status, headers['retry-after']])).toEqual([
    [503, '1'],
    [503, '1'],
  ])
  const messages = answers.map(({ body }) => body.toString()).join()
  expect(messages).toContain('within 100 ms')
  expect(messages).toContain('too many requests wait')
})
