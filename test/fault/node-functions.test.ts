/** What a function may do to itself, on a whole node, beside a neighbour whose requests must not fail. */
import { once } from 'node:events'
import { readdirSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { startWorkNode, type Traffic, type WorkNode } from '../harness/work-node.ts'

const HELLO = `export default { fetch: () => new Response('hello') }`
const LOOP = `export default { fetch(request) { if (request.url.endsWith('/ok')) return new Response('ok'); for (;;) {} } }`

let node: WorkNode
let neighbour: Traffic

beforeAll(async () => {
  node = await startWorkNode()
  await node.deploy('neighbour', HELLO)
})
afterAll(async () => {
  expect((await node.stop()).leftBehind).toEqual([])
  expect(node.traces()).toEqual([])
})
beforeEach(async () => {
  neighbour = node.traffic('neighbour', { concurrency: 2 })
  await neighbour.more(1)
})
afterEach(async () => {
  await neighbour.more(10)
  expect((await neighbour.stop()).failures).toEqual([])
})

describe('an endless loop', () => {
  test.each([50, 300, undefined])(
    'with cpu_ms %s ends by its name, and the function answers again',
    async (cpuMs) => {
      const name = `loop-${cpuMs ?? 'default'}`
      await node.deploy(name, LOOP, cpuMs === undefined ? {} : { limits: { cpuMs } })
      expect(await node.get(name, '/')).toMatchObject({ status: 503, code: 'cpu_limit_exceeded' })
      expect(await node.get(name, '/ok')).toMatchObject({ status: 200, text: 'ok' })
    },
  )

  test('ends every request that is on the instance by the same name', async () => {
    const source = `export default { async fetch(request) {
      if (request.url.endsWith('/loop')) for (;;) {}
      await new Promise(() => setTimeout(() => {}, 60000))
    } }`
    await node.deploy('loop-of-many', source, { limits: { cpuMs: 200 }, policy: { max: 1 } })
    const others = Array.from({ length: 20 }, () => node.get('loop-of-many', '/wait'))
    await node.until(async () => (await node.instances('loop-of-many')).length > 0)
    const all = await Promise.all([...others, node.get('loop-of-many', '/loop')])
    expect(new Set(all.map(({ code }) => code))).toEqual(new Set(['cpu_limit_exceeded']))
  })

  test('in waitUntil work after the response ends the instance, and the response was whole', async () => {
    const source = `export default { fetch(request, env, ctx) {
      if (request.url.endsWith('/ok')) return new Response('ok')
      ctx.waitUntil((async () => { await scheduler.wait(20); for (;;) {} })())
      return new Response('answered')
    } }`
    await node.deploy('loop-late', source, { limits: { cpuMs: 100 } })
    expect(await node.get('loop-late')).toMatchObject({ status: 200, text: 'answered' })
    await logLine('loop-late', /cpu_limit/)
    expect(await node.get('loop-late', '/ok')).toMatchObject({ status: 200, text: 'ok' })
  })

  test('of microtasks and one of a regular expression end like any other', async () => {
    const source = `export default { async fetch(request) {
      if (request.url.endsWith('/regex')) return new Response(String(/^(a+)+$/.test('a'.repeat(60) + 'b')))
      for (;;) await null
    } }`
    await node.deploy('loop-kinds', source, { limits: { cpuMs: 200 } })
    expect((await node.get('loop-kinds', '/regex')).code).toBe('cpu_limit_exceeded')
    expect((await node.get('loop-kinds', '/micro')).code).toBe('cpu_limit_exceeded')
  })

  test('at start-up is refused at the deploy, and the old version goes on', async () => {
    await node.deploy('start-loop', HELLO)
    await expect(node.deploy('start-loop', `for (;;) {}\n${HELLO}`)).rejects.toMatchObject({
      code: 'version_refused',
      message: expect.stringMatching(/loop/),
    })
    expect(await node.get('start-loop')).toMatchObject({ status: 200, text: 'hello' })
  })
})

describe('memory', () => {
  test.each([
    ['heap', `const all = []; for (;;) all.push({ at: all.length, text: 'x'.repeat(100) + all.length })`],
    [
      'array buffers',
      `const all = []; for (;;) { const one = new Uint8Array(8 << 20); one.fill(1); all.push(one) }`,
    ],
  ])('beyond the limit (%s) ends the instance by its name', async (kind, bomb) => {
    const name = `bomb-${kind.replace(' ', '-')}`
    const source = `export default { fetch(request) { if (request.url.endsWith('/ok')) return new Response('ok'); ${bomb} } }`
    await node.deploy(name, source, { limits: { memoryMib: 96 } })
    expect(await node.get(name)).toMatchObject({ status: 503, code: 'memory_limit_exceeded' })
    expect(await node.get(name, '/ok')).toMatchObject({ status: 200, text: 'ok' })
  })
})

describe('an instance that ends itself', () => {
  test('is a named error of its own requests and is replaced', async () => {
    const source = `import { abortIsolate } from 'cloudflare:workers'
      export default { fetch(request) { if (request.url.endsWith('/ok')) return new Response('ok'); abortIsolate('enough') } }`
    await node.deploy('abort', source)
    const answer = await node.get('abort')
    expect(answer.code, JSON.stringify(answer)).toBe('instance_crashed')
    expect(await node.get('abort', '/ok')).toMatchObject({ status: 200, text: 'ok' })
  })

  test('again and again is held back with a reason and a time, and a good version serves at once', async () => {
    const source = `import { abortIsolate } from 'cloudflare:workers'
      export default { fetch: () => abortIsolate('always') }`
    await node.deploy('crash-loop', source)
    const held = await node.until(async () => {
      const answer = await node.get('crash-loop')
      return answer.code === 'crash_loop' ? answer : undefined
    })
    expect(held.status).toBe(503)
    expect(Number(held.retryAfter)).toBeGreaterThan(0)
    expect(held.message).toContain('crash-loop')
    await node.deploy('crash-loop', HELLO)
    expect(await node.get('crash-loop')).toMatchObject({ status: 200, text: 'hello' })
  })
})

describe('what harms nobody', () => {
  test('unhandled rejections and a thousand pending timers leave the instance serving', async () => {
    const source = `export default { fetch() {
      for (let i = 0; i < 1000; i++) setTimeout(() => {}, 600000)
      void Promise.reject(new Error('nobody listens'))
      return new Response('fine')
    } }`
    await node.deploy('untidy', source)
    for (let i = 0; i < 20; i++) expect(await node.get('untidy')).toMatchObject({ status: 200, text: 'fine' })
    expect(await node.instances('untidy')).toHaveLength(1)
    await logLine('untidy', /nobody listens/)
  })

  test('a throw in the middle of a stream breaks off that response alone', async () => {
    const source = `export default { fetch(request) {
      if (request.url.endsWith('/ok')) return new Response('ok')
      let n = 0
      return new Response(new ReadableStream({ async pull(c) { if (n++ === 3) throw new Error('mid'); await scheduler.wait(10); c.enqueue(new TextEncoder().encode('part')) } }))
    } }`
    await node.deploy('mid-throw', source)
    await expect(node.get('mid-throw')).rejects.toThrow(/aborted|hang up|ECONNRESET/)
    expect(await node.get('mid-throw', '/ok')).toMatchObject({ text: 'ok' })
  })

  test('a flood of output leaves the node healthy and the disk within bounds', async () => {
    const source = `export default { fetch(request) {
      const line = 'x'.repeat(10000)
      for (let i = 0; i < 5000; i++) console.log(i, line)
      return new Response('written')
    } }`
    await node.deploy('flood', source)
    // 100 MB, and 50 more for a node that is behind already.
    const answers = await Promise.all([node.get('flood'), node.get('flood')])
    answers.push(await node.get('flood'))
    expect(answers.map(({ text }) => text)).toEqual(['written', 'written', 'written'])
    await logLine('flood', /bytes of output were dropped/)
    const logs = join(node.dataDirectory, 'logs')
    const bytes = readdirSync(logs).reduce((sum, file) => sum + statSync(join(logs, file)).size, 0)
    expect(bytes).toBeGreaterThan(100_000)
    expect(bytes).toBeLessThan(40 * 1024 * 1024)
  })

  test('an endless stream to a client that does not read is held back, and ends with the client', async () => {
    const source = `let sent = 0
      export default { fetch(request) {
        if (request.url.endsWith('/sent')) return new Response(String(sent))
        const part = new Uint8Array(65536)
        return new Response(new ReadableStream({ pull(c) { sent += part.length; c.enqueue(part) } }))
      } }`
    await node.deploy('endless', source, { limits: { memoryMib: 96 }, policy: { max: 1, idleMs: 200 } })
    const { hostname, port } = new URL(node.httpUrl)
    const socket = connect(Number(port), hostname)
    socket.write(`GET / HTTP/1.1\r\nhost: endless.localhost\r\n\r\n`)
    await once(socket, 'readable')
    const settled = await node.until(async () => {
      const before = (await node.get('endless', '/sent')).text
      await neighbour.more(20)
      return before === (await node.get('endless', '/sent')).text && Number(before)
    })
    expect(settled).toBeGreaterThan(0)
    expect(settled).toBeLessThan(32 * 1024 * 1024)
    socket.destroy()
    await node.until(async () => (await node.instances('endless')).length === 0)
  })

  test('a thousand connections out at once are the function’s own problem', async () => {
    const source = `export default { async fetch(request) {
        if (request.url.endsWith('/ok')) return new Response('ok')
        const all = await Promise.allSettled(Array.from({ length: 3000 }, () => fetch('http://192.0.2.1/')))
        return new Response(String(all.length))
      } }`
    await node.deploy('fan-out', source)
    const answer = await node.get('fan-out')
    expect(answer.status === 200 || answer.code !== undefined, JSON.stringify(answer)).toBe(true)
    expect(await node.get('fan-out', '/ok')).toMatchObject({ status: 200, text: 'ok' })
  })

  test('a WebSocket that rests keeps its instance, however short the idle time, through a deploy', async () => {
    const source = `export default { fetch(request) {
      if (request.headers.get('upgrade') !== 'websocket') return new Response('old')
      const [client, server] = Object.values(new WebSocketPair())
      server.accept()
      server.addEventListener('message', ({ data }) => server.send(data))
      return new Response(null, { status: 101, webSocket: client })
    } }`
    await node.deploy('chat', source, { policy: { idleMs: 200 } })
    const socket = await openSocket('chat')
    const [instance] = await node.instances('chat')
    await node.deploy('chat', HELLO, { policy: { idleMs: 200 } })
    // A later instance has come and gone meanwhile.
    await node.get('chat')
    await node.until(async () => {
      const found = await node.instances('chat')
      return found.length === 1 && found[0]!.pid === instance!.pid
    })
    // "hi" as a masked text frame, and as it comes back.
    socket.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]))
    const [echo] = (await once(socket, 'data')) as [Buffer]
    expect(echo).toEqual(Buffer.from([0x81, 0x02, 0x68, 0x69]))
    socket.destroy()
    await node.until(async () => (await node.instances('chat')).length === 0)
  })
})

async function openSocket(name: string): Promise<Socket> {
  const { hostname, port } = new URL(node.httpUrl)
  const handshake = request({
    hostname,
    port,
    headers: {
      host: `${name}.localhost:${port}`,
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    },
  })
  handshake.end()
  const [, socket] = (await once(handshake, 'upgrade')) as [unknown, Socket]
  return socket
}

async function logLine(name: string, text: RegExp): Promise<void> {
  const abort = new AbortController()
  for await (const line of node.client().logs(name, { lines: 1_000, follow: true, signal: abort.signal })) {
    if (text.test(line.message)) return abort.abort()
  }
}
