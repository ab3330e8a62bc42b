import { afterAll, beforeAll, expect, test } from 'vitest'
import { echoHeads, startRawInstance, type RawInstance } from '../harness/fake-instance.ts'
import { hello, startTestRouter, type TestRouter } from '../harness/router-process.ts'

let router: TestRouter
let instance: RawInstance
/** What the instance answers to any request with `/answer` as its path. */
let answer = ''

beforeAll(async () => {
  router = await startTestRouter({ flags: ['--trusted-proxies', '10.0.0.0/8, fd00::/8'] })
  await router.apply()
  instance = await startRawInstance(router.socketPath('one'), (socket, received) => {
    if (received.includes('/answer')) socket.write(answer, 'latin1')
    else echoHeads(socket, received)
  })
  router.up('one')
})

afterAll(async () => {
  await router.stop()
  await instance.stop()
})

async function forwarded(lines: readonly string[], start = 'GET / HTTP/1.1'): Promise<string[]> {
  const response = await router.ask([start, `Host: ${router.host}`, ...lines, '', ''].join('\r\n'))
  expect(response.status).toBe(200)
  return response.body.toString('latin1').split('\r\n')
}

const valuesOf = (lines: readonly string[], name: string): string[] =>
  lines
    .filter((line) => line.toLowerCase().startsWith(`${name}:`))
    .map((line) => line.slice(name.length + 1).trim())

test('the function gets the headers of the client in their order and spelling, non-ASCII bytes included', async () => {
  const lines = await forwarded(['X-One: 1', 'x-two: \xe9\xff', 'X-One: again', 'Cookie: a=b', 'COOKIE: c=d'])
  expect(lines).toEqual(
    expect.arrayContaining(['X-One: 1', 'x-two: \xe9\xff', 'X-One: again', 'Cookie: a=b', 'COOKIE: c=d']),
  )
})

test('hop-by-hop headers and those named in Connection are not forwarded', async () => {
  const lines = await forwarded([
    'Connection: close, X-Secret , keep-alive',
    'X-Secret: 1',
    'x-SECRET: 2',
    'Keep-Alive: timeout=5',
    'Proxy-Connection: keep-alive',
    'Proxy-Authorization: Basic eDp5',
    'Proxy: http://evil.example',
    'TE: trailers',
    'Trailer: X-T',
    'X-Kept: yes',
  ])
  const names = lines.slice(1).map((line) => line.slice(0, line.indexOf(':')).toLowerCase())
  expect(names).toEqual([
    'host',
    'x-kept',
    'x-request-id',
    'traceparent',
    'x-forwarded-for',
    'x-forwarded-proto',
    'x-real-ip',
    'cf-connecting-ip',
    'isola-proto',
    'x-forwarded-host',
  ])
})

test('Connection cannot take away what the router says', async () => {
  const lines = await forwarded([
    'Connection: host, x-forwarded-for, x-request-id, cf-connecting-ip, traceparent',
  ])
  for (const name of ['host', 'x-forwarded-for', 'x-request-id', 'cf-connecting-ip', 'traceparent']) {
    expect(valuesOf(lines, name), name).toHaveLength(1)
  }
})

test('a client cannot say where it comes from, in no spelling', async () => {
  const lines = await forwarded([
    'X-Forwarded-For: 1.2.3.4',
    'x_forwarded_for: 1.2.3.4',
    'X-Forwarded-Host: evil.example',
    'X-Forwarded-Proto: https',
    'X-Forwarded-Port: evil',
    'X-FORWARDED-PREFIX: /x',
    'X-Real-IP: 1.2.3.4',
    'X_Real_IP: 1.2.3.4',
    'CF-Connecting-IP: 1.2.3.4',
    'CF-Connecting-IPv6: ::4',
    'True-Client-IP: 1.2.3.4',
    'Forwarded: for=1.2.3.4',
    'isola-proto: https',
    'Isola-Error: function_threw',
    'Content_Length: 5',
  ])
  expect(lines.join('\n')).not.toMatch(/1\.2\.3\.4|evil|https|function_threw|prefix|::4|content_length/i)
  expect(valuesOf(lines, 'x-forwarded-for')).toEqual(['127.0.0.1'])
  expect(valuesOf(lines, 'x-real-ip')).toEqual(['127.0.0.1'])
  expect(valuesOf(lines, 'cf-connecting-ip')).toEqual(['127.0.0.1'])
  expect(valuesOf(lines, 'x-forwarded-host')).toEqual([router.host])
  expect(valuesOf(lines, 'x-forwarded-proto')).toEqual(['http'])
})

