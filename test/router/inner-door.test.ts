import { createHash } from 'node:crypto'
import { request, type IncomingHttpHeaders } from 'node:http'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { echoHeads, startHttpInstance, startRawInstance } from '../harness/fake-instance.ts'
import { hello, startTestRouter, type TestRouter } from '../harness/router-process.ts'
import { aFunction } from '../harness/snapshots.ts'

interface InnerAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

interface InnerRequest {
  readonly method?: string
  readonly path?: string
  readonly headers?: Readonly<Record<string, string | readonly string[]>>
  readonly body?: string
}

const doorOf = (router: TestRouter): string => join(router.directory, 'invoke.sock')

function askInside(router: TestRouter, asked: InnerRequest = {}): Promise<InnerAnswer> {
  const { method = 'GET', path = '/', headers = {}, body } = asked
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        socketPath: doorOf(router),
        method,
        path,
        headers: { host: 'any.example', ...headers },
        agent: false,
      },
      (answer) => {
        let text = ''
        answer.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
        answer.on('end', () => resolve({ status: answer.statusCode!, headers: answer.headers, body: text }))
        answer.on('error', reject)
      },
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

const errorOf = ({ body }: InnerAnswer): string =>
  (JSON.parse(body) as { error: { code: string } }).error.code

/** `hello` with an instance that answers with the head it got. */
async function startEcho(): Promise<TestRouter> {
  const router = await startTestRouter()
  router.undo.use(await startRawInstance(router.socketPath('i1'), echoHeads))
  await router.apply()
  router.up('i1')
  return router
}

