import { readFileSync } from 'node:fs'
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type RequestListener,
  type Server,
} from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createServer as createTcpServer, type Server as TcpServer } from 'node:net'
import { once } from 'node:events'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import { errorOf, listenLocally, send, sendRaw, startEgress } from '../harness/egress.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

async function startServer(listener: RequestListener): Promise<{ port: number; server: Server }> {
  const server = createServer(listener)
  const port = await listenLocally(server)
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return { port, server }
}

async function startTcpServer(server: TcpServer): Promise<number> {
  const port = await listenLocally(server)
  cleanups.push(() => server.close())
  return port
}

async function start(options: Parameters<typeof startEgress>[0] = {}) {
  const egress = await startEgress(options)
  cleanups.push(() => egress.close())
  return egress
}

const echo: RequestListener = (request, response) => {
  const { method, url, rawHeaders } = request
  response.end(JSON.stringify({ method, url, rawHeaders }))
}

describe('a forwarded request', () => {
  test('keeps method, path, query and fields, has the host of its target, and shows nothing of the proxy', async () => {
    const { port } = await startServer(echo)
    const egress = await start()
    const answer = await send(egress.socketPath, `http://api.example:${port}/a%20b//c?d=%2F&e`, {
      method: 'DELETE',
      headers: {
        Host: 'other.example',
        'X-Case': 'Kept',
        Connection: 'close, X-Hop',
        'X-Hop': '1',
        'Proxy-Authorization': 'secret',
        TE: 'trailers',
        Expect: '100-continue',
        'Keep-Alive': 'timeout=5',
      },
    })
    expect(answer.status).toBe(200)
    expect(JSON.parse(answer.body.toString())).toEqual({
      method: 'DELETE',
      url: '/a%20b//c?d=%2F&e',
      rawHeaders: ['Host', `api.example:${port}`, 'X-Case', 'Kept', 'Connection', 'keep-alive'],
    })
  })

  test('gets status, reason, repeated and non-ASCII fields and a gzip body as they were sent', async () => {
    const zipped = gzipSync('hello'.repeat(100))
    const { port } = await startServer((_request, response) => {
      response.sendDate = false
      response.writeHead(418, 'Short And Stout', [
        'Set-Cookie',
        'a=1',
        'Set-Cookie',
        'b=2',
        'X-Latin',
        'caf\u00c3\u00a9',
        'Content-Encoding',
        'gzip',
        'Connection',
        'keep-alive, X-Hop',
        'X-Hop',
        '1',
        'Proxy-Authenticate',
        'no',
      ])
      response.end(zipped)
    })
    const egress = await start()
    const answer = await send(egress.socketPath, `http://127.0.0.1:${port}/`)
    expect(answer.status).toBe(418)
    expect(answer.body.equals(zipped)).toBe(true)
    const ofProxy = new Set(['Connection', 'Transfer-Encoding'])
    const pairs = answer.rawHeaders.flatMap((name, index) =>
      index % 2 === 0 && !ofProxy.has(name) ? [[name, answer.rawHeaders[index + 1]]] : [],
    )
    expect(pairs).toEqual([
      ['Set-Cookie', 'a=1'],
      ['Set-Cookie', 'b=2'],
      ['X-Latin', 'caf\u00c3\u00a9'],
      ['Content-Encoding', 'gzip'],
    ])
  })

  test.each([
    ['HEAD', 200, '12'],
    ['GET', 204, undefined],
    ['GET', 304, '12'],
  ])('%s answered %d has no body, and the length that the server gave', async (method, status, length) => {
    const { port } = await startServer((_request, response) => {
      response.writeHead(status, length === undefined ? {} : { 'content-length': length }).end()
    })
    const egress = await start()
    for (let round = 0; round < 2; round += 1) {
      const answer = await send(egress.socketPath, `http://127.0.0.1:${port}/`, { method })
      expect(answer).toMatchObject({ status, body: Buffer.alloc(0) })
      expect(answer.headers['content-length']).toBe(length)
    }
  })

  test.each([
    ['with a length', { 'content-length': '7' }, { 'content-length': '7' }],
    ['in chunks', { 'transfer-encoding': 'chunked' }, { 'transfer-encoding': 'chunked' }],
    ['of length 0', { 'content-length': '0' }, { 'content-length': '0' }],
  ])('carries a body %s, framed the same way', async (_how, headers, expected) => {
    const { port } = await startServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () =>
        response.end(JSON.stringify({ headers: request.headers, body: Buffer.concat(chunks).toString() })),
      )
    })
    const egress = await start()
    const body = 'content-length' in headers && headers['content-length'] === '0' ? '' : 'content'
    const answer = await send(egress.socketPath, `http://127.0.0.1:${port}/`, {
      method: 'POST',
      headers,
      body,
    })
    expect(JSON.parse(answer.body.toString())).toMatchObject({ headers: expected, body })
  })

  test('without a body says so for a method that could have one', async () => {
    const { port } = await startServer(echo)
    const egress = await start()
    const text = await sendRaw(
      egress.socketPath,
      `PROPFIND http://127.0.0.1:${port}/ HTTP/1.1\r\nConnection: close\r\n\r\n`,
    )
    expect(text).toContain('"Content-Length","0"')
  })

  test('is streamed in both directions, and the head arrives before the body', async () => {
    const { port } = await startServer((request, response) => {
      response.flushHeaders()
      request.pipe(response)
    })
    const egress = await start()
    const outgoing = httpRequest({
      socketPath: egress.socketPath,
      path: `http://127.0.0.1:${port}/`,
      method: 'POST',
      setHost: false,
    })
    outgoing.flushHeaders()
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
    for (const text of ['one', 'two', 'three']) {
      outgoing.write(text)
      const [chunk] = (await once(response, 'data')) as [Buffer]
      expect(chunk.toString()).toBe(text)
    }
    outgoing.end()
    await once(response, 'end')
  })

  test('skips 1xx answers', async () => {
    const { port } = await startServer((_request, response) => {
      response.writeEarlyHints({ link: '</style.css>; rel=preload' })
      response.writeContinue()
      response.end('done')
    })
    const egress = await start()
    const answer = await send(egress.socketPath, `http://127.0.0.1:${port}/`)
    expect([answer.status, answer.body.toString()]).toEqual([200, 'done'])
  })

  test('reuses connections of its own instance only', async () => {
    const ports = new Set<number | undefined>()
    const { port } = await startServer((request, response) => {
      ports.add(request.socket.remotePort)
      response.end()
    })
    const egress = await start()
    for (let round = 0; round < 3; round += 1) await send(egress.socketPath, `http://127.0.0.1:${port}/`)
    expect(ports.size).toBe(1)
    const socketPath = `${egress.directory}/other.sock`
    await egress.proxy.handle({ type: 'listen', id: 'i2', socketPath, uid: process.getuid?.() ?? 0 })
    await egress.proxy.handle({ type: 'assign', id: 'i2', functionName: 'shop' })
    await send(socketPath, `http://127.0.0.1:${port}/`)
    expect(ports.size).toBe(2)
  })

  test('that the server answers early gets the answer, and the connection goes on', async () => {
    const { port } = await startServer((request, response) => {
      if (request.url === '/early') response.writeHead(413, { connection: 'close' }).end('too much')
      else response.end('next')
    })
    const egress = await start()
    const body = Buffer.alloc(8 * 1024 * 1024)
    const answer = await send(egress.socketPath, `http://127.0.0.1:${port}/early`, { method: 'POST', body })
    // The server may reset the connection before its answer is read: then that is what the function is told.
    expect([413, 502]).toContain(answer.status)
    expect((await send(egress.socketPath, `http://127.0.0.1:${port}/next`)).body.toString()).toBe('next')
  })

  test('whose function gives up is aborted at the server', async () => {
    let aborted: (() => void) | undefined
    const abort = new Promise<void>((resolve) => (aborted = resolve))
    const { port } = await startServer((_request, response) => {
      response.write('first')
      response.on('close', () => aborted?.())
    })
    const egress = await start()
    const outgoing = httpRequest({
      socketPath: egress.socketPath,
      path: `http://127.0.0.1:${port}/`,
      setHost: false,
    })
    outgoing.on('error', () => undefined)
    outgoing.end()
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
    await once(response, 'data')
    outgoing.destroy()
    await abort
  })

  test('is repeated once when a kept connection turns out to be closed, unless it has a body', async () => {
    let connections = 0
    const server = createTcpServer((socket) => {
      connections += 1
      let requests = 0
      socket.on('error', () => undefined)
      socket.on('data', (chunk: Buffer) => {
        requests += 1
        if (requests === 1 && !chunk.toString().startsWith('POST'))
          socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
        else socket.destroy()
      })
    })
    const port = await startTcpServer(server)
    const egress = await start()
    const target = `http://127.0.0.1:${port}/`
    expect((await send(egress.socketPath, target)).status).toBe(200)
    expect((await send(egress.socketPath, target)).status).toBe(200)
    expect(connections).toBe(2)
    const posted = await send(egress.socketPath, target, { method: 'POST', body: 'x' })
    expect([posted.status, errorOf(posted).code]).toEqual([502, 'egress_failed'])
  })
})

