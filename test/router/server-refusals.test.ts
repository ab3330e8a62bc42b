import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { closeOf, startHttpInstance, startRawInstance, type HttpInstance } from '../harness/fake-instance.ts'
import { hello, startTestRouter, type RawResponse, type TestRouter } from '../harness/router-process.ts'

const LIMITS = {
  headerBytesMax: 2_000,
  urlBytesMax: 500,
  headersCountMax: 20,
  requestBodyBytesMax: 200_000,
  headersTimeoutMs: 300,
  requestTimeoutMs: 400,
  responseTimeoutMs: 500,
  socketIdleTimeoutMs: 600,
  keepAliveTimeoutMs: 1_000,
  lingerMs: 200,
}

let router: TestRouter
let instance: HttpInstance

beforeAll(async () => {
  router = await startTestRouter({ limits: LIMITS })
  await router.apply()
  instance = await startHttpInstance(router.socketPath('one'), (request, response) => {
    if (request.url === '/never') return
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

const get = (target = '/', more = ''): string =>
  `GET ${target} HTTP/1.1\r\nHost: ${router.host}\r\n${more}\r\n`

function errorOf(response: RawResponse): { code: string; message: string; requestId: string } {
  const { error } = JSON.parse(response.body.toString()) as {
    error: { code: string; message: string; requestId: string }
  }
  expect(error.requestId).toBe(response.headers['x-request-id'])
  expect(response.headers['x-isola-error']).toBe(error.code)
  return error
}

test('a request for an unknown host gets 404 that names host and path but no query, and reaches no instance', async () => {
  const before = instance.requests.length
  const response = await router.ask('GET /a/b?secret=1 HTTP/1.1\r\nHost: Nobody.example:81\r\n\r\n')
  expect(response.status).toBe(404)
  const { code, message } = errorOf(response)
  expect(code).toBe('route_not_found')
  expect(message).toContain('Nobody.example:81/a/b')
  expect(message).not.toContain('secret')
  expect(instance.requests.length).toBe(before)
})

test("an IPv6 address as host is well-formed, and nobody's", async () => {
  expect((await router.ask('GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n')).status).toBe(404)
  expect((await router.ask('GET / HTTP/1.1\r\nHost: [::1\r\n\r\n')).status).toBe(400)
})

test('an error answers HEAD without a body, and the connection stays good', async () => {
  const client = await router.open()
  client.send('HEAD / HTTP/1.1\r\nHost: nobody.example\r\n\r\n')
  const response = await client.response({ isHead: true })
  expect(response.status).toBe(404)
  expect(Number(response.headers['content-length'])).toBeGreaterThan(50)
  client.send(get())
  expect((await client.response()).status).toBe(200)
  client.socket.destroy()
})

test('a host is found in any case, with any port and with a final dot', async () => {
  for (const host of ['HELLO.localhost', 'hello.LOCALHOST:1', 'hello.localhost.', 'hello.localhost.:8080']) {
    expect((await router.ask(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`)).status, host).toBe(200)
  }
})

describe('bounds of the head:', () => {
  test('a URL above the bound is 414, one at the bound is served', async () => {
    const at = `/${'x'.repeat(LIMITS.urlBytesMax - 1)}`
    expect((await router.ask(get(at))).status).toBe(200)
    const response = await router.ask(get(`${at}x`))
    expect([response.status, errorOf(response).code]).toEqual([414, 'uri_too_long'])
    const far = await router.ask(get(`/${'x'.repeat(10_000)}`))
    expect([far.status, errorOf(far).code]).toEqual([414, 'uri_too_long'])
  })

  test('headers above the bound are 431, by bytes and by count', async () => {
    const many = (count: number): string =>
      Array.from({ length: count }, (_, index) => `X-${index}: y\r\n`).join('')
    expect((await router.ask(get('/', many(19)))).status).toBe(200)
    for (const more of [
      many(20),
      many(3_000),
      `X: ${'y'.repeat(2_000)}\r\n`,
      `X: ${'y'.repeat(50_000)}\r\n`,
    ]) {
      const response = await router.ask(get('/', more))
      expect([response.status, errorOf(response).code]).toEqual([431, 'headers_too_large'])
      expect(response.headers.connection).toBe('close')
    }
  })
})

describe('bounds of the body:', () => {
  const post = (framing: string): string => `POST / HTTP/1.1\r\nHost: ${router.host}\r\n${framing}\r\n\r\n`

  test('a body at the bound is forwarded whole', async () => {
    const body = Buffer.alloc(LIMITS.requestBodyBytesMax, 'x')
    const response = await router.ask(post(`Content-Length: ${body.length}`), body)
    expect(response.body.toString()).toBe(String(body.length))
  })

  test('a length above the bound is 413 before anything is read, and reaches no instance', async () => {
    const before = instance.requests.length
    const response = await router.ask(post(`Content-Length: ${LIMITS.requestBodyBytesMax + 1}`))
    expect([response.status, errorOf(response).code]).toEqual([413, 'body_too_large'])
    expect(response.headers.connection).toBe('close')
    expect(instance.requests.length).toBe(before)
  })

  test('the answer arrives although the client is still sending', async () => {
    const client = await router.open()
    client.send(post('Content-Length: 50000000'))
    const chunk = Buffer.alloc(65_536)
    const upload = { going: true }
    const pump = (): void => {
      while (upload.going && client.socket.write(chunk));
    }
    client.socket.on('drain', pump)
    pump()
    const response = await client.response()
    upload.going = false
    expect(response.status).toBe(413)
    client.socket.destroy()
  })

  test('chunks beyond the bound are 413 while they come, and the instance sees the request break off', async () => {
    const client = await router.open()
    client.send(post('Transfer-Encoding: chunked'))
    const aborted = once(instance.server, 'request').then(([request]) => closeOf(request))
    const size = 100_000
    for (let count = 0; count < 3; count++) client.send(`${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`)
    const response = await client.response()
    expect([response.status, errorOf(response).code]).toEqual([413, 'body_too_large'])
    expect((await aborted).complete).toBe(false)
    client.socket.destroy()
  })

  test('Expect: 100-continue is answered once a slot is there, and the body follows', async () => {
    const client = await router.open()
    client.send(post('Content-Length: 3\r\nExpect: 100-continue'))
    await client.until((text) => text.startsWith('HTTP/1.1 100 Continue\r\n\r\n'))
    client.send('abc')
    await client.until((text) => text.endsWith('\r\n\r\n3'))
    client.socket.destroy()
    expect(instance.requests.at(-1)!.headers.expect).toBeUndefined()
  })

  test('Expect: 100-continue of a body that is too large gets 413 instead', async () => {
    const client = await router.open()
    client.send(post('Content-Length: 200001\r\nExpect: 100-continue'))
    expect((await client.response()).status).toBe(413)
    client.socket.destroy()
  })
})

describe('slow clients:', () => {
  test('a head that does not end in time is 408', async () => {
    const client = await router.open()
    client.send(`GET / HTTP/1.1\r\nHost: ${router.host}\r\n`)
    const response = await client.response()
    expect([response.status, errorOf(response).code]).toEqual([408, 'request_timeout'])
    await client.closed()
  })

  test('a head that comes byte by byte is 408 all the same', async () => {
    const client = await router.open()
    client.send(`GET / HTTP/1.1\r\nHost: ${router.host}\r\nX: `)
    const dribble = setInterval(() => client.send('y'), 20)
    const response = await client.response().finally(() => clearInterval(dribble))
    expect(response.status).toBe(408)
    client.socket.destroy()
  })

  test('a connection on which nothing was asked is closed without a word', async () => {
    const client = await router.open()
    expect(await client.closed()).toBe('')
  })

  test('a body that does not come is 408, and the instance sees the request break off', async () => {
    const client = await router.open()
    const seen = once(instance.server, 'request')
    client.send(`POST / HTTP/1.1\r\nHost: ${router.host}\r\nContent-Length: 10\r\n\r\nabc`)
    const [request] = await seen
    const response = await client.response()
    expect([response.status, errorOf(response).code]).toEqual([408, 'request_timeout'])
    expect((await closeOf(request)).complete).toBe(false)
    client.socket.destroy()
  })

  test('an idle connection is closed after its time', async () => {
    const client = await router.open()
    client.send(get())
    const { headers } = await client.response()
    expect(headers['keep-alive']).toBe('timeout=1')
    await client.closed()
  })
})

test('a function that does not begin to answer is 504, and hears that nobody waits', async () => {
  const seen = once(instance.server, 'request')
  const asked = router.ask(get('/never'))
  const [request] = await seen
  const closed = once(request.socket, 'close')
  const response = await asked
  expect([response.status, errorOf(response).code]).toEqual([504, 'response_timeout'])
  await closed
})

test('too many connections: those above the bound are told 503', async () => {
  await using small = await startTestRouter({ limits: { connectionsMax: 2 } })
  await small.apply()
  const first = await small.open()
  const second = await small.open()
  const third = await small.open()
  third.send(`GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n`)
  const response = await third.response()
  expect([response.status, errorOf(response).code]).toEqual([503, 'too_many_connections'])
  expect(response.headers['retry-after']).toBe('1')
  await third.closed()
  for (const client of [first, second]) {
    client.send(`GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n`)
    expect((await client.response()).status).toBe(404)
    client.socket.destroy()
  }
})

describe('no place:', () => {
  test('a full queue is 429, a wait that is over 503, each with Retry-After; the agent hears of the need at once', async () => {
    await using busy = await startTestRouter()
    await busy.apply([hello({ queue: 0, queueTimeoutMs: 300, concurrency: 1 })])
    const ask = `GET / HTTP/1.1\r\nHost: ${busy.host}\r\n\r\n`
    const waiting = busy.ask(ask)
    const need = await busy.agent.heard('need')
    expect(need).toEqual({ type: 'need', functionName: 'hello', versionId: 'hello-v1', queued: 1 })
    const full = await busy.ask(ask)
    expect([full.status, errorOf(full).code, full.headers['retry-after']]).toEqual([429, 'queue_full', '1'])
    const late = await waiting
    expect([late.status, errorOf(late).code, late.headers['retry-after']]).toEqual([
      503,
      'queue_timeout',
      '1',
    ])
  })

  test.each(['start_failed', 'crash_loop', 'node_full'] as const)(
    'who waits is told %s, and later ones until it is over',
    async (code) => {
      await using busy = await startTestRouter()
      await busy.apply()
      const ask = `GET / HTTP/1.1\r\nHost: ${busy.host}\r\n\r\n`
      const waiting = busy.ask(ask)
      await busy.agent.heard('need')
      busy.agent.send({
        type: 'start-refused',
        versionId: 'hello-v1',
        code,
        message: 'because of this',
        retryAfterMs: 60_000,
      })
      for (const response of [await waiting, await busy.ask(ask)]) {
        expect(response.status).toBe(503)
        expect(errorOf(response)).toMatchObject({ code, message: 'because of this' })
        expect(response.headers['retry-after']).toBe('60')
      }
    },
  )

  test('a function without traffic is 503', async () => {
    await using none = await startTestRouter()
    await none.apply([{ ...hello(), shares: [] }])
    const response = await none.ask(`GET / HTTP/1.1\r\nHost: ${none.host}\r\n\r\n`)
    expect([response.status, errorOf(response).code]).toEqual([503, 'no_deployment'])
  })

  test('a queued client that leaves makes room, and its request is never sent', async () => {
    await using busy = await startTestRouter()
    await busy.apply([hello({ queue: 1 })])
    const gone = await busy.open()
    gone.send(`GET /gone HTTP/1.1\r\nHost: ${busy.host}\r\n\r\n`)
    await busy.agent.heard('need')
    gone.socket.destroy()
    await busy.agent.heard('load', ({ versions }) => versions[0]?.queued === 0)
    const stays = busy.ask(`GET /stays HTTP/1.1\r\nHost: ${busy.host}\r\n\r\n`)
    await busy.agent.heard('load', ({ versions }) => versions[0]?.requests === 2)
    await using echo = await startRawInstance(busy.socketPath('one'), (socket) =>
      socket.write('HTTP/1.1 204 No Content\r\n\r\n'),
    )
    busy.up('one')
    expect((await stays).status).toBe(204)
    expect(echo.received()).not.toContain('/gone')
  })

  test('who waits for a version that is replaced goes to the new one', async () => {
    await using router = await startTestRouter()
    await router.apply()
    const waiting = router.ask(`GET / HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`)
    await router.agent.heard('need')
    router.undo.use(
      await startRawInstance(router.socketPath('two'), (socket) =>
        socket.write('HTTP/1.1 204 No Content\r\n\r\n'),
      ),
    )
    router.up('two', { versionId: 'hello-v2' })
    await router.apply([{ ...hello(), shares: [{ versionId: 'hello-v2', percent: 100 }] }])
    const response = await waiting
    expect([response.status, response.headers['x-isola-version']]).toEqual([204, 'hello-v2'])
  })
})