describe('the inner door', () => {
  test('finds a function by name, whatever host the request is for, and only its owner can open it', async () => {
    await using router = await startEcho()
    const answer = await askInside(router, { path: '/a?b=1', headers: { 'isola-function': 'hello' } })
    expect(answer.status).toBe(200)
    expect(answer.body).toContain('GET /a?b=1 HTTP/1.1\r\nhost: any.example\r\n')
    expect(answer.headers['x-isola-version']).toBe('hello-v1')
    expect(statSync(doorOf(router)).mode & 0o777).toBe(0o600)
  })

  test('also takes hosts that no function could have', async () => {
    await using router = await startEcho()
    for (const host of ['[::1]:80', 'under_score!', '127.0.0.1']) {
      const answer = await askInside(router, { headers: { 'isola-function': 'hello', host } })
      expect(answer.body).toContain(`host: ${host}\r\n`)
    }
  })

  test('a function that is not there, or not named, is refused by name and marked as the router’s own answer', async () => {
    await using router = await startEcho()
    const unknown = await askInside(router, { headers: { 'isola-function': 'nobody' } })
    expect([unknown.status, errorOf(unknown)]).toEqual([404, 'function_not_found'])
    expect(unknown.headers['isola-error']).toBe('function_not_found')
    expect(unknown.body).toContain('nobody')
    const unnamed = await askInside(router, { headers: { host: router.host } })
    expect([unnamed.status, errorOf(unnamed)]).toEqual([400, 'bad_request'])
    expect(unnamed.headers['isola-error']).toBe('bad_request')
    const twice = await askInside(router, { headers: { 'isola-function': ['hello', 'hello'] } })
    expect(errorOf(twice)).toBe('function_not_found')
    for (const name of ['constructor', '__proto__', ''])
      expect((await askInside(router, { headers: { 'isola-function': name } })).status).toBe(404)
  })

  test('a version is chosen by its id: those with traffic, with a preview host and those that are pinned', async () => {
    await using router = await startTestRouter()
    const versions = ['live', 'preview', 'pinned']
    for (const id of versions) {
      router.undo.use(
        await startHttpInstance(router.socketPath(id), (_request, response) => response.end(`from ${id}`)),
      )
    }
    const shop = aFunction('shop', {
      shares: [{ versionId: 'live', percent: 100 }],
      previewVersionIds: ['preview'],
      pinnedVersionIds: ['pinned'],
    })
    await router.apply([shop, hello()])
    for (const id of versions) router.up(id, { functionName: 'shop', versionId: id })
    for (const id of versions) {
      const headers = { 'isola-function': 'shop', 'isola-version': id }
      const answer = await askInside(router, { headers })
      expect(answer.body).toBe(`from ${id}`)
      expect(answer.headers['x-isola-version']).toBe(id)
    }
    const other = await askInside(router, {
      headers: { 'isola-function': 'shop', 'isola-version': 'hello-v1' },
    })
    expect([other.status, errorOf(other)]).toEqual([404, 'version_not_found'])
    expect((await askInside(router, { headers: { 'isola-function': 'shop' } })).body).toBe('from live')
  })

  test('isola’s own headers and those about the client pass to the instance, but for the ones that address it', async () => {
    await using router = await startEcho()
    const headers = {
      'isola-function': 'hello',
      'isola-invoke': 'event',
      'isola-proto': 'https',
      'isola-cf': '{}',
      isola_invoke: 'forged',
      'x-forwarded-for': '203.0.113.7',
      'x-forwarded-proto': 'https',
      'cf-connecting-ip': '203.0.113.7',
      'x-request-id': 'the-caller-1',
    }
    const { body } = await askInside(router, { headers })
    for (const line of [
      'isola-invoke: event',
      'isola-proto: https',
      'x-forwarded-for: 203.0.113.7',
      'x-forwarded-proto: https',
      'cf-connecting-ip: 203.0.113.7',
      'x-request-id: the-caller-1',
    ])
      expect(body).toContain(`${line}\r\n`)
    for (const name of ['isola-function', 'isola-version', 'isola-cf', 'isola_invoke', 'x-forwarded-host'])
      expect(body).not.toContain(`${name}:`)
    // What `Connection` names is hop-by-hop here, too.
    const named = await askInside(router, {
      headers: { ...headers, connection: 'isola-invoke, close', 'isola-proto': 'https' },
    })
    expect(named.body).not.toContain('isola-invoke')
    expect(named.body).toContain('isola-proto: https')
  })

  test('by the outer door they reach neither the instance nor the client', async () => {
    await using router = await startTestRouter()
    const instance = await startHttpInstance(router.socketPath('i1'), (_request, response) => {
      response.writeHead(200, { 'isola-function-error': 'Unhandled', 'isola-error': 'x', 'x-kept': 'yes' })
      response.end()
    })
    router.undo.use(instance)
    await router.apply()
    router.up('i1')
    const lines = ['isola-function: other', 'isola-version: v', 'isola-invoke: event', 'isola-depth: 3']
    const outside = await router.ask(
      `GET / HTTP/1.1\r\nhost: ${router.host}\r\n${lines.join('\r\n')}\r\nconnection: close\r\n\r\n`,
    )
    expect(outside.status).toBe(200)
    expect(outside.headers['x-kept']).toBe('yes')
    expect(Object.keys(outside.headers).filter((name) => name.startsWith('isola-'))).toEqual([])
    const received = instance.requests[0]!.headers
    expect(Object.keys(received).filter((name) => name.startsWith('isola-'))).toEqual(['isola-proto'])

    const inside = await askInside(router, { headers: { 'isola-function': 'hello' } })
    expect(inside.headers['isola-function-error']).toBe('Unhandled')
    expect(inside.headers['isola-error']).toBe('x')
  })

  test('its requests are counted and logged like any, with the host as it was given', async () => {
    await using router = await startEcho()
    await askInside(router, { path: '/x', headers: { 'isola-function': 'hello', host: 'Inner.Example:81' } })
    const { lines } = await router.agent.heard('log')
    expect(lines[0]!.request).toMatchObject({ host: 'Inner.Example:81', path: '/x', status: 200 })
    expect(lines[0]!.functionName).toBe('hello')
    const { metrics } = await router.agent.heard('metrics')
    expect(JSON.stringify(metrics)).toContain('hello-v1')
  })

  test('the policy of the function holds: a full queue is refused by its name', async () => {
    await using router = await startTestRouter({ policy: { queue: 0, max: 1, concurrency: 1 } })
    const instance = await startRawInstance(router.socketPath('i1'))
    router.undo.use(instance)
    await router.apply()
    router.up('i1')
    const first = askInside(router, { headers: { 'isola-function': 'hello' } })
    await instance.until((received) => received.includes('\r\n\r\n'))
    const second = await askInside(router, { headers: { 'isola-function': 'hello' } })
    expect([second.status, second.headers['isola-error']]).toEqual([429, 'queue_full'])
    instance.connections[0]!.write('HTTP/1.1 204 No Content\r\n\r\n')
    expect((await first).status).toBe(204)
  })

  test('a WebSocket passes through', async () => {
    await using router = await startTestRouter()
    const key = 'dGhlIHNhbXBsZSBub25jZQ=='
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
    const instance = await startRawInstance(router.socketPath('i1'), (socket, received, chunk) => {
      if (received.endsWith('\r\n\r\n')) {
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
        )
      } else socket.write(chunk)
    })
    router.undo.use(instance)
    await router.apply()
    router.up('i1')
    const echoed = await new Promise<string>((resolve, reject) => {
      const outgoing = request({
        socketPath: doorOf(router),
        headers: {
          host: 'any.example',
          'isola-function': 'hello',
          connection: 'Upgrade',
          upgrade: 'websocket',
          'sec-websocket-version': '13',
          'sec-websocket-key': key,
        },
      })
      outgoing.on('upgrade', (_answer, socket) => {
        socket.on('data', (data: Buffer) => {
          resolve(data.toString())
          socket.destroy()
        })
        socket.write('bytes of a frame')
      })
      outgoing.on('error', reject)
      outgoing.end()
    })
    expect(echoed).toBe('bytes of a frame')
  })

  test('during a drain it goes on for what still runs for the outside, and is gone afterwards', async () => {
    await using router = await startTestRouter()
    const slow = await startRawInstance(router.socketPath('i1'))
    router.undo.use(slow)
    router.undo.use(
      await startHttpInstance(router.socketPath('i2'), (_request, response) => response.end('called')),
    )
    await router.apply([hello(), aFunction('callee')])
    router.up('i1')
    router.up('i2', { functionName: 'callee', versionId: 'callee-v1' })
    const outside = router.ask(`GET / HTTP/1.1\r\nhost: ${router.host}\r\n\r\n`)
    await slow.until((received) => received.includes('\r\n\r\n'))
    router.agent.send({ type: 'shutdown', timeoutMs: 30_000 })
    // The outer door no longer accepts: so the drain has begun.
    await expect
      .poll(() =>
        router.ask(`GET / HTTP/1.1\r\nhost: ${router.host}\r\n\r\n`).then(
          () => 'open',
          () => 'shut',
        ),
      )
      .toBe('shut')
    expect((await askInside(router, { headers: { 'isola-function': 'callee' } })).body).toBe('called')
    slow.connections[0]!.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone')
    expect((await outside).body.toString()).toBe('done')
    await router.exit()
    expect(readdirSync(router.directory).filter((name) => name.startsWith('invoke'))).toEqual([])
  })

  test('a second router takes the door over, and the first does not shut it when it ends', async () => {
    await using first = await startEcho()
    const before = statSync(doorOf(first)).ino
    const { listenAtInnerDoor } = await import('../../router/inner-door.ts')
    const { createServer } = await import('node:http')
    const successor = createServer((_request, response) => response.end('successor'))
    await listenAtInnerDoor(successor, doorOf(first))
    expect(statSync(doorOf(first)).ino).not.toBe(before)
    first.agent.send({ type: 'shutdown', timeoutMs: 1_000 })
    await first.exit()
    expect((await askInside(first)).body).toBe('successor')
    successor.closeAllConnections()
    await new Promise((resolve) => successor.close(resolve))
    expect(statSync(doorOf(first), { throwIfNoEntry: false })).toBeUndefined()
  })
})