test('a trusted proxy is believed: the chain grows, and the client is the last one that is no proxy', async () => {
  await using trusting = await startTestRouter({ flags: ['--trusted-proxies', '127.0.0.1, 10.0.0.0/8'] })
  await trusting.apply()
  trusting.undo.use(await startRawInstance(trusting.socketPath('one'), echoHeads))
  trusting.up('one')
  const said = [
    'X-Forwarded-For: 6.6.6.6, 203.0.113.9',
    'X-Forwarded-For: 10.1.1.1',
    'X-Forwarded-Proto: https',
    'X-Forwarded-Host: shop.example',
  ]
  const head = ['GET / HTTP/1.1', `Host: ${trusting.host}`, ...said, '', ''].join('\r\n')
  const lines = (await trusting.ask(head)).body.toString().split('\r\n')
  expect(valuesOf(lines, 'x-forwarded-for')).toEqual(['6.6.6.6, 203.0.113.9, 10.1.1.1, 127.0.0.1'])
  expect(valuesOf(lines, 'cf-connecting-ip')).toEqual(['203.0.113.9'])
  expect(valuesOf(lines, 'x-real-ip')).toEqual(['203.0.113.9'])
  expect(valuesOf(lines, 'isola-proto')).toEqual(['https'])
  expect(valuesOf(lines, 'x-forwarded-host')).toEqual(['shop.example'])
})

test('a request id of the client is kept if it is one, else the router makes one; the client is told', async () => {
  const ask = async (id: string): Promise<[string, string]> => {
    const response = await router.ask(`GET / HTTP/1.1\r\nHost: ${router.host}\r\nX-Request-Id: ${id}\r\n\r\n`)
    return [
      response.headers['x-request-id']!,
      valuesOf(response.body.toString().split('\r\n'), 'x-request-id').join('|'),
    ]
  }
  expect(await ask('my-id_1.2')).toEqual(['my-id_1.2', 'my-id_1.2'])
  for (const id of ['', 'has blank', 'x'.repeat(129), 'quote"', 'a:b']) {
    const [told, seen] = await ask(id)
    expect(told).toMatch(/^[0-9a-f]{12}-[0-9a-z]+$/)
    expect(seen).toBe(told)
  }
})

