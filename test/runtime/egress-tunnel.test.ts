import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { connect, createServer as createTcpServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { afterEach, describe, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { listenLocally, sendRaw, startEgress } from '../harness/egress.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

async function start(options: Parameters<typeof startEgress>[0] = {}) {
  const egress = await startEgress(options)
  cleanups.push(() => egress.close())
  return egress
}

async function startTcp(onSocket: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    onSocket(socket)
  })
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return listenLocally(server)
}

/** Opens a tunnel with CONNECT; resolves once the proxy has answered 200. */
async function connectThrough(socketPath: string, authority: string, allowHalfOpen = false): Promise<Socket> {
  const socket = connect({ path: socketPath, allowHalfOpen })
  cleanups.push(() => socket.destroy())
  socket.on('error', () => undefined)
  socket.write(`CONNECT ${authority} HTTP/1.1\r\n\r\n`)
  const established = 'HTTP/1.1 200 Connection Established\r\n\r\n'
  const [head] = (await once(socket, 'data')) as [Buffer]
  expect(head.subarray(0, established.length).toString()).toBe(established)
  socket.pause()
  if (head.length > established.length) socket.unshift(head.subarray(established.length))
  return socket
}

describe('a TCP connection', () => {
  test('carries bytes both ways, and each direction ends by itself', async () => {
    const port = await startTcp((socket) => {
      const chunks: Buffer[] = []
      socket.on('data', (chunk) => chunks.push(chunk))
      // Answers only after the end of what it reads.
      socket.on('end', () => socket.end(`got ${Buffer.concat(chunks).toString()}`))
    })
    const egress = await start()
    const socket = await connectThrough(egress.socketPath, `localhost:${port}`, true)
    socket.end('hello')
    socket.resume()
    const [answer] = (await once(socket, 'data')) as [Buffer]
    expect(answer.toString()).toBe('got hello')
    await once(socket, 'end')
  })

  test('delivers all 20 MB that a server sent before it closed, to a slow reader', async () => {
    const bytes = Buffer.alloc(20 * 1024 * 1024, 'x')
    const port = await startTcp((socket) => socket.end(bytes))
    const egress = await start()
    const socket = await connectThrough(egress.socketPath, `127.0.0.1:${port}`)
    let length = 0
    const ended = once(socket, 'end')
    socket.on('data', (chunk: Buffer) => {
      length += chunk.length
      socket.pause()
      setImmediate(() => socket.resume())
    })
    socket.resume()
    await ended
    expect(length).toBe(bytes.length)
  })

  test('is passed what came with the CONNECT itself', async () => {
    const port = await startTcp((socket) => socket.pipe(socket))
    const egress = await start()
    const socket = connect(egress.socketPath)
    cleanups.push(() => socket.destroy())
    socket.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\nearly`)
    let text = ''
    while (!text.endsWith('early')) text += String(((await once(socket, 'data')) as [Buffer])[0])
  })

  test('is closed at the server when the function goes away, and the other way round', async () => {
    const accepted: Socket[] = []
    const port = await startTcp((socket) => void accepted.push(socket.resume()))
    const egress = await start()
    const first = await connectThrough(egress.socketPath, `127.0.0.1:${port}`)
    const closed = once(accepted[0] as Socket, 'end')
    first.destroy()
    await closed
    const second = await connectThrough(egress.socketPath, `127.0.0.1:${port}`)
    const cut = once(second, 'close')
    second.resume()
    accepted[1]?.resetAndDestroy()
    await cut
  })

  test('on which nothing moves is closed', async () => {
    const port = await startTcp((socket) => void socket.resume())
    const egress = await start({ limits: { tunnelIdleTimeoutMs: 30 } })
    const socket = await connectThrough(egress.socketPath, `127.0.0.1:${port}`)
    await once(socket.resume(), 'close')
  })

  test('ends with its instance', async () => {
    const port = await startTcp((socket) => void socket.resume())
    const egress = await start()
    const socket = await connectThrough(egress.socketPath, `127.0.0.1:${port}`)
    const closed = once(socket.resume(), 'close')
    await egress.proxy.handle({ type: 'close', id: 'i1' })
    await closed
    await expect(once(connect(egress.socketPath), 'connect')).rejects.toMatchObject({ code: 'ENOENT' })
  })

  test('counts among the requests an instance may have open', async () => {
    const port = await startTcp((socket) => void socket.on('end', () => socket.end()).resume())
    const egress = await start({ limits: { requestsPerInstanceMax: 2 } })
    const authority = `127.0.0.1:${port}`
    const first = await connectThrough(egress.socketPath, authority)
    await connectThrough(egress.socketPath, authority)
    const refused = await sendRaw(egress.socketPath, `CONNECT ${authority} HTTP/1.1\r\n\r\n`)
    expect(refused).toMatch(/^HTTP\/1\.1 403 [^]*2 outgoing requests open/)
    first.destroy()
    // The place is free when the proxy has seen the end, which shows in a new connection being let in.
    for (;;) {
      const socket = connect(egress.socketPath)
      cleanups.push(() => socket.destroy())
      socket.write(`CONNECT ${authority} HTTP/1.1\r\n\r\n`)
      const [head] = (await once(socket, 'data')) as [Buffer]
      if (head.toString().startsWith('HTTP/1.1 200')) break
    }
  })

  test('that fails is answered 502 with the reason', async () => {
    const server = createTcpServer()
    const port = await listenLocally(server)
    await new Promise((resolve) => server.close(resolve))
    const egress = await start()
    const text = await sendRaw(egress.socketPath, `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`)
    expect(text).toMatch(/^HTTP\/1\.1 502 [^]*"egress_failed"[^]*ECONNREFUSED/)
  })
})

describe('a WebSocket', () => {
  /** A client that speaks to the proxy as workerd does: absolute target, no `Host` needed. */
  function open(socketPath: string, target: string): WebSocket {
    const client = new WebSocket('ws://proxy.invalid/', {
      createConnection: () => connect(socketPath),
      finishRequest: (request: IncomingMessage & { path: string; end: () => void }) => {
        request.path = target
        request.end()
      },
    } as unknown as ConstructorParameters<typeof WebSocket>[2])
    cleanups.push(() => client.terminate())
    return client
  }

  async function startWebSocketServer(onConnection: (socket: WebSocket, request: IncomingMessage) => void) {
    const server = createServer((_request, response) => {
      response.writeHead(426, { 'x-why': 'no' }).end('not here')
    })
    const webSockets = new WebSocketServer({ noServer: true })
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      if (request.url === '/refuse') {
        socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\nX-Why: token\r\n\r\ngo in')
        return
      }
      webSockets.handleUpgrade(request, socket, head, (webSocket) => onConnection(webSocket, request))
    })
    cleanups.push(() => {
      for (const client of webSockets.clients) client.terminate()
      server.closeAllConnections()
      server.close()
    })
    return listenLocally(server)
  }

  test('is tunnelled with host, path and subprotocol, messages both ways, and a close code', async () => {
    let seen: IncomingMessage | undefined
    const port = await startWebSocketServer((socket, request) => {
      seen = request
      socket.send('welcome')
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
      socket.on('close', (code) => void code)
    })
    const egress = await start()
    const client = open(egress.socketPath, `http://chat.example:${port}/room?id=1`)
    const [welcome] = (await once(client, 'message')) as [Buffer]
    expect(welcome.toString()).toBe('welcome')
    expect([seen?.headers.host, seen?.url]).toEqual([`chat.example:${port}`, '/room?id=1'])
    const large = Buffer.alloc(300_000, 7)
    client.send(large)
    const [echoed] = (await once(client, 'message')) as [Buffer]
    expect(echoed.equals(large)).toBe(true)
    client.close(4_001, 'bye')
    const [code] = (await once(client, 'close')) as [number]
    expect(code).toBe(4_001)
  })

  test('that the server refuses gets the server’s own answer', async () => {
    const port = await startWebSocketServer(() => undefined)
    const egress = await start()
    const client = open(egress.socketPath, `http://127.0.0.1:${port}/refuse`)
    client.on('error', () => undefined)
    const [, answer] = (await once(client, 'unexpected-response')) as [unknown, IncomingMessage]
    expect([answer.statusCode, answer.headers['x-why']]).toEqual([401, 'token'])
    const [body] = (await once(answer, 'data')) as [Buffer]
    expect(body.toString()).toBe('go in')
  })

  test('to a refused address gets 403, to a dead one 502', async () => {
    const server = createTcpServer()
    const port = await listenLocally(server)
    await new Promise((resolve) => server.close(resolve))
    const egress = await start()
    for (const [host, status] of [
      [`127.0.0.1:${port}`, 502],
      ['10.0.0.1', 403],
    ] as const) {
      const client = open(egress.socketPath, `http://${host}/`)
      client.on('error', () => undefined)
      const [, answer] = (await once(client, 'unexpected-response')) as [unknown, IncomingMessage]
      expect(answer.statusCode).toBe(status)
    }
  })

  test('reaches an origin of its function', async () => {
    const port = await startWebSocketServer((socket, request) => socket.send(request.headers.host ?? ''))
    const origins = { shop: [{ pattern: 'site.example', origin: `http://127.0.0.1:${port}` }] }
    const egress = await start({ rules: { allowedCidrs: [], origins } })
    const client = open(egress.socketPath, 'http://site.example/socket')
    const [host] = (await once(client, 'message')) as [Buffer]
    expect(host.toString()).toBe('site.example')
  })

  test('whose server dies in the handshake gets 502', async () => {
    const port = await startTcp((socket) => socket.once('data', () => socket.destroy()))
    const egress = await start()
    const client = open(egress.socketPath, `http://127.0.0.1:${port}/`)
    client.on('error', () => undefined)
    const [, answer] = (await once(client, 'unexpected-response')) as [unknown, IncomingMessage]
    expect(answer.statusCode).toBe(502)
  })
})
