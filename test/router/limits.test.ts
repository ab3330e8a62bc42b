import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RouterToAgent } from '../../runtime/pool/wire.ts'
import { closeOf, startHttpInstance, startRawInstance, type HttpInstance } from '../harness/fake-instance.ts'
import { hello, startTestRouter, type RawResponse, type TestRouter } from '../harness/router-process.ts'

const LIMITS = { wallMs: 300, requestBytes: 1_000, responseBytes: 2_000 }

let router: TestRouter
let instance: HttpInstance

beforeAll(async () => {
  router = await startTestRouter()
  await router.apply([hello({}, LIMITS)])
  instance = await startHttpInstance(router.socketPath('one'), (request, response) => {
    if (request.url!.startsWith('/response/')) {
      respond(request.url!.slice('/response/'.length), response)
      return
    }
    if (request.url!.startsWith('/never')) return
    if (request.url!.startsWith('/begins')) {
      response.write('begun')
      return
    }
    let bytes = 0
    request.on('data', (chunk: Buffer) => (bytes += chunk.length))
    request.on('end', () => response.end(String(bytes)))
  })
  router.up('one')
})

afterAll(async () => {
  await router.stop()
  await instance.stop()
})

/** `length/2000`: as one body of known length; `chunks/2000`: in two parts; `status/204/2000`: only says so. */
function respond(how: string, response: ServerResponse): void {
  const [kind, first = '', second] = how.split('/')
  if (kind === 'length') {
    response.setHeader('content-length', first)
    response.end('x'.repeat(Number(first)))
  } else if (kind === 'chunks') {
    response.write('x')
    setImmediate(() => setImmediate(() => response.end('x'.repeat(Number(first) - 1))))
  } else if (kind === 'status') {
    response.writeHead(Number(first), first === '304' ? { 'content-length': second } : {})
    response.end()
  }
}

const get = (target: string, method = 'GET'): string =>
  `${method} ${target} HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`

const post = (framing: string): string => `POST /post HTTP/1.1\r\nHost: ${router.host}\r\n${framing}\r\n\r\n`

function errorOf(response: RawResponse): { code: string; message: string } {
  return (JSON.parse(response.body.toString()) as { error: { code: string; message: string } }).error
}

type LogMessage = Extract<RouterToAgent, { type: 'log' }>

async function loggedFor(path: string): Promise<LogMessage['lines'][number]> {
  const { lines } = await router.agent.heard('log', ({ lines }) =>
    lines.some(({ request }) => request?.path === path),
  )
  return lines.find(({ request }) => request?.path === path)!
}

describe('the body of a request', () => {
  test('at the limit is forwarded; a length above it is 413 with whose limit it is, and reaches no instance', async () => {
    expect((await router.ask(post('Content-Length: 1000'), 'x'.repeat(1_000))).body.toString()).toBe('1000')
    const before = instance.requests.length
    const response = await router.ask(post('Content-Length: 1001'), 'x'.repeat(1_001))
    expect(response.status).toBe(413)
    const { code, message } = errorOf(response)
    expect(code).toBe('body_too_large')
    expect(message).toContain('1001 bytes: the limit of function "hello" is 1000')
    expect(instance.requests.length).toBe(before)
  })

  test('in chunks is 413 once it is above the limit, and the function sees it break off', async () => {
    const chunk = (bytes: number): string => `${bytes.toString(16)}\r\n${'x'.repeat(bytes)}\r\n`
    const whole = await router.ask(post('Transfer-Encoding: chunked'), `${chunk(600)}${chunk(400)}0\r\n\r\n`)
    expect(whole.body.toString()).toBe('1000')
    const seen = once(instance.server, 'request').then(([request]) => closeOf(request))
    const client = await router.open()
    client.send(post('Transfer-Encoding: chunked'))
    client.send(chunk(600))
    await router.agent.heard('load', ({ versions }) => (versions[0]?.inFlight ?? 0) > 0)
    client.send(chunk(401))
    const response = await client.response()
    expect([response.status, errorOf(response).code]).toEqual([413, 'body_too_large'])
    expect(errorOf(response).message).toContain('more than 1000 bytes: the limit of function "hello" is 1000')
    expect((await seen).complete).toBe(false)
    client.socket.destroy()
  })

  test("above the node's own bound is refused in the node's name", async () => {
    await using small = await startTestRouter({ limits: { requestBodyBytesMax: 500 } })
    await small.apply([hello({}, LIMITS)])
    const response = await small.ask(`POST / HTTP/1.1\r\nHost: ${small.host}\r\nContent-Length: 501\r\n\r\n`)
    expect(response.status).toBe(413)
    expect(errorOf(response).message).toContain("501 bytes: this node's limit is 500")
  })
})

