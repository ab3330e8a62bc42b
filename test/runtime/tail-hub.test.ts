/** Sessions and their clients, on a real control server; the router's and the instances' words are the test's. */
import { request } from 'node:http'
import { Duplex } from 'node:stream'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { listenForControl, type ControlServer } from '../../runtime/node/control-server.ts'
import { openServerSocket } from '../../runtime/node/tail/server-socket.ts'
import { TAIL_PATH, TailHub } from '../../runtime/node/tail/tail-hub.ts'
import type { TraceEvent } from '../../runtime/node/tail/trace-event.ts'
import type { Instance } from '../../runtime/pool/driver.ts'
import type { Head } from '../../sdk/model/function.ts'
import { TAIL_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { TailFilter } from '../../wrangler-compat/api/ports.ts'
import { refused } from '../harness/control-place.ts'
import { connectTail, refusedHandshake, type TailClient } from '../harness/tail-client.ts'

let server: ControlServer
let hub: TailHub
let clients: TailClient[]
let tailed: readonly string[][]
let instances: Pick<Instance, 'id' | 'functionName' | 'usage' | 'pendingWork'>[]
let delivered: { consumer: string; event: TraceEvent }[]
let nowMs: number

beforeEach(async () => {
  clients = []
  tailed = []
  instances = []
  delivered = []
  nowMs = Date.UTC(2026, 10, 21)
  server = await listenForControl({ host: '127.0.0.1', port: 0 })
  server.serve({ fetch: () => new Response('plain', { status: 418 }) })
  hub = new TailHub({
    instances: () => instances as Instance[],
    setTailed: (names) => (tailed = [...tailed, [...names]]),
    delivery: { add: (consumer, event) => delivered.push({ consumer, event }), close: () => undefined },
    now: () => nowMs,
  })
  server.upgradeBelow(TAIL_PATH, (request, socket, head) => hub.upgrade(request, socket, head))
})
afterEach(async () => {
  for (const client of clients) client[Symbol.dispose]()
  hub.end()
  await server.close()
})

const urlOf = (path: string): string => `${server.url.replace('http', 'ws')}${path}`

async function watch(functionName = 'shop', filter: TailFilter = {}): Promise<TailClient> {
  const client = await connectTail(urlOf(hub.open(functionName, filter).path))
  clients.push(client)
  return client
}

function line(message: string, more: Partial<LogLine> = {}): LogLine {
  const time = '2026-11-21T10:00:00.000Z'
  const base = {
    source: 'console',
    level: 'log',
    functionName: 'shop',
    versionId: '',
    instanceId: 'i1',
  } as const
  return { time, ...base, message, ...more }
}

function end(
  requestId: string,
  more: { path?: string; functionName?: string; head?: string; error?: string; functionMs?: number } = {},
): Parameters<TailHub['onTailed']>[0][number] {
  const { path = '/', functionName = 'shop', head = '', error, functionMs = 5 } = more
  const summary = {
    method: 'GET',
    host: 'shop',
    path,
    status: 200,
    totalMs: 7,
    queueMs: 1,
    cold: false,
    error,
  }
  return {
    line: line('', { source: 'request', level: 'info', requestId, functionName, request: summary }),
    told: { line: 0, head: `GET ${path} HTTP/1.1\r\nhost: shop\r\n${head}`, functionMs },
  }
}

const pathOf = ({ event }: TraceEvent): string | undefined =>
  event !== null && 'request' in event ? new URL(event.request.url).pathname : undefined
const noticeOf = ({ event }: TraceEvent): string | undefined =>
  event !== null && 'type' in event ? event.type : undefined

describe('the address of a tail', () => {
  test('cannot be guessed, is for one at a time, and is of no use when the tail has ended', async () => {
    const { path, id } = hub.open('shop', {})
    expect(path).toMatch(/^\/client\/v4\/tails\/[\w-]{43}$/)
    expect(await refusedHandshake(urlOf(`${path.slice(0, -1)}${path.endsWith('A') ? 'B' : 'A'}`))).toBe(404)
    expect(await refusedHandshake(urlOf(TAIL_PATH))).toBe(404)
    expect(await refusedHandshake(urlOf(path), ['other'])).toBe(400)
    clients.push(await connectTail(urlOf(path)))
    expect(await refusedHandshake(urlOf(path))).toBe(409)
    expect(hub.close('shop', id)).toBe(true)
    expect((await clients[0]!.closed()).code).toBe(1000)
    expect(await refusedHandshake(urlOf(path))).toBe(404)
  })

  test('is served by name of the protocol, or to a client that names none', async () => {
    const client = await watch()
    expect(client.socket.protocol).toBe('trace-v1')
    expect(client.socket.extensions).toBe('')
    const nameless = await connectTail(urlOf(hub.open('shop', {}).path), { protocols: [] })
    clients.push(nameless)
    expect(nameless.socket.protocol).toBe('')
  })

  test('is the only place for handshakes: elsewhere they are plain requests', async () => {
    expect(await refusedHandshake(urlOf('/v1/status'))).toBe(418)
  })

  test('is refused to a handshake of another version, or without a key', async () => {
    const { path } = hub.open('shop', {})
    const handshake = (headers: Record<string, string>): Promise<number> =>
      new Promise((resolve) => {
        const outgoing = request(`${server.url}${path}`, {
          headers: { connection: 'Upgrade', upgrade: 'websocket', ...headers },
        })
        outgoing.on('response', (answer) => resolve(answer.resume().statusCode ?? 0))
        outgoing.end()
      })
    const key = Buffer.alloc(16).toString('base64')
    expect(await handshake({ 'sec-websocket-version': '8', 'sec-websocket-key': key })).toBe(400)
    expect(await handshake({ 'sec-websocket-version': '13' })).toBe(400)
  })
})

describe('a session', () => {
  test('ends with its connection, and then nobody is watched any more', async () => {
    const client = await watch()
    const other = await watch('other')
    expect(tailed.at(-1)).toEqual(['shop', 'other'])
    client.socket.terminate()
    await expect.poll(() => hub.list('shop')).toEqual([])
    expect(tailed.at(-1)).toEqual(['other'])
    other.socket.close(1000)
    await expect.poll(() => tailed.at(-1)).toEqual([])
    expect((await other.closed()).code).toBe(1000)
  })

  test('that nobody connects to ends by itself', () => {
    vi.useFakeTimers()
    try {
      hub.open('shop', {})
      vi.advanceTimersByTime(TAIL_LIMITS.connectWaitMs - 1)
      expect(hub.list('shop')).toHaveLength(1)
      vi.advanceTimersByTime(1)
      expect(hub.list('shop')).toEqual([])
    } finally {
      vi.useRealTimers()
    }
  })

  test('expires, and its client is told to begin another', async () => {
    const client = await watch()
    const [{ expiresAt } = { expiresAt: '' }] = hub.list('shop')
    expect(Date.parse(expiresAt) - nowMs).toBe(TAIL_LIMITS.sessionMsMax)
    nowMs += TAIL_LIMITS.sessionMsMax
    expect((await client.closed()).code).toBe(1001)
  })

  test('ends with its function by 1000, with the node by 1001', async () => {
    const deleted = await watch('deleted')
    const kept = await watch('kept')
    hub.applyHead({ functions: { kept: { name: 'kept' } } } as unknown as Head)
    expect((await deleted.closed()).code).toBe(1000)
    expect(hub.list('kept')).toHaveLength(1)
    hub.end()
    expect((await kept.closed()).code).toBe(1001)
  })

  test('is one of so many that a function and a node may have', async () => {
    for (let index = 0; index < TAIL_LIMITS.sessionsPerFunctionMax; index++) hub.open('shop', {})
    expect(() => hub.open('shop', {})).toThrow(refused('conflict', /"shop" is watched by 10 tails/))
    for (let index = 0; hubSize() < TAIL_LIMITS.sessionsMax; index++) hub.open(`f${index >> 3}`, {})
    expect(() => hub.open('another', {})).toThrow(refused('conflict', /this node has 200/))
  })

  test.each([
    ['binary data', 1003, (client: TailClient) => client.socket.send(Buffer.from('x'), { binary: true })],
    [
      'a message that is too long',
      1009,
      (client: TailClient) => client.socket.send('x'.repeat(TAIL_LIMITS.clientMessageBytesMax + 1)),
    ],
  ])('whose client sends %s ends with %d', async (_, code, send) => {
    const client = await watch()
    send(client)
    expect((await client.closed()).code).toBe(code)
    await expect.poll(() => hub.list('shop')).toEqual([])
  })

  test('whose client says what nobody understands goes on', async () => {
    const client = await watch()
    for (const text of ['{', 'null', '{"debug":"yes"}', '[]']) client.socket.send(text)
    hub.onTailed([end('r1')], 0)
    expect(pathOf(await client.event((event) => event.event !== null))).toBe('/')
  })
})

function hubSize(): number {
  return [...new Set(tailed.flat())].reduce((sum, name) => sum + hub.list(name).length, 0)
}

describe('what is told', () => {
  test('of two requests under one id are two events', async () => {
    const client = await watch()
    hub.pass(line('of the first', { requestId: 'r1' }))
    hub.onTailed([end('r1', { path: '/first' }), end('r1', { path: '/second' })], 0)
    expect((await client.event((event) => pathOf(event) === '/first')).logs).toMatchObject([
      { message: ['of the first'] },
    ])
    expect((await client.event((event) => pathOf(event) === '/second')).logs).toEqual([])
  })

  test('of lines without a request, and of those that come late, are events of their own', async () => {
    const client = await watch()
    hub.pass(line('at load'))
    expect(await client.event(({ logs }) => logs[0]?.message[0] === 'at load')).toMatchObject({
      event: null,
      outcome: 'ok',
    })
    hub.onTailed([end('r1')], 0)
    await client.event((event) => pathOf(event) === '/')
    hub.pass(line('late', { requestId: 'r1' }))
    hub.pass(line('Error: sad', { requestId: 'r1', source: 'exception', stack: 'Error: sad\n    at x' }))
    expect(await client.event(({ logs }) => logs[0]?.message[0] === 'late')).toMatchObject({
      event: null,
      outcome: 'exception',
      exceptions: [{ name: 'Error', message: 'sad', stack: '    at x' }],
    })
  })

  test('waits for work of the instance, but not without an end', async () => {
    const client = await watch()
    let pending = 1
    const ofInstance = { functionName: 'shop', usage: () => ({ cpuMs: 0, memoryBytes: 0 }) }
    instances = [
      { ...ofInstance, id: 'i1', pendingWork: async () => pending },
      { ...ofInstance, id: 'i2', pendingWork: async () => 1 },
    ]
    hub.onTailed([end('r1', { path: '/ends' })], 0)
    const endless = end('r2', { path: '/endless' })
    hub.onTailed([{ ...endless, line: { ...endless.line, instanceId: 'i2' } }], 0)
    hub.pass(line('before', { requestId: 'r1' }))
    hub.onTailed([{ ...end('r3', { path: '/now' }), line: { ...end('r3').line, instanceId: undefined } }], 0)
    await client.event((event) => pathOf(event) === '/now')
    hub.pass(line('after', { requestId: 'r1' }))
    pending = 0
    expect((await client.event((event) => pathOf(event) === '/ends')).logs).toHaveLength(2)
    expect(pathOf(await client.event((event) => pathOf(event) === '/endless'))).toBe('/endless')
  }, 15_000)

  test('shares the CPU of an instance among requests that ended together, none more than it took', async () => {
    let cpuMs = 1_000
    instances = [
      {
        id: 'i1',
        functionName: 'shop',
        usage: () => ({ cpuMs, memoryBytes: 0 }),
        pendingWork: async () => 0,
      },
    ]
    const client = await watch()
    cpuMs = 1_030
    hub.onTailed([end('r1', { path: '/a', functionMs: 20 }), end('r2', { path: '/b', functionMs: 40 })], 0)
    expect((await client.event((event) => pathOf(event) === '/a')).cpuTime).toBe(10)
    expect((await client.event((event) => pathOf(event) === '/b')).cpuTime).toBe(20)
    cpuMs = 2_000
    hub.onTailed([end('r3', { path: '/c', functionMs: 3 })], 0)
    expect(await client.event((event) => pathOf(event) === '/c')).toMatchObject({ cpuTime: 3, wallTime: 3 })
    // It had ended when the report before was read.
    hub.onTailed([end('r4', { path: '/d', functionMs: 50 })], 0)
    expect((await client.event((event) => pathOf(event) === '/d')).cpuTime).toBe(50)
    hub.onTailed([end('r5', { path: '/e', functionMs: 50 })], 0)
    expect((await client.event((event) => pathOf(event) === '/e')).cpuTime).toBe(0)
  })

  test('of a request that isola ended says why', async () => {
    const client = await watch()
    hub.pass(line('memory limit of 64 MiB reached', { source: 'instance', level: 'error' }))
    hub.onTailed(
      [end('r1', { error: 'memory_limit_exceeded' }), end('r2', { path: '/b', error: 'queue_full' })],
      0,
    )
    expect(await client.event((event) => pathOf(event) === '/')).toMatchObject({
      outcome: 'exceededMemory',
      exceptions: [{ name: 'Error', message: 'memory_limit_exceeded: memory limit of 64 MiB reached' }],
    })
    expect((await client.event((event) => pathOf(event) === '/b')).outcome).toBe('unknown')
  })

  test('has no more lines than an event may have, and says so', async () => {
    const client = await watch()
    for (let index = 0; index <= TAIL_LIMITS.eventLinesMax; index++)
      hub.pass(line(`${index}`, { requestId: 'r1' }))
    hub.pass(line('x'.repeat(TAIL_LIMITS.eventTextMax + 1), { requestId: 'r2' }))
    // A line that is short as text, and long as values.
    const values = ['x'.repeat(10_000)]
    for (let index = 0; index < 100; index++) hub.pass(line('[Object]', { requestId: 'r3', values }))
    hub.onTailed([end('r1'), end('r2', { path: '/long' }), end('r3', { path: '/deep' })], 0)
    const event = await client.event((each) => pathOf(each) === '/')
    expect([event.logs.length, event.truncated]).toEqual([TAIL_LIMITS.eventLinesMax, true])
    expect(await client.event((each) => pathOf(each) === '/long')).toMatchObject({
      logs: [],
      truncated: true,
    })
    const deep = await client.event((each) => pathOf(each) === '/deep')
    expect(deep.truncated).toBe(true)
    expect(JSON.stringify(deep.logs).length).toBeLessThan(2 * TAIL_LIMITS.eventTextMax)
  })

  test('goes to tail consumers too, but not what their own handlers do', async () => {
    const head = {
      functions: {
        shop: {
          name: 'shop',
          wrangler: {
            settings: {
              tailConsumers: [{ service: 'sink' }, { service: 'gone' }, null, { service: 'sink' }],
            },
          },
        },
        sink: { name: 'sink', wrangler: { settings: { tailConsumers: [{ service: 'sink' }] } } },
      },
    } as unknown as Head
    hub.applyHead(head)
    expect(tailed.at(-1)).toEqual(['shop', 'sink'])
    const client = await watch('sink')
    hub.onTailed(
      [end('r1'), end('r2', { functionName: 'sink', head: 'isola-tail-scripts: shop,other\r\n' })],
      0,
    )
    expect(await client.event(({ event }) => event !== null && 'consumedEvents' in event)).toMatchObject({
      event: { consumedEvents: [{ scriptName: 'shop' }, { scriptName: 'other' }] },
    })
    await expect
      .poll(() => delivered.map(({ consumer, event }) => [consumer, event.scriptName]))
      .toEqual([['sink', 'shop']])
  })
})

describe('more than can be told', () => {
  test('is dropped at a slow client, which is told when that begins and when it is over', async () => {
    const client = await watch()
    const other = await watch()
    client.socket.pause()
    const large = `x-large: ${'x'.repeat(14_000)}\r\n`
    for (let first = 0; first < 1_500; first += 250) {
      const batch = Array.from({ length: 250 }, (_, index) =>
        end(`r${first + index}`, { head: large, path: `/${first + index}` }),
      )
      hub.onTailed(batch, 0)
      // In its time; the other client takes nothing.
      await other.event((event) => pathOf(event) === `/${first + 249}`)
    }
    client.socket.resume()
    const stop = await client.event((event) => noticeOf(event) === 'overload-stop')
    const told = client.events.filter((event) => pathOf(event) !== undefined).length
    expect(told).toBeLessThan(1_500)
    expect(client.events.filter((event) => noticeOf(event) === 'overload')).toHaveLength(1)
    expect(stop.event).toMatchObject({
      message: expect.stringContaining(`${1_500 - told} events were dropped`) as string,
    })
    expect(other.events.filter((event) => noticeOf(event) !== undefined)).toEqual([])
  }, 15_000)

  test('is dropped where too many are put together, or where the router kept too few', async () => {
    const client = await watch()
    for (let index = 0; index <= TAIL_LIMITS.pendingEventsMax; index++)
      hub.pass(line('x', { requestId: `r${index}` }))
    await client.event((event) => noticeOf(event) === 'overload')
    expect(await client.event((event) => noticeOf(event) === 'overload-stop')).toMatchObject({
      event: { message: expect.stringContaining('; 1 events were dropped') as string },
    })
    // One more has to give way to it.
    hub.onTailed([end('s1')], 7)
    await expect
      .poll(() => client.events.filter((event) => noticeOf(event) === 'overload-stop').length, {
        timeout: 8_000,
      })
      .toBe(2)
    expect(client.events.findLast((event) => noticeOf(event) !== undefined)?.event).toMatchObject({
      message: expect.stringContaining('; 8 ') as string,
    })
  }, 15_000)
})

describe('a client that has vanished', () => {
  test('is asked for a sign of life, and let go without one', () => {
    vi.useFakeTimers()
    try {
      const written: Buffer[] = []
      const socket = new Duplex({
        read: () => undefined,
        write: (chunk: Buffer, _, done) => (written.push(chunk), done()),
      })
      const handlers = { onText: () => undefined, onDrain: () => undefined, onClose: () => undefined }
      openServerSocket(
        {
          request: { headers: {} } as Parameters<typeof openServerSocket>[0]['request'],
          socket,
          head: Buffer.alloc(0),
        },
        { protocol: 'trace-v1', ...handlers },
      )
      vi.advanceTimersByTime(TAIL_LIMITS.pingMs)
      expect(written.at(-1)).toEqual(Buffer.from([0x89, 0]))
      expect(socket.destroyed).toBe(false)
      vi.advanceTimersByTime(TAIL_LIMITS.silenceMsMax)
      expect(socket.destroyed).toBe(true)
    } finally {
      vi.useRealTimers()
    }
  })
})
