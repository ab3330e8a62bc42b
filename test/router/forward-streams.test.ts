import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { expect, test } from 'vitest'
import { closeOf, startHttpInstance, startRawInstance } from '../harness/fake-instance.ts'
import { hello, startTestRouter, type TestRouter } from '../harness/router-process.ts'

const MIB = 1024 * 1024

async function aRouter(options: Parameters<typeof startTestRouter>[0] = {}): Promise<TestRouter> {
  const router = await startTestRouter(options)
  await router.apply()
  return router
}

const get = (router: TestRouter, path = '/'): string => `GET ${path} HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`

function residentMib(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024
}

test('each event of a stream arrives before the next is written, and the head before the first', async () => {
  await using router = await aRouter()
  let events: ServerResponse | undefined
  router.undo.use(
    await startHttpInstance(router.socketPath('one'), (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.flushHeaders()
      events = response
    }),
  )
  router.up('one')
  const client = await router.open()
  client.send(get(router))
  await client.until((text) => text.includes('text/event-stream') && text.endsWith('\r\n\r\n'))
  for (const event of ['data: one\n\n', 'data: two\n\n', 'data: three\n\n']) {
    events!.write(event)
    await client.until((text) => text.includes(event))
  }
  events!.end()
  await client.until((text) => text.endsWith('\r\n0\r\n\r\n'))
  client.socket.destroy()
})

test('a body goes up in parts as the client sends them, and both directions flow at once', async () => {
  await using router = await aRouter()
  router.undo.use(
    await startHttpInstance(router.socketPath('one'), (request, response) => {
      response.flushHeaders()
      request.pipe(response)
    }),
  )
  router.up('one')
  const client = await router.open()
  client.send(`POST / HTTP/1.1\r\nHost: ${router.host}\r\nTransfer-Encoding: chunked\r\n\r\n`)
  for (const word of ['alpha', 'beta', 'gamma']) {
    client.send(`${word.length.toString(16)}\r\n${word}\r\n`)
    await client.until((text) => text.includes(word))
  }
  client.send('0\r\nX-Trailer: gone\r\n\r\n')
  const all = await client.until((text) => text.endsWith('\r\n0\r\n\r\n'))
  expect(all).not.toContain('gone')
  client.socket.destroy()
})

test('a reader that stops holds the instance back, and the rest comes when it reads on', async () => {
  await using router = await aRouter()
  const size = 64 * MIB
  let instanceSide: Socket | undefined
  router.undo.use(
    await startHttpInstance(router.socketPath('one'), (request, response) => {
      instanceSide = request.socket
      const chunk = Buffer.alloc(MIB, 'x')
      let left = size / MIB
      const pump = (): void => {
        while (left > 0) {
          left--
          if (!response.write(chunk)) {
            response.once('drain', pump)
            return
          }
        }
        response.end()
      }
      pump()
    }),
  )
  router.up('one')
  const client = await router.open()
  client.socket.pause()
  client.send(get(router))
  client.socket.pause()
  await router.agent.heard('load', ({ instances }) => (instances[0]?.progress ?? 0) > 1)
  // Stuck: what was written is what buffers on the way take, and no more of it comes.
  let written = -1
  while (written !== instanceSide!.bytesWritten) {
    written = instanceSide!.bytesWritten
    const loads = router.agent.messages.filter(({ type }) => type === 'load').length
    await router.agent.heard(
      'load',
      () => router.agent.messages.filter(({ type }) => type === 'load').length > loads + 3,
    )
  }
  expect(written).toBeLessThan(size / 2)
  expect(residentMib(router.pid)).toBeLessThan(200)
  const got = { bytes: 0 }
  client.socket.removeAllListeners('data')
  client.socket.on('data', (chunk) => (got.bytes += chunk.length))
  client.socket.resume()
  while (got.bytes < size) await once(client.socket, 'data')
  client.socket.destroy()
})

test('500 MB down and up leave the router small', async () => {
  await using router = await aRouter({ limits: { requestBodyBytesMax: 600 * MIB } })
  await router.apply([hello({}, { requestBytes: 600 * MIB })])
  const size = 500 * MIB
  router.undo.use(
    await startHttpInstance(router.socketPath('one'), (request, response) => {
      if (request.method === 'POST') {
        let bytes = 0
        request.on('data', (chunk: Buffer) => (bytes += chunk.length))
        request.on('end', () => response.end(String(bytes)))
        return
      }
      response.writeHead(200, { 'content-length': size })
      pour(response, size)
    }),
  )
  router.up('one')
  const down = await router.open()
  down.socket.removeAllListeners('data')
  const got = { bytes: 0 }
  let peakMib = 0
  down.socket.on('data', (chunk: Buffer) => {
    if (Math.floor(got.bytes / (50 * MIB)) !== Math.floor((got.bytes + chunk.length) / (50 * MIB)))
      peakMib = Math.max(peakMib, residentMib(router.pid))
    got.bytes += chunk.length
  })
  down.send(get(router))
  while (got.bytes < size) await once(down.socket, 'data')
  down.socket.destroy()

  const up = await router.open()
  up.send(`POST / HTTP/1.1\r\nHost: ${router.host}\r\nContent-Length: ${size}\r\n\r\n`)
  pour(up.socket, size, () => (peakMib = Math.max(peakMib, residentMib(router.pid))))
  expect((await up.response()).body.toString()).toBe(String(size))
  up.socket.destroy()
  expect(peakMib).toBeLessThan(220)
})