describe('the body of a response', () => {
  test.each(['length', 'chunks'])('at the limit arrives whole (%s)', async (kind) => {
    const response = await router.ask(get(`/response/${kind}/2000`))
    expect([response.status, response.body.length]).toEqual([200, 2_000])
  })

  test.each([2_001, 500_000])('of a length above it is 502 before anything is sent (%i)', async (bytes) => {
    const response = await router.ask(get(`/response/length/${bytes}`))
    expect(response.status).toBe(502)
    const { code, message } = errorOf(response)
    expect(code).toBe('response_too_large')
    expect(message).toContain(`response of function "hello" has ${bytes} bytes: its limit is 2000`)
  })

  test('that grows above it is broken off, and logged with the code', async () => {
    await using raw = await startTestRouter()
    await raw.apply([hello({}, { ...LIMITS, wallMs: 60_000 })])
    const growing = await startRawInstance(raw.socketPath('one'), (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n')
    })
    raw.undo.use(growing)
    raw.up('one')
    const client = await raw.open()
    client.send(`GET /grows HTTP/1.1\r\nHost: ${raw.host}\r\n\r\n`)
    // The client has the first part: what follows cannot be read together with it.
    await client.until((received) => received.includes('begun'))
    growing.connections[0]!.write(`7d0\r\n${'x'.repeat(2_000)}\r\n0\r\n\r\n`)
    const received = await client.closed()
    expect(received).toMatch(/^HTTP\/1.1 200 /)
    expect(received).not.toMatch(/0\r\n\r\n$/)
    const { lines } = await raw.agent.heard('log', ({ lines }) =>
      lines.some(({ request }) => request?.path === '/grows'),
    )
    expect(lines.find(({ request }) => request?.path === '/grows')?.request).toMatchObject({
      status: 200,
      error: 'response_too_large',
    })
  })

  test('whose first part is above it is 502, not an empty answer', async () => {
    await using raw = await startTestRouter()
    await raw.apply([hello({}, LIMITS)])
    raw.undo.use(
      await startRawInstance(raw.socketPath('one'), (socket) => {
        socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nbb8\r\n${'x'.repeat(3_000)}\r\n`)
      }),
    )
    raw.up('one')
    const response = await raw.ask(`GET / HTTP/1.1\r\nHost: ${raw.host}\r\n\r\n`)
    expect([response.status, errorOf(response).code]).toEqual([502, 'response_too_large'])
    expect(errorOf(response).message).toContain('more than 2000 bytes')
  })

  test('that is none may announce what it likes: HEAD, 204 and 304', async () => {
    const head = await router.ask(get('/response/length/500000', 'HEAD'))
    expect([head.status, head.headers['content-length']]).toEqual([200, '500000'])
    expect((await router.ask(get('/response/status/204'))).status).toBe(204)
    expect((await router.ask(get('/response/status/304/500000'))).status).toBe(304)
  })
})

describe('wall time', () => {
  test('above the limit is 504 with limit and value, and the function hears that nobody waits', async () => {
    const seen = once(instance.server, 'request')
    const asked = router.ask(get('/never'))
    const [request] = await seen
    const closed = once(request.socket, 'close')
    const response = await asked
    expect(response.status).toBe(504)
    const { code, message } = errorOf(response)
    expect(code).toBe('wall_limit_exceeded')
    const found = /limit of 300 ms: it had not ended its response (\d+) ms after/.exec(message)
    expect(Number(found?.[1])).toBeGreaterThan(300)
    await closed
  })

  test('breaks off a response that has begun, and the log says why', async () => {
    const client = await router.open()
    client.send(get('/begins'))
    await client.until((text) => text.includes('begun'))
    expect(await client.closed()).not.toMatch(/0\r\n\r\n$/)
    const line = await loggedFor('/begins')
    expect(line.request).toMatchObject({ status: 200, error: 'wall_limit_exceeded' })
    expect(line.request!.totalMs).toBeGreaterThan(300)
  })

  test('counts the wait for an instance, and the message says that it was that', async () => {
    await using empty = await startTestRouter()
    await empty.apply([hello({}, { wallMs: 100 })])
    const response = await empty.ask(`GET / HTTP/1.1\r\nHost: ${empty.host}\r\n\r\n`)
    expect([response.status, errorOf(response).code]).toEqual([504, 'wall_limit_exceeded'])
    expect(errorOf(response).message).toContain('still waiting for an instance')
    await empty.agent.heard('load', ({ versions }) => versions[0]?.queued === 0)
  })

  test('of a limit that is lowered holds for requests that are under way', async () => {
    await using other = await startTestRouter()
    await other.apply([hello({}, { wallMs: 3_600_000 })])
    const silent = await startRawInstance(other.socketPath('one'))
    other.undo.use(silent)
    other.up('one')
    const asked = other.ask(`GET / HTTP/1.1\r\nHost: ${other.host}\r\n\r\n`)
    await silent.until((text) => text.endsWith('\r\n\r\n'))
    await other.apply([hello({}, { wallMs: 100 })])
    expect(errorOf(await asked).code).toBe('wall_limit_exceeded')
  })

  test('does not end a WebSocket', async () => {
    await using other = await startTestRouter()
    await other.apply([hello({}, { wallMs: 100 })])
    other.undo.use(
      await startRawInstance(other.socketPath('one'), (socket, received) => {
        if (received.startsWith('GET /never')) return
        if (!received.endsWith('\r\n\r\n')) socket.write('echo')
        else
          socket.write(
            'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n',
          )
      }),
    )
    other.up('one')
    const client = await other.open()
    client.send(
      `GET / HTTP/1.1\r\nHost: ${other.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n`,
    )
    await client.until((text) => text.endsWith('\r\n\r\n'))
    // Younger than the WebSocket, and ended for the limit: whoever looked at the one has looked at the other.
    const response = await other.ask(`GET /never HTTP/1.1\r\nHost: ${other.host}\r\n\r\n`)
    expect(errorOf(response).code).toBe('wall_limit_exceeded')
    client.send('message')
    await client.until((text) => text.endsWith('echo'))
    client.socket.destroy()
  })
})
