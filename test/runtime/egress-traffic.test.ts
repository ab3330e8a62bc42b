import { once } from 'node:events'
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http'
import { connect, createServer as createTcpServer } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { TrafficLedger } from '../../runtime/egress/traffic.ts'
import type { EgressToAgent } from '../../runtime/pool/wire.ts'
import { listenLocally, send, startEgress, type EgressUnderTest } from '../harness/egress.ts'

type Traffic = Extract<EgressToAgent, { type: 'traffic' }>

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

async function start(options: Parameters<typeof startEgress>[0] = {}) {
  const egress = await startEgress({ hasAgent: true, ...options })
  cleanups.push(() => egress.close())
  return egress
}

/** What the next report says; `undefined` where there is nothing to say. */
function nextReport(egress: EgressUnderTest): Traffic | undefined {
  const before = egress.sent.length
  egress.proxy.reportTraffic()
  return egress.sent.slice(before).find((message) => message.type === 'traffic')
}

async function startServer(): Promise<string> {
  const server = createServer((request, response) => {
    request.resume()
    request.on('end', () => response.end('x'.repeat(50_000)))
  })
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${await listenLocally(server)}/`
}

test('requests, refusals and bytes are told as sums, and only when they changed', async () => {
  const target = await startServer()
  const egress = await start({
    rules: { limits: { shop: { subrequests: 1_000, egress: ['127.0.0.1', '10.0.0.1'] } } },
  })
  expect(nextReport(egress)).toBeUndefined()
  await send(egress.socketPath, target, { method: 'POST', body: 'y'.repeat(100_000) })
  const first = nextReport(egress)
  const [one] = first?.functions ?? []
  expect(one).toMatchObject({ functionName: 'shop', requests: 1, refused: 0 })
  // Bodies and heads.
  expect(one?.bytesOut).toBeGreaterThan(100_000)
  expect(one?.bytesOut).toBeLessThan(101_000)
  expect(one?.bytesIn).toBeGreaterThan(50_000)
  expect(one?.bytesIn).toBeLessThan(51_000)
  expect(nextReport(egress)).toBeUndefined()

  // On the connection that was kept, and two that are refused: by the list and by the address.
  await send(egress.socketPath, target, { method: 'POST', body: 'y'.repeat(100_000) })
  await send(egress.socketPath, 'http://other.example/')
  await send(egress.socketPath, 'http://10.0.0.1/')
  const second = nextReport(egress)
  expect(second?.epoch).toBe(first?.epoch)
  expect(second?.functions).toEqual([
    {
      functionName: 'shop',
      requests: 4,
      refused: 2,
      bytesOut: 2 * (one?.bytesOut ?? 0),
      bytesIn: 2 * (one?.bytesIn ?? 0),
    },
  ])
})

test('a long response counts while it runs, and a connection’s last bytes after it ended', async () => {
  const server = createServer((_request, response) => void response.write('x'.repeat(20_000)))
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  const port = await listenLocally(server)
  const egress = await start()
  const outgoing = httpRequest({
    socketPath: egress.socketPath,
    path: `http://127.0.0.1:${port}/`,
    setHost: false,
  })
  outgoing.on('error', () => undefined)
  outgoing.end()
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  let length = 0
  for await (const chunk of response) {
    length += (chunk as Buffer).length
    if (length === 20_000) break
  }
  expect(nextReport(egress)?.functions[0]?.bytesIn).toBeGreaterThan(20_000)

  const tcp = createTcpServer((socket) => socket.on('error', () => undefined).end('z'.repeat(7_000)))
  cleanups.push(() => tcp.close())
  const tunnel = connect(egress.socketPath)
  tunnel.write(`CONNECT 127.0.0.1:${await listenLocally(tcp)} HTTP/1.1\r\n\r\n${'w'.repeat(3_000)}`)
  await once(tunnel.resume(), 'close')
  await egress.proxy.handle({ type: 'close', id: 'i1' })
  let seen = { bytesIn: 0, bytesOut: 0 }
  // The outer connection may end a moment after the inner one.
  while (seen.bytesIn < 27_000) {
    seen = nextReport(egress)?.functions[0] ?? seen
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect(seen.bytesOut).toBeGreaterThanOrEqual(3_000)
})

test('a new agent is told all there is, and nobody is told while there is none', async () => {
  const target = await startServer()
  const egress = await start()
  await send(egress.socketPath, target)
  const first = nextReport(egress)
  expect(first?.functions).toHaveLength(1)
  await egress.proxy.setAgent(false)
  await send(egress.socketPath, target)
  expect(nextReport(egress)).toBeUndefined()
  await egress.proxy.setAgent(true)
  expect(nextReport(egress)?.functions).toEqual([expect.objectContaining({ requests: 2 })])
  await egress.proxy.setAgent(true)
  expect(nextReport(egress)?.functions).toEqual([expect.objectContaining({ requests: 2 })])
})

test('sums go on when a function’s instances come and go', async () => {
  const target = await startServer()
  const egress = await start()
  await send(egress.socketPath, target)
  await egress.proxy.handle({ type: 'close', id: 'i1' })
  const socketPath = `${egress.directory}/next.sock`
  const uid = process.getuid?.() ?? 0
  await egress.proxy.handle({
    type: 'sockets',
    sockets: [{ id: 'i2', socketPath, uid, functionName: 'shop' }],
  })
  await send(socketPath, target)
  expect(nextReport(egress)?.functions).toEqual([expect.objectContaining({ requests: 2 })])
})

test('beyond the bound the sums of functions without an instance are forgotten, the oldest first', () => {
  const ledger = new TrafficLedger(2)
  for (const name of ['a', 'b', 'c', 'd']) ledger.of(name).requests += 1
  expect(ledger.takeChanged()).toHaveLength(4)
  ledger.forget(() => new Set(['a']))
  ledger.tellAll()
  expect(ledger.takeChanged().map(({ functionName }) => functionName)).toEqual(['a', 'd'])
  ledger.forget(() => new Set())
  expect(ledger.takeChanged()).toEqual([])
})
