import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { startRawInstance } from '../harness/fake-instance.ts'
import { startTestRouter, type TestRouter } from '../harness/router-process.ts'

const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='

async function aRouter(options: Parameters<typeof startTestRouter>[0] = {}): Promise<TestRouter> {
  const router = await startTestRouter(options)
  await router.apply()
  return router
}

interface EchoInstance extends AsyncDisposable {
  readonly sockets: WebSocketServer
}

/** Echoes messages, and plain requests with 200. */
async function startEcho(router: TestRouter): Promise<EchoInstance> {
  const server = createServer((_request, response) => response.end('plain'))
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', (socket) =>
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary })),
  )
  server.listen(router.socketPath('one'))
  await once(server, 'listening')
  router.up('one')
  return {
    sockets,
    async [Symbol.asyncDispose]() {
      for (const client of sockets.clients) client.terminate()
      server.close()
      server.closeAllConnections()
    },
  }
}

async function openWebSocket(
  router: TestRouter,
  options: ConstructorParameters<typeof WebSocket>[2] = {},
): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${router.port}/chat?x=1`, ['one', 'two'], {
    headers: { host: router.host },
    ...options,
  })
  await once(socket, 'open')
  return socket
}

const handshake = (router: TestRouter, more = ''): string =>
  `GET /chat HTTP/1.1\r\nHost: ${router.host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n` +
  `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n${more}\r\n`

const accept = createHash('sha1').update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')

test('messages of any size pass both ways, with protocol, close code and reason', async () => {
  await using router = await aRouter()
  await using echo = await startEcho(router)
  const socket = await openWebSocket(router)
  expect(socket.protocol).toBe('one')
  for (const size of [0, 1, 125, 126, 65_535, 65_536, 2_000_000]) {
    const sent = Buffer.alloc(size, 'abc')
    socket.send(sent)
    const [received] = (await once(socket, 'message')) as [Buffer]
    expect(received.equals(sent), `${size} bytes`).toBe(true)
  }
  const [serverSide] = echo.sockets.clients
  const closed = once(serverSide!, 'close')
  socket.close(4001, 'enough')
  const [code, reason] = (await closed) as [number, Buffer]
  expect([code, reason.toString()]).toEqual([4001, 'enough'])
  const { lines } = await router.agent.heard('log')
  expect(lines[0]!.request).toMatchObject({ status: 101, path: '/chat', method: 'GET' })
})

test('a close by the function reaches the client with its code', async () => {
  await using router = await aRouter()
  await using echo = await startEcho(router)
  const socket = await openWebSocket(router)
  const closed = once(socket, 'close')
  for (const client of echo.sockets.clients) client.close(4002, 'done')
  const [code, reason] = (await closed) as [number, Buffer]
  expect([code, reason.toString()]).toEqual([4002, 'done'])
})

test('an open WebSocket holds its slot, counts as a sign of life at each message, and gives the slot back', async () => {
  await using router = await aRouter({ policy: { concurrency: 1 } })
  router.undo.use(await startEcho(router))
  const socket = await openWebSocket(router)
  const first = await router.agent.heard('load', ({ instances }) => instances[0]?.inFlight === 1)
  const plain = router.ask(`GET / HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`)
  await router.agent.heard('need')
  socket.send('ping')
  await once(socket, 'message')
  await router.agent.heard('load', ({ instances }) => instances[0]!.progress > first.instances[0]!.progress)
  socket.close()
  expect((await plain).body.toString()).toBe('plain')
})

test("a client that vanishes closes the function's end, and an instance that dies the client's", async () => {
  await using router = await aRouter()
  await using echo = await startEcho(router)
  const vanishing = await openWebSocket(router)
  const [serverSide] = echo.sockets.clients
  const closed = once(serverSide!, 'close')
  vanishing.terminate()
  expect((await closed)[0]).toBe(1006)
  const left = await openWebSocket(router)
  const ended = once(left, 'close')
  for (const client of echo.sockets.clients) client.terminate()
  expect((await ended)[0]).toBe(1006)
})

test('the handshake is passed as it is, and what follows it waits for the 101', async () => {
  await using router = await aRouter()
  await using instance = await startRawInstance(router.socketPath('one'))
  router.up('one')
  const client = await router.open()
  client.send(`${handshake(router)}EARLY`)
  const head = await instance.until((text) => text.endsWith('\r\n\r\n'))
  expect(head).toMatch(/^GET \/chat HTTP\/1\.1\r\n/)
  expect(head).toContain(`Sec-WebSocket-Key: ${KEY}\r\n`)
  expect(head.match(/^upgrade: .*$/gim)).toEqual(['upgrade: websocket'])
  expect(head.match(/^connection: .*$/gim)).toEqual(['connection: Upgrade'])
  client.send('MORE')
  const [upstream] = instance.connections
  upstream!.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nisola-x: y\r\n\r\nHELLO`,
  )
  const all = await client.until((text) => text.endsWith('HELLO'))
  expect(all).toMatch(/^HTTP\/1\.1 101 /)
  expect(all).toContain(`Sec-WebSocket-Accept: ${accept}\r\n`)
  expect(all).toMatch(/x-request-id: .*\r\nx-isola-version: hello-v1\r\n/)
  expect(all).not.toContain('isola-x')
  expect(await instance.until((text) => text.includes('MORE'))).toMatch(/\r\n\r\nEARLYMORE$/)
  client.socket.destroy()
})