test('a valid traceparent is passed on with its tracestate; an invalid one is replaced, without', async () => {
  const valid = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const kept = await forwarded([`traceparent: ${valid}`, 'tracestate: a=b', 'tracestate: c=d'])
  expect(valuesOf(kept, 'traceparent')).toEqual([valid])
  expect(valuesOf(kept, 'tracestate')).toEqual(['a=b,c=d'])
  const invalid = [
    [`00-${'0'.repeat(32)}-b7ad6b7169203331-01`],
    ['ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
    [`${valid}-more`],
    [valid, valid],
    ['nonsense'],
  ]
  for (const values of invalid) {
    const made = await forwarded([...values.map((value) => `traceparent: ${value}`), 'tracestate: a=b'])
    expect(valuesOf(made, 'traceparent')).toEqual([
      expect.stringMatching(/^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01$/),
    ])
    expect(made.join()).not.toContain(valid)
    expect(valuesOf(made, 'tracestate')).toEqual([])
  }
})

test('framing is made anew: a length stays a length, chunks stay chunks, nothing stays nothing', async () => {
  const none = await forwarded([])
  expect(none.join()).not.toMatch(/content-length|transfer-encoding/i)
  expect(valuesOf(await forwarded(['Content-Length: 0'], 'POST / HTTP/1.1'), 'content-length')).toEqual(['0'])
})

test('HTTP/1.0 is served as it wants: the connection closes, and without a host there is no function', async () => {
  const client = await router.open()
  client.send(`GET / HTTP/1.0\r\nHost: ${router.host}\r\n\r\n`)
  const response = await client.response()
  expect(response.body.toString()).toMatch(/^GET \/ HTTP\/1\.1\r\n/)
  expect(response.headers.connection).toBe('close')
  await client.closed()
  client.socket.destroy()
  expect((await router.ask('GET / HTTP/1.0\r\n\r\n')).status).toBe(404)
})

test('the response comes without hop-by-hop headers and without what only the router may say', async () => {
  const body = 'hello'
  answer = [
    'HTTP/1.1 203 Sort Of',
    'Content-Type: text/plain',
    'Connection: keep-alive, X-Hop',
    'X-Hop: 1',
    'Keep-Alive: timeout=9',
    'Proxy-Connection: x',
    'Trailer: X-T',
    'Upgrade: h2c',
    'X-Request-Id: forged',
    'X-Isola-Version: forged',
    'Isola-Error: draining',
    'isola-secret: 1',
    'Set-Cookie: a=1',
    'Set-Cookie: b=2',
    'X-Latin: \xe9',
    'Date: Sat, 21 Nov 2026 00:00:00 GMT',
    `Content-Length: ${body.length}`,
    '',
    body,
  ].join('\r\n')
  const response = await router.ask(
    `GET /answer HTTP/1.1\r\nHost: ${router.host}\r\nX-Request-Id: mine\r\n\r\n`,
  )
  expect(response.head.split('\r\n')).toEqual([
    'HTTP/1.1 203 Sort Of',
    'Content-Type: text/plain',
    'Set-Cookie: a=1',
    'Set-Cookie: b=2',
    'X-Latin: \xe9',
    'Date: Sat, 21 Nov 2026 00:00:00 GMT',
    'content-length: 5',
    'x-request-id: mine',
    'x-isola-version: hello-v1',
    'Connection: keep-alive',
    'Keep-Alive: timeout=30',
  ])
  expect(response.body.toString()).toBe(body)
})

test('what the function threw is answered with an error of the router, not with what its instance says', async () => {
  for (const text of ['', 'the function threw an exception\n', 'x'.repeat(100_000)]) {
    answer = `HTTP/1.1 500 Internal Server Error\r\nisola-error: function_threw\r\nContent-Length: ${text.length}\r\n\r\n${text}`
    const response = await router.ask(`GET /answer HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`)
    expect(response.status).toBe(500)
    expect(JSON.parse(response.body.toString())).toEqual({
      error: {
        code: 'function_threw',
        message: expect.stringContaining('"hello"'),
        requestId: response.headers['x-request-id'],
      },
    })
  }
})

test('a sticky key keeps its version, by either header', async () => {
  await using split = await startTestRouter()
  const shares = [1, 2, 3, 4].map((number) => ({ versionId: `hello-v${number}`, percent: 25 }))
  await split.apply([{ ...hello(), shares }])
  split.undo.use(await startRawInstance(split.socketPath('one'), echoHeads))
  for (const { versionId } of shares) {
    split.agent.send({
      type: 'instance-up',
      cold: false,
      instance: { id: versionId, functionName: 'hello', versionId, socketPath: split.socketPath('one') },
    })
  }
  const versions = async (header: string): Promise<Set<string>> => {
    const seen = new Set<string>()
    for (let count = 0; count < 20; count++) {
      seen.add(
        (await split.ask(`GET / HTTP/1.1\r\nHost: ${split.host}\r\n${header}\r\n`)).headers[
          'x-isola-version'
        ]!,
      )
    }
    return seen
  }
  const first = await versions('Cloudflare-Workers-Version-Key: user-1\r\n')
  expect(first.size).toBe(1)
  expect(await versions('X-Isola-Version-Key: user-1\r\n')).toEqual(first)
  expect((await versions('')).size).toBeGreaterThan(1)
})