function pour(sink: Socket | ServerResponse, size: number, onStep: () => void = () => undefined): void {
  const chunk = Buffer.alloc(MIB, 'x')
  let left = size
  const pump = (): void => {
    onStep()
    while (left > 0) {
      left -= MIB
      if (!sink.write(chunk)) {
        sink.once('drain', pump)
        return
      }
    }
    if ('writeHead' in sink) sink.end()
  }
  pump()
}

test('a client that goes away is felt by the function, gives its slot back, and is logged as such', async () => {
  await using router = await aRouter({ policy: { concurrency: 1 } })
  const seen: IncomingMessage[] = []
  await using instance = await startHttpInstance(router.socketPath('one'), (request, response) => {
    seen.push(request)
    if (request.url === '/stream') response.write('first')
    if (request.url === '/ok') response.end('ok')
  })
  router.up('one')
  for (const path of ['/wait', '/stream']) {
    const client = await router.open()
    const asked = once(instance.server, 'request')
    client.send(get(router, path))
    const [request] = (await asked) as [IncomingMessage]
    if (path === '/stream') await client.until((text) => text.includes('first'))
    client.socket.destroy()
    await closeOf(request)
    expect((await router.ask(get(router, '/ok'))).body.toString()).toBe('ok')
  }
  const lines = async (path: string): Promise<unknown> => {
    const { lines } = await router.agent.heard('log', ({ lines }) =>
      lines.some((line) => line.request?.path === path),
    )
    return lines.find((line) => line.request?.path === path)!.request
  }
  expect(await lines('/wait')).toMatchObject({ status: 499, clientAborted: true })
  expect(await lines('/stream')).toMatchObject({ status: 200, clientAborted: true })
})

test('a client that goes away in the middle of its upload breaks the request off', async () => {
  await using router = await aRouter()
  await using instance = await startHttpInstance(router.socketPath('one'), () => undefined)
  router.up('one')
  const client = await router.open()
  const asked = once(instance.server, 'request')
  client.send(`POST / HTTP/1.1\r\nHost: ${router.host}\r\nContent-Length: 1000\r\n\r\nabc`)
  const [request] = (await asked) as [IncomingMessage]
  client.socket.destroy()
  expect((await closeOf(request)).complete).toBe(false)
})

test('a reader that never reads on is cut off, and its slot comes back', async () => {
  await using router = await aRouter({ limits: { socketIdleTimeoutMs: 300 }, policy: { concurrency: 1 } })
  router.undo.use(
    await startHttpInstance(router.socketPath('one'), (request, response) => {
      if (request.url === '/ok') response.end('ok')
      else pour(response, 64 * MIB)
    }),
  )
  router.up('one')
  const client = await router.open()
  client.socket.pause()
  client.send(get(router, '/big'))
  client.socket.pause()
  expect((await router.ask(get(router, '/ok'))).body.toString()).toBe('ok')
  client.socket.destroy()
})

test('a stream that is silent for longer than any bound stays open', async () => {
  await using router = await aRouter({
    limits: {
      socketIdleTimeoutMs: 100,
      responseTimeoutMs: 100,
      requestTimeoutMs: 100,
      keepAliveTimeoutMs: 100,
    },
  })
  let events: ServerResponse | undefined
  router.undo.use(
    await startHttpInstance(router.socketPath('one'), (_request, response) => {
      response.write('first')
      events = response
    }),
  )
  router.up('one')
  const client = await router.open()
  client.send(get(router))
  await client.until((text) => text.includes('first'))
  const other = await router.open()
  // An idle connection that began later has been closed meanwhile: the bounds are over.
  other.send('GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n')
  await other.response()
  await other.closed()
  events!.end('last')
  await client.until((text) => text.includes('last'))
  client.socket.destroy()
})

test('an answer that comes before the end of the upload is passed on, and the connection is not used again', async () => {
  await using router = await aRouter({ limits: { lingerMs: 100 } })
  await using instance = await startRawInstance(router.socketPath('one'), (socket, received) => {
    if (received.includes('\r\n\r\n') && !received.includes('answered'))
      socket.write('HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno')
  })
  router.up('one')
  const client = await router.open()
  client.send(`POST / HTTP/1.1\r\nHost: ${router.host}\r\nContent-Length: 1000000\r\n\r\nabc`)
  const response = await client.response()
  expect([response.status, response.headers.connection]).toEqual([403, 'close'])
  await client.closed()
  client.socket.destroy()
  await instance.openConnections(0)
})
