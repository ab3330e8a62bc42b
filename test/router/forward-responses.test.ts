import fc from 'fast-check'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startRawInstance, type RawInstance } from '../harness/fake-instance.ts'
import { startTestRouter, type RawResponse, type TestRouter } from '../harness/router-process.ts'

let router: TestRouter
let instance: RawInstance
let answer: (socket: Socket, head: string) => void = () => undefined

beforeAll(async () => {
  router = await startTestRouter({
    limits: { causeWaitMs: 50, responseHeadBytesMax: 4_096, responseTimeoutMs: 2_000 },
  })
  await router.apply()
  instance = await startRawInstance(router.socketPath('one'), (socket, received) => {
    if (received.endsWith('\r\n\r\n')) answer(socket, received)
  })
  router.up('one')
})

afterAll(async () => {
  await router.stop()
  await instance.stop()
})

const request = (method = 'GET'): string => `${method} / HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`

/** What a client gets when the instance sends these bytes, each piece after the one before has left. */
async function ask(
  pieces: readonly (string | Buffer)[],
  options: { method?: string; close?: boolean } = {},
): Promise<RawResponse> {
  answer = (socket) => {
    const write = (index: number): void => {
      const piece = pieces[index]
      if (piece !== undefined) {
        socket.write(typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece, () =>
          setImmediate(write, index + 1),
        )
      } else if (options.close === true) socket.end()
    }
    write(0)
  }
  return router.ask(request(options.method))
}

const OK = 'HTTP/1.1 200 OK\r\n'

describe('a response arrives as it was sent:', () => {
  const big = Buffer.alloc(300_000, 'abc')
  test.each<[string, (string | Buffer)[], string]>([
    ['whole, with a length', [`${OK}Content-Length: 5\r\n\r\nhello`], 'hello'],
    ['empty, with a length', [`${OK}Content-Length: 0\r\n\r\n`], ''],
    ['head and body apart', [`${OK}Content-Length: 5\r\n\r\n`, 'hel', 'lo'], 'hello'],
    ['byte by byte', `${OK}Content-Length: 5\r\n\r\nhello`.split(''), 'hello'],
    [
      'chunked, in one read',
      [`${OK}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n`],
      'hello',
    ],
    ['chunked and empty', [`${OK}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`], ''],
    [
      'chunked, byte by byte',
      `${OK}Transfer-Encoding: Chunked\r\n\r\n3;ext="x"\r\nhel\r\n002\r\nlo\r\n0\r\nX-Trailer: gone\r\n\r\n`.split(
        '',
      ),
      'hello',
    ],
    [
      'chunked, cut inside its framing',
      [`${OK}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r`, '\n2', '\r', '\nlo\r\n0\r\n', '\r\n'],
      'hello',
    ],
    [
      'big, in one chunk',
      [`${OK}Transfer-Encoding: chunked\r\n\r\n${big.length.toString(16)}\r\n`, big, '\r\n0\r\n\r\n'],
      big.toString(),
    ],
    [
      'big, with a length',
      [Buffer.concat([Buffer.from(`${OK}Content-Length: ${big.length}\r\n\r\n`), big])],
      big.toString(),
    ],
    [
      'bytes that are no text',
      [
        Buffer.concat([
          Buffer.from(`${OK}Content-Length: 256\r\n\r\n`),
          Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
        ]),
      ],
      Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)).toString('latin1'),
    ],
    ['without a reason', [`HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok`], 'ok'],
    [
      'after 100, 102 and 103',
      [
        `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n`,
        `HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n${OK}Content-Length: 2\r\n\r\nok`,
      ],
      'ok',
    ],
  ])('%s', async (_name, pieces, expected) => {
    const response = await ask(pieces)
    expect(response.status).toBe(200)
    expect(response.body.toString('latin1')).toBe(expected)
    expect(response.head).not.toMatch(/trailer|link/i)
  })

  test('ended by the end of the connection', async () => {
    const response = await ask([`${OK}X-A: b\r\n\r\nhel`, 'lo'], { close: true })
    expect(response.body.toString()).toBe('hello')
    expect(response.headers['transfer-encoding']).toBe('chunked')
  })

  test('from an HTTP/1.0 server', async () => {
    const response = await ask(['HTTP/1.0 200 OK\r\n\r\nhello'], { close: true })
    expect(response.body.toString()).toBe('hello')
    expect(response.head).toMatch(/^HTTP\/1\.1 200/)
  })

  test.each([204, 304])('%s has no body, and neither waits nor spoils the next response', async (status) => {
    const response = await ask([`HTTP/1.1 ${status} X\r\nETag: "a"\r\n\r\n`])
    expect([response.status, response.headers.etag]).toEqual([status, '"a"'])
    expect(response.headers['transfer-encoding']).toBeUndefined()
    expect((await ask([`${OK}Content-Length: 2\r\n\r\nok`])).body.toString()).toBe('ok')
  })

  test('HEAD has the length that GET would have, and no body', async () => {
    const response = await ask([`${OK}Content-Length: 1234\r\n\r\n`], { method: 'HEAD' })
    expect(response.headers['content-length']).toBe('1234')
    const chunked = await ask([`${OK}Transfer-Encoding: chunked\r\n\r\n`], { method: 'HEAD' })
    expect(chunked.status).toBe(200)
    expect((await ask([`${OK}Content-Length: 2\r\n\r\nok`])).body.toString()).toBe('ok')
  })

  test('a body where none may be is dropped with its connection', async () => {
    const head = await ask([`${OK}Content-Length: 5\r\n\r\nhello`], { method: 'HEAD' })
    expect([head.status, head.body.length]).toEqual([200, 0])
    const none = await ask([
      'HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged',
    ])
    expect(none.status).toBe(204)
    expect((await ask([`${OK}Content-Length: 2\r\n\r\nok`])).body.toString()).toBe('ok')
  })
})