describe('a request that fails', () => {
  const failures: [string, string, string | RegExp][] = [
    ['a server that closes at once', 'close', 'socket hang up'],
    ['a head that is too long', 'long', /header/i],
    ['a head that is not HTTP', 'garbage', /parse|expected|invalid/i],
  ]
  test.each(failures)('at %s is told as 502 egress_failed', async (_what, kind, expected) => {
    const server = createTcpServer((socket) => {
      socket.on('error', () => undefined)
      socket.on('data', () => {
        if (kind === 'close') socket.end()
        if (kind === 'garbage') socket.end('SSH-2.0-OpenSSH_9.9\r\n')
        if (kind === 'long') socket.end(`HTTP/1.1 200 OK\r\nX: ${'a'.repeat(70_000)}\r\n\r\n`)
      })
    })
    const port = await startTcpServer(server)
    const egress = await start()
    const answer = await send(egress.socketPath, `http://127.0.0.1:${port}/`)
    expect([answer.status, answer.headers['x-isola-error']]).toEqual([502, 'egress_failed'])
    expect(errorOf(answer).message).toMatch(expected)
    expect(errorOf(answer).message).toContain(`127.0.0.1:${port}`)
  })

  test('in the middle of the body is cut, so that it does not look complete', async () => {
    const { port } = await startServer((_request, response) => {
      response.write('half', () => response.destroy())
    })
    const egress = await start()
    await expect(send(egress.socketPath, `http://127.0.0.1:${port}/`)).rejects.toMatchObject({
      code: 'ECONNRESET',
    })
  })

  test('because nothing listens names address and reason', async () => {
    const server = createTcpServer()
    const port = await listenLocally(server)
    await new Promise((resolve) => server.close(resolve))
    const egress = await start()
    const answer = await send(egress.socketPath, `http://shop.example:${port}/`)
    expect(errorOf(answer)).toMatchObject({ code: 'egress_failed' })
    expect(errorOf(answer).message).toContain(`ECONNREFUSED 127.0.0.1:${port}`)
  })

  test('because the name does not resolve says so, also when that takes too long', async () => {
    const lookup = (hostname: string): Promise<never> =>
      hostname === 'slow.example'
        ? new Promise(() => undefined)
        : Promise.reject(Object.assign(new Error('getaddrinfo'), { code: 'ENOTFOUND' }))
    const egress = await start({ lookup, limits: { lookupTimeoutMs: 20 } })
    const unknown = await send(egress.socketPath, 'http://nowhere.example/')
    expect(errorOf(unknown)).toMatchObject({ code: 'egress_failed' })
    expect(errorOf(unknown).message).toContain('"nowhere.example" could not be resolved (ENOTFOUND)')
    const slow = await send(egress.socketPath, 'http://slow.example/')
    expect(errorOf(slow).message).toContain('(no answer in 20 ms)')
  })

  test('because the server never speaks TLS is over after the connect timeout', async () => {
    const server = createTcpServer((socket) => void socket.on('error', () => undefined).resume())
    const port = await startTcpServer(server)
    const egress = await start({ limits: { connectTimeoutMs: 50 } })
    const answer = await send(egress.socketPath, `https://127.0.0.1:${port}/`)
    expect(errorOf(answer).code).toBe('egress_failed')
    expect(errorOf(answer).message).toMatch(/no connection in \d+ ms/)
  })

  test('because the certificate is not trusted never reaches the server', async () => {
    const fixture = (name: string) => readFileSync(new URL(`../fixtures/egress/${name}`, import.meta.url))
    let requests = 0
    const server = createHttpsServer(
      { key: fixture('key.pem'), cert: fixture('certificate.pem') },
      (_request, response) => {
        requests += 1
        response.end()
      },
    )
    const port = await startTcpServer(server)
    const egress = await start()
    for (const host of ['localhost', '127.0.0.1']) {
      const answer = await send(egress.socketPath, `https://${host}:${port}/`)
      expect([answer.status, errorOf(answer).code]).toEqual([502, 'egress_failed'])
      expect(errorOf(answer).message).toMatch(/self-signed certificate/)
    }
    expect(requests).toBe(0)
  })

  test('because no byte moves for too long says so', async () => {
    const { port } = await startServer(() => undefined)
    const egress = await start({ limits: { idleTimeoutMs: 50 } })
    const answer = await send(egress.socketPath, `http://127.0.0.1:${port}/`)
    expect(errorOf(answer)).toMatchObject({ code: 'egress_failed' })
    expect(errorOf(answer).message).toContain('no byte moved in 50 ms')
  })
})