test('a refused handshake is a normal response; nothing that follows it reaches the instance', async () => {
  await using router = await aRouter({ limits: { lingerMs: 50 } })
  const body = Buffer.alloc(3_000_000, 'x')
  await using instance = await startRawInstance(router.socketPath('one'), (socket, received) => {
    if (received.endsWith('\r\n\r\n'))
      socket.write(
        Buffer.concat([Buffer.from(`HTTP/1.1 403 No\r\nContent-Length: ${body.length}\r\n\r\n`), body]),
      )
  })
  router.up('one')
  const client = await router.open()
  client.send(`${handshake(router)}GET /hidden HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`)
  const response = await client.response()
  expect(response.status).toBe(403)
  expect(response.body.equals(body)).toBe(true)
  await client.closed()
  client.socket.destroy()
  expect(instance.received()).not.toContain('/hidden')
})

test('an instance that stays silent after a plain 200 never gets a tunnel', async () => {
  await using router = await aRouter({ limits: { lingerMs: 50 } })
  await using instance = await startRawInstance(router.socketPath('one'), (socket, received) => {
    if (received.endsWith('\r\n\r\n')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  })
  router.up('one')
  const client = await router.open()
  client.send(handshake(router))
  expect((await client.response()).body.toString()).toBe('ok')
  client.send('GET /hidden HTTP/1.1\r\n\r\n')
  await client.closed()
  client.socket.destroy()
  expect(instance.received()).not.toContain('/hidden')
})

test('a 101 that accepts nothing, or another protocol, is an invalid response', async () => {
  await using router = await aRouter()
  for (const [index, head] of [
    'Upgrade: websocket\r\n',
    `Upgrade: h2c\r\nSec-WebSocket-Accept: ${accept}\r\n`,
    `Upgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\nX Y: z\r\n`,
  ].entries()) {
    const id = `bad-${index}`
    router.undo.use(
      await startRawInstance(router.socketPath(id), (socket) =>
        socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n${head}\r\n`),
      ),
    )
    router.up(id)
    const client = await router.open()
    client.send(handshake(router))
    const response = await client.response()
    expect([response.status, response.headers['x-isola-error']]).toEqual([502, 'invalid_response'])
    client.socket.destroy()
    router.agent.send({ type: 'instance-gone', id, cause: 'stopped', message: '' })
  }
})

test('errors of the router answer a handshake like any request', async () => {
  await using router = await aRouter()
  const client = await router.open()
  client.send(handshake(router).replace(router.host, 'nobody.example'))
  const response = await client.response()
  expect([response.status, response.headers['x-isola-error'], response.headers.connection]).toEqual([
    404,
    'route_not_found',
    'close',
  ])
  await client.closed()
  client.socket.destroy()
})

test('a client that leaves before the 101 takes its request along', async () => {
  await using router = await aRouter()
  await using instance = await startRawInstance(router.socketPath('one'))
  router.up('one')
  const client = await router.open()
  client.send(handshake(router))
  await instance.until((text) => text.endsWith('\r\n\r\n'))
  client.socket.destroy()
  await instance.openConnections(0)
})

test('a client that floods before the 101 is cut off', async () => {
  await using router = await aRouter({ limits: { heldBodyBytesMax: 1_000 } })
  await using instance = await startRawInstance(router.socketPath('one'))
  router.up('one')
  const client = await router.open()
  client.send(handshake(router))
  await instance.until((text) => text.endsWith('\r\n\r\n'))
  client.send(Buffer.alloc(1_001))
  expect(await client.closed()).toBe('')
  client.socket.destroy()
  await instance.openConnections(0)
})

test('backpressure holds in a tunnel: a client that does not read stops the instance', async () => {
  await using router = await aRouter()
  await using echo = await startEcho(router)
  const socket = await openWebSocket(router)
  socket.pause()
  const [serverSide] = echo.sockets.clients
  const chunk = Buffer.alloc(1024 * 1024)
  for (let count = 0; count < 64; count++) serverSide!.send(chunk)
  let before = -1
  while (before !== serverSide!.bufferedAmount) {
    before = serverSide!.bufferedAmount
    const loads = router.agent.messages.filter(({ type }) => type === 'load').length
    await router.agent.heard(
      'load',
      () => router.agent.messages.filter(({ type }) => type === 'load').length > loads + 2,
    )
  }
  expect(before).toBeGreaterThan(30 * 1024 * 1024)
  const got = { messages: 0 }
  socket.on('message', () => got.messages++)
  socket.resume()
  while (got.messages < 64) await once(socket, 'message')
  socket.terminate()
})