describe('a response that is not HTTP/1.1 is 502, and its connection is not used again:', () => {
  test.each<[string, string]>([
    [
      'a length and a transfer coding',
      `${OK}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['two lengths', `${OK}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello`],
    ['a length that is no number', `${OK}Content-Length: five\r\n\r\nhello`],
    ['a negative length', `${OK}Content-Length: -5\r\n\r\nhello`],
    ['another transfer coding', `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
    ['chunked twice', `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['chunks in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['bytes behind its length', `${OK}Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n`],
    ['bytes behind its last chunk', `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nx`],
    ['a malformed chunk size', `${OK}Transfer-Encoding: chunked\r\n\r\nzz\r\n`],
    ['a chunk size without digits', `${OK}Transfer-Encoding: chunked\r\n\r\n\r\n`],
    ['a chunk size beyond all numbers', `${OK}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n`],
    ['a chunk size ended by a line feed', `${OK}Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n`],
    ['a chunk longer than its size', `${OK}Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n`],
    [
      'a chunk extension without end',
      `${OK}Transfer-Encoding: chunked\r\n\r\n3;${'x'.repeat(300)}\r\nabc\r\n0\r\n\r\n`,
    ],
    ['trailers without end', `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\n${'X: y\r\n'.repeat(4_000)}\r\n`],
    ['another protocol', 'HTTP/2 200 OK\r\n\r\n'],
    ['no protocol', 'hello\r\n\r\n'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['a status of four digits', 'HTTP/1.1 2000 OK\r\n\r\n'],
    ['a status out of range', 'HTTP/1.1 600 OK\r\n\r\n'],
    [
      'a switch of protocols that nobody asked for',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
    ],
    ['a header without a colon', `${OK}nonsense\r\nContent-Length: 0\r\n\r\n`],
    ['a blank in a header name', `${OK}X Y: z\r\nContent-Length: 0\r\n\r\n`],
    ['a blank before the colon of a length', `${OK}Content-Length : 5\r\n\r\nhello`],
    ['a folded header', `${OK}X: y\r\n z\r\nContent-Length: 0\r\n\r\n`],
    ['a NUL in a header', `${OK}X: \0\r\nContent-Length: 0\r\n\r\n`],
    ['a bare line feed in a header', `${OK}X: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n`],
    ['a carriage return in the reason', 'HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n'],
    ['a head above the bound', `${OK}X: ${'y'.repeat(5_000)}\r\n\r\n`],
    ['a head above the bound that does not end', `${OK}X: ${'y'.repeat(9_000)}`],
  ])('%s', async (_name, bytes) => {
    const before = instance.accepted
    const connections = [...instance.connections]
    const response = await ask([bytes])
    expect(response.status).toBe(502)
    const { error } = JSON.parse(response.body.toString()) as { error: Record<string, string> }
    expect(error).toMatchObject({ code: 'invalid_response', requestId: response.headers['x-request-id'] })
    expect(error.message).toContain('function "hello"')
    for (const connection of connections) if (!connection.destroyed) await once(connection, 'close')
    expect((await ask([`${OK}Content-Length: 2\r\n\r\nok`])).body.toString()).toBe('ok')
    expect(instance.accepted).toBeGreaterThan(before)
  })
})

describe('a response that breaks off is not passed on as whole:', () => {
  test.each<[string, string]>([
    ['within its length', `${OK}Content-Length: 50\r\n\r\nhello`],
    ['within its chunks', `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`],
    ['in a malformed chunk', `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhelloo`],
  ])('%s', async (_name, bytes) => {
    const cut = bytes.indexOf('hello') + 5
    const instanceSide = new Promise<Socket>((resolve) => {
      answer = (socket) => {
        socket.write(bytes.slice(0, cut))
        resolve(socket)
      }
    })
    const client = await router.open()
    client.send(request())
    await client.until((text) => text.includes('hello'))
    ;(await instanceSide).end(bytes.slice(cut))
    const all = await client.closed()
    expect(all).toMatch(/^HTTP\/1\.1 200 OK/)
    expect(all).toContain('hello')
    expect(all).not.toMatch(/0\r\n\r\n$/)
    const line = await router.agent.heard('log', ({ lines }) =>
      lines.some(({ request: summary }) => summary?.error !== undefined && summary.status === 200),
    )
    expect(
      line.lines.some(
        ({ request: summary }) =>
          summary?.error === 'instance_crashed' || summary?.error === 'invalid_response',
      ),
    ).toBe(true)
    client.socket.destroy()
  })
})

test('bytes from an idle connection close it, and answer nobody', async () => {
  expect((await ask([`${OK}Content-Length: 2\r\n\r\nok`])).status).toBe(200)
  const [idle] = instance.connections
  idle!.write(`${OK}Content-Length: 6\r\n\r\nforged`)
  await once(idle!, 'close')
  expect((await ask([`${OK}Content-Length: 2\r\n\r\nok`])).body.toString()).toBe('ok')
})

test('one connection serves request after request, the last used first, and no more than the bound stay open', async () => {
  await using small = await startTestRouter({ limits: { idleConnectionsPerInstanceMax: 2 } })
  await small.apply()
  const waiting: Socket[] = []
  await using held = await startRawInstance(small.socketPath('one'), (socket, received) => {
    if (!received.endsWith('\r\n\r\n')) return
    if (received.includes('/hold')) {
      waiting.push(socket)
      if (waiting.length === 5) for (const each of waiting) each.write(`${OK}Content-Length: 0\r\n\r\n`)
    } else socket.write(`${OK}Content-Length: 0\r\n\r\n`)
  })
  small.up('one')
  for (let count = 0; count < 5; count++) await small.ask(`GET / HTTP/1.1\r\nHost: ${small.host}\r\n\r\n`)
  expect(held.accepted).toBe(1)
  await Promise.all(
    Array.from({ length: 4 }, () => small.ask(`GET /hold HTTP/1.1\r\nHost: ${small.host}\r\n\r\n`)).concat(
      small.ask(`GET /hold HTTP/1.1\r\nHost: ${small.host}\r\n\r\n`),
    ),
  )
  expect(held.accepted).toBeLessThanOrEqual(6)
  await held.openConnections(2)
})

test('whatever bytes an instance sends, in whatever pieces, its client gets a whole response, an error or a break, and the next one is served', async () => {
  const pieces = fc.constantFrom(
    'HTTP/1.1 200 OK\r\n',
    'HTTP/1.0 200 OK\r\n',
    'HTTP/1.1 100 Continue\r\n\r\n',
    'HTTP/1.1 204 No\r\n',
    'HTTP/1.1 101 S\r\n',
    'Content-Length: 3\r\n',
    'Transfer-Encoding: chunked\r\n',
    'Connection: close\r\n',
    'Upgrade: websocket\r\n',
    'isola-error: function_threw\r\n',
    'X: y\r\n',
    '\r\n',
    'abc',
    '3\r\nabc\r\n',
    '0\r\n\r\n',
    '\r',
    '\n',
    '\0',
    ':',
    ' ',
    '\xff',
  )
  const bytes = fc.array(
    fc.oneof({ weight: 5, arbitrary: pieces }, { weight: 1, arbitrary: fc.string({ unit: 'binary' }) }),
    {
      maxLength: 10,
    },
  )
  await fc.assert(
    fc.asyncProperty(bytes, fc.constantFrom('GET', 'HEAD'), async (parts, method) => {
      answer = (socket) => {
        for (const part of parts) socket.write(part, 'latin1')
        socket.end()
      }
      const client = await router.open()
      client.send(request(method).replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'))
      const all = await client.closed()
      client.socket.destroy()
      expect(all).toMatch(/^HTTP\/1\.1 [1-5]\d\d /)
      answer = (socket) => void socket.write(`${OK}Content-Length: 2\r\n\r\nok`)
      expect((await router.ask(request())).body.toString()).toBe('ok')
    }),
    { numRuns: 200 },
  )
})
