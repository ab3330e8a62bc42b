import { once } from 'node:events'
import { expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { withRunningGuest, type GuestInstance } from '../harness/guest-instance.ts'
import { startTestRouter, type RawResponse, type TestRouter } from '../harness/router-process.ts'

const SOURCE = `
  const CHUNK = new Uint8Array(65536)
  export default {
    async fetch(request, env, ctx) {
      const url = new URL(request.url)
      switch (url.pathname) {
        case '/throw': throw new Error('as asked')
        case '/none': return new Response(null, { status: 204, headers: { 'x-a': 'b' } })
        case '/count': {
          let bytes = 0
          for await (const chunk of request.body ?? []) bytes += chunk.byteLength
          return new Response(String(bytes))
        }
        case '/pour': {
          let left = Number(url.searchParams.get('bytes'))
          return new Response(new ReadableStream({
            pull(controller) {
              if (left <= 0) return controller.close()
              controller.enqueue(CHUNK.slice(0, Math.min(left, CHUNK.length)))
              left -= CHUNK.length
            },
            cancel() { console.log('cancelled') },
          }))
        }
        case '/socket': {
          const pair = new WebSocketPair()
          pair[1].accept()
          pair[1].addEventListener('message', (event) => pair[1].send(event.data))
          return new Response(null, { status: 101, webSocket: pair[0] })
        }
        default:
          console.log('seen', url.pathname)
          return Response.json({ url: request.url, method: request.method, headers: [...request.headers] })
      }
    },
  }`

async function withRouter(use: (router: TestRouter, guest: GuestInstance) => Promise<void>): Promise<void> {
  await withRunningGuest(SOURCE, async (guest) => {
    await using router = await startTestRouter({ flags: ['--trusted-proxies', '127.0.0.1'] })
    await router.apply()
    router.agent.send({
      type: 'instance-up',
      cold: false,
      instance: { id: 'one', functionName: 'hello', versionId: 'hello-v1', socketPath: guest.socketPath },
    })
    await use(router, guest)
  })
}

const get = (router: TestRouter, path: string, more = '', method = 'GET'): string =>
  `${method} ${path} HTTP/1.1\r\nHost: ${router.host}\r\n${more}\r\n`

const jsonOf = (response: RawResponse): { url: string; method: string; headers: [string, string][] } =>
  JSON.parse(response.body.toString()) as never

test('a function in workerd sees the URL of its client, and a scheme that only a trusted proxy can change', async () => {
  await withRouter(async (router) => {
    const plain = jsonOf(await router.ask(get(router, '/a%20b?c=d&e')))
    expect(plain.url).toBe(`http://${router.host}/a%20b?c=d&e`)
    const secure = jsonOf(
      await router.ask(get(router, '/', 'X-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.9\r\n')),
    )
    expect(secure.url).toBe(`https://${router.host}/`)
    const headers = new Map(secure.headers)
    expect(headers.get('cf-connecting-ip')).toBe('203.0.113.9')
    expect([...headers.keys()].filter((name) => name.startsWith('isola'))).toEqual([])
  })
})

test('what the function logs and throws carries the id that the client was told', async () => {
  await withRouter(async (router, guest) => {
    const seen = await router.ask(get(router, '/log'))
    const line = await guest.line(({ message }) => message.includes('seen'))
    expect(line.requestId).toBe(seen.headers['x-request-id'])
    const thrown = await router.ask(get(router, '/throw'))
    expect([thrown.status, thrown.headers['x-isola-error']]).toEqual([500, 'function_threw'])
    const exception = await guest.line(({ source }) => source === 'exception')
    expect(exception.requestId).toBe(thrown.headers['x-request-id'])
  })
})

test('bodies of every framing, responses without one, and what follows them on the same connection', async () => {
  await withRouter(async (router) => {
    const client = await router.open()
    const requests: readonly [string, number, string][] = [
      [get(router, '/count', 'Content-Length: 5\r\n', 'POST') + 'hello', 200, '5'],
      [
        get(router, '/count', 'Transfer-Encoding: chunked\r\n', 'PUT') + '3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n',
        200,
        '7',
      ],
      [get(router, '/count', 'Content-Length: 3\r\n') + 'abc', 200, '3'],
      [get(router, '/count', 'Content-Length: 0\r\n', 'POST'), 200, '0'],
      [get(router, '/count', '', 'DELETE'), 200, '0'],
      [get(router, '/none'), 204, ''],
      [get(router, '/pour?bytes=200000'), 200, '\0'.repeat(200_000)],
    ]
    for (const [bytes, status, body] of requests) {
      client.send(bytes)
      const response = await client.response()
      expect([response.status, response.body.toString()]).toEqual([status, body])
    }
    client.send(get(router, '/none', '', 'HEAD'))
    expect((await client.response({ isHead: true })).headers['x-a']).toBe('b')
    client.send(get(router, '/pour?bytes=100', '', 'HEAD'))
    expect((await client.response({ isHead: true })).status).toBe(200)
    client.send(get(router, '/last'))
    expect(jsonOf(await client.response()).url).toContain('/last')
    client.socket.destroy()
  })
})

test('100 MB go up and down', async () => {
  await withRouter(async (router) => {
    const size = 100 * 1024 * 1024
    const up = await router.ask(
      get(router, '/count', `Content-Length: ${size}\r\n`, 'POST'),
      Buffer.alloc(size),
    )
    expect(up.body.toString()).toBe(String(size))
    const down = await router.open()
    const got = { bytes: 0 }
    down.socket.removeAllListeners('data')
    down.socket.on('data', (chunk: Buffer) => (got.bytes += chunk.length))
    down.send(get(router, `/pour?bytes=${size}`))
    while (got.bytes < size) await once(down.socket, 'data')
    down.socket.destroy()
  })
})

test('a client that leaves a stream cancels it in the function', async () => {
  await withRouter(async (router, guest) => {
    const client = await router.open()
    client.send(get(router, '/pour?bytes=10000000000'))
    await client.until((text) => text.length > 100_000)
    client.socket.destroy()
    await guest.line(({ message }) => message.includes('cancelled'))
    await router.agent.heard('load', ({ instances }) => instances[0]?.inFlight === 0)
  })
})

test('a WebSocket to workerd echoes, and ends', async () => {
  await withRouter(async (router) => {
    const socket = new WebSocket(`ws://127.0.0.1:${router.port}/socket`, { headers: { host: router.host } })
    await once(socket, 'open')
    for (const text of ['one', 'x'.repeat(100_000)]) {
      socket.send(text)
      const [data] = (await once(socket, 'message')) as [Buffer]
      expect(data.toString()).toBe(text)
    }
    socket.terminate()
    await router.agent.heard(
      'load',
      ({ instances }) => instances[0]?.inFlight === 0 && instances[0].progress > 2,
    )
  })
})

test('a plain request to where a WebSocket is, and the other way round, do not hang', async () => {
  await withRouter(async (router) => {
    const plain = await router.ask(get(router, '/socket'))
    expect(plain.status).toBeGreaterThanOrEqual(400)
    const upgrade =
      'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
    const refused = await router.ask(get(router, '/plain', upgrade))
    expect(refused.status).toBe(200)
    expect(refused.headers.connection).toBe('close')
  })
})
