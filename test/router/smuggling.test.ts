import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { echoHeads, startRawInstance, type RawInstance } from '../harness/fake-instance.ts'
import { startTestRouter, type RawResponse, type TestRouter } from '../harness/router-process.ts'
import { BROKEN_BODIES, REFUSED, type SmugglingCase } from './smuggling-corpus.ts'

let router: TestRouter
let instance: RawInstance

beforeAll(async () => {
  router = await startTestRouter({ limits: { lingerMs: 50 } })
  await router.apply()
  instance = await startRawInstance(router.socketPath('one'), (socket, received) => {
    // A whole request, whatever it is: answered, so that the next one could follow.
    if (received.endsWith('\r\n\r\n')) echoHeads(socket, received)
  })
  router.up('one')
})

afterAll(async () => {
  await router.stop()
  await instance.stop()
})

async function send({ bytes }: SmugglingCase): Promise<{ response: RawResponse; all: string }> {
  const client = await router.open()
  client.send(bytes.replaceAll('HOST', router.host))
  const response = await client.response()
  const all = await client.closed()
  client.socket.destroy()
  return { response, all }
}

function expectError(
  { response, all }: { response: RawResponse; all: string },
  { status, code }: SmugglingCase,
): void {
  expect(response.status).toBe(status)
  const { error } = JSON.parse(response.body.toString()) as { error: Record<string, string> }
  expect(error).toEqual({
    code,
    message: expect.stringMatching(/.{10}/),
    requestId: response.headers['x-request-id'],
  })
  expect(response.headers).toMatchObject({
    connection: 'close',
    'cache-control': 'no-store',
    'x-isola-error': code!,
  })
  expect(all.split('HTTP/1.1 ').length, 'one answer and no more').toBe(2)
}

describe('a request that two parsers could read differently is refused, and nothing of it reaches an instance:', () => {
  test.each(REFUSED)('$name', async (each) => {
    const before = instance.received()
    expectError(await send(each), each)
    expect(instance.received()).toBe(before)
  })
})

describe('a body that turns out malformed never looks whole to the instance:', () => {
  test.each(BROKEN_BODIES)('$name', async (each) => {
    const before = instance.received().length
    expectError(await send(each), each)
    const arrived = instance.received().slice(before)
    expect(arrived).not.toMatch(/0\r\n\r\n$/)
    expect(arrived.split('HTTP/1.1').length).toBeLessThanOrEqual(2)
  })
})

test('an absolute target that agrees with Host is forwarded in origin form', async () => {
  const { body, status } = await router.ask(
    `GET http://${router.host}/a/b?c HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`,
  )
  expect(status).toBe(200)
  expect(body.toString()).toMatch(/^GET \/a\/b\?c HTTP\/1\.1\r\n/)
  const bare = await router.ask(`GET http://${router.host}?q HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`)
  expect(bare.body.toString()).toMatch(/^GET \/\?q HTTP\/1\.1\r\n/)
})

test('h2c is never tunnelled: the request is served as plain HTTP/1.1, without the upgrade', async () => {
  const client = await router.open()
  const upgrade =
    'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n'
  client.send(`GET /one HTTP/1.1\r\nHost: ${router.host}\r\n${upgrade}\r\n`)
  const first = await client.response()
  expect(first.status).toBe(200)
  expect(first.body.toString()).not.toMatch(/upgrade|http2-settings/i)
  client.send(`GET /two HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`)
  expect((await client.response()).body.toString()).toMatch(/^GET \/two HTTP\/1\.1/)
  client.socket.destroy()
})

test('a request behind a malformed one on the same connection is not served', async () => {
  const before = instance.received()
  const { all } = await send({
    name: '',
    status: 400,
    bytes: 'GET /a HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\nGET /hidden HTTP/1.1\r\nHost: HOST\r\n\r\n',
  })
  expect(all.split('HTTP/1.1 ').length).toBe(2)
  expect(instance.received()).toBe(before)
})

test('a malformed request behind a good one does not spoil its response', async () => {
  const client = await router.open()
  client.send(`GET /good HTTP/1.1\r\nHost: ${router.host}\r\n\r\nGET /bad HTTP/1.1\nHost: ${router.host}\n\n`)
  const response = await client.response()
  expect(response.status).toBe(200)
  expect(response.body.toString()).toMatch(/^GET \/good /)
  const all = await client.closed()
  expect(all).not.toContain('/bad')
  client.socket.destroy()
})

test('pipelined requests are answered in their order', async () => {
  const client = await router.open()
  client.send(
    ['/1', '/2', '/3'].map((path) => `GET ${path} HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`).join(''),
  )
  for (const path of ['/1', '/2', '/3']) {
    expect((await client.response()).body.toString()).toMatch(new RegExp(`^GET ${path} `))
  }
  client.socket.destroy()
})

test('whatever bytes come, an instance gets whole requests of a fixed form or nothing, and the router goes on', async () => {
  const pieces = fc.constantFrom(
    'GET / HTTP/1.1\r\n',
    'POST /x HTTP/1.1\r\n',
    'GET / HTTP/1.0\r\n',
    `Host: ${router.host}\r\n`,
    'Content-Length: 3\r\n',
    'Transfer-Encoding: chunked\r\n',
    'Connection: close\r\n',
    'Connection: Upgrade\r\nUpgrade: websocket\r\n',
    'Expect: 100-continue\r\n',
    'Sec-WebSocket-Key: x\r\n',
    'X-A: b\r\n',
    '\r\n',
    '\n',
    '\r',
    'abc',
    '3\r\nabc\r\n',
    '0\r\n\r\n',
    ' ',
    '\0',
    ':',
    '\xff',
  )
  const before = instance.received().length
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof({ weight: 4, arbitrary: pieces }, { weight: 1, arbitrary: fc.string({ unit: 'binary' }) }),
        { maxLength: 14 },
      ),
      async (parts) => {
        const client = await router.open()
        client.send(parts.join(''))
        client.socket.end()
        await client.closed()
        client.socket.destroy()
      },
    ),
    { numRuns: 300 },
  )
  const heads = instance
    .received()
    .slice(before)
    .split('\r\n\r\n')
    .filter((part) => / HTTP\//.test(part))
  for (const head of heads) {
    expect(head.slice(head.search(/(GET|POST) \//))).toMatch(
      /^(GET|POST) \/\S* HTTP\/1\.1\r\nhost: hello\.localhost:\d+(\r\n[!-9;-~]+: [^\r\n\0]*)*$/,
    )
  }
  expect((await router.ask(`GET /after HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`)).status).toBe(200)
})
