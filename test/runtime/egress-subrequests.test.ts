import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, createServer as createTcpServer, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { errorOf, listenLocally, LOOPBACK_RULES, send, sendRaw, startEgress } from '../harness/egress.ts'
import { Reports } from '../harness/egress-reports.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

/** One request of the function may make `subrequests`; nothing is decided by time unless a test says so. */
async function start(subrequests: number, options: Parameters<typeof startEgress>[0] = {}) {
  const egress = await startEgress({
    hasAgent: true,
    ...options,
    rules: { limits: { shop: { subrequests, egress: 'public' } }, ...options.rules },
    limits: { subrequestHoldMs: 600_000, ...options.limits },
  })
  cleanups.push(() => egress.close())
  return { ...egress, reports: new Reports(egress) }
}

async function startServer(): Promise<{
  target: string
  reached: () => number
  untilReached(count: number): Promise<void>
}> {
  let requests = 0
  let changed: () => void = () => undefined
  const server = createServer((_request, response) => {
    requests += 1
    response.end('fine')
    changed()
  })
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  const target = `http://127.0.0.1:${await listenLocally(server)}/`
  const untilReached = async (count: number): Promise<void> => {
    const reached = () => requests >= count
    while (!reached()) await new Promise<void>((resolve) => (changed = resolve))
  }
  return { target, reached: () => requests, untilReached }
}

const sendMany = (socketPath: string, target: string, count: number): Promise<number[]> =>
  Promise.all(Array.from({ length: count }, async () => (await send(socketPath, target)).status))

/** Settles once the proxy has read what was sent before: requests that wait for nothing are answered in between. */
async function untilHeld(egress: { socketPath: string }): Promise<void> {
  for (let round = 0; round < 3; round += 1) await send(egress.socketPath, 'http:///nowhere')
}

describe('the subrequests of one request', () => {
  test('pass up to the limit, and the next is answered 429 with the function, the limit and the number', async () => {
    const { target, reached } = await startServer()
    const egress = await start(5)
    const { reports, socketPath } = egress
    reports.begin()
    expect(await sendMany(socketPath, target, 5)).toEqual([200, 200, 200, 200, 200])
    const beyond = send(socketPath, target)
    await untilHeld(egress)
    await reports.tellAll()
    const answer = await beyond
    expect([answer.status, answer.headers['x-isola-error']]).toEqual([429, 'subrequest_limit_exceeded'])
    const message =
      'function "shop" has made 5 outgoing requests for one request and its limit is 5 for each: ' +
      'make fewer, or raise the limit with: isola limits shop --subrequests N'
    const details = { limit: 5, made: 5, requests: 1 }
    expect(errorOf(answer)).toEqual({ code: 'subrequest_limit_exceeded', message, details })
    expect(reached()).toBe(5)
    expect(egress.sent).toContainEqual({ type: 'log', lines: [{ id: 'i1', functionName: 'shop', message }] })
  })

  test('count alike as fetch, WebSocket and TCP connection', async () => {
    const { target } = await startServer()
    const { port } = new URL(target)
    const egress = await start(1)
    const { reports, socketPath } = egress
    reports.begin()
    expect((await send(socketPath, target)).status).toBe(200)

    const asked = [
      `GET ${target} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
      `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`,
    ].map((head) => sendRaw(socketPath, head))
    await untilHeld(egress)
    await reports.tellAll()
    for (const answer of await Promise.all(asked)) {
      expect(answer).toMatch(/^HTTP\/1\.1 429 [^]*"subrequest_limit_exceeded"/)
    }

    reports.end()
    reports.begin()
    await reports.tell()
    const connected = connect(socketPath)
    cleanups.push(() => connected.destroy())
    connected.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`)
    expect(String(await once(connected, 'data'))).toMatch(/^HTTP\/1\.1 200 /)
    const refused = send(socketPath, target)
    await untilHeld(egress)
    await reports.tellAll()
    expect((await refused).status).toBe(429)
  })

  test('of a function that may make none are refused without waiting for a report', async () => {
    const { target } = await startServer()
    const { socketPath } = await start(0)
    expect((await send(socketPath, target)).status).toBe(429)
  })

  test('that go to an address they may not reach count too, and are refused as such', async () => {
    const egress = await start(1)
    egress.reports.begin()
    expect((await send(egress.socketPath, 'http://10.0.0.1/')).status).toBe(403)
    const beyond = send(egress.socketPath, 'http://10.0.0.1/')
    await untilHeld(egress)
    await egress.reports.tellAll()
    expect((await beyond).status).toBe(429)
  })
})

describe('requests one after the other', () => {
  test('have the full budget each, whether the report came between them or not', async () => {
    const { target } = await startServer()
    const { reports, socketPath } = await start(3)
    for (const isReportedBetween of [true, false, false, true]) {
      reports.begin()
      const sent = sendMany(socketPath, target, 3)
      await reports.tell()
      expect(await sent).toEqual([200, 200, 200])
      reports.end()
      if (isReportedBetween) await reports.tell()
    }
  })

  test('that begin and end between two reports leave nothing behind', async () => {
    const { target } = await startServer()
    const egress = await start(3)
    const { reports, socketPath } = egress
    for (let round = 0; round < 3; round += 1) {
      reports.begin()
      expect(await sendMany(socketPath, target, 3)).toEqual([200, 200, 200])
      reports.end()
      await reports.tell()
    }
    // At rest, which is told again and again, there is one budget and no more.
    expect(await sendMany(socketPath, target, 3)).toEqual([200, 200, 200])
    const beyond = send(socketPath, target)
    await untilHeld(egress)
    await reports.tellAll()
    expect((await beyond).status).toBe(429)
  })
})

describe('requests at the same time', () => {
  test('are never refused for what a report that is under way does not say yet', async () => {
    const { target, untilReached } = await startServer()
    const egress = await start(4)
    const { reports, socketPath } = egress
    reports.begin()
    await reports.tell()
    reports.begin(99)
    const sent = sendMany(socketPath, target, 400)
    await untilReached(4)
    // One that was sampled before the burst, then those that know of it bit by bit.
    const { proxy } = egress
    await proxy.handle({ type: 'load', instances: [{ id: 'i1', started: 1, inFlight: 1 }] })
    await proxy.handle({ type: 'load', instances: [{ id: 'i1', started: 50, inFlight: 50 }] })
    await untilReached(200)
    await reports.tell()
    expect(new Set(await sent)).toEqual(new Set([200]))
  })

  test('share their budgets, and what is beyond the sum is refused', async () => {
    const { target } = await startServer()
    const egress = await start(2)
    const { reports, socketPath } = egress
    reports.begin(3)
    await reports.tell()
    expect(await sendMany(socketPath, target, 6)).toEqual(Array(6).fill(200))
    const beyond = send(socketPath, target)
    await untilHeld(egress)
    await reports.tellAll()
    expect(errorOf(await beyond).message).toContain('6 outgoing requests for 3 requests that ran together')
  })

  test('are held in no greater number than an instance may have open', async () => {
    const { target } = await startServer()
    const egress = await start(1, { limits: { requestsPerInstanceMax: 4 } })
    const { reports, socketPath } = egress
    reports.begin()
    expect((await send(socketPath, target)).status).toBe(200)
    const held = sendMany(socketPath, target, 4)
    await untilHeld(egress)
    const answer = await send(socketPath, target)
    expect(errorOf(answer).message).toContain('4 outgoing requests open')
    reports.begin(4)
    await reports.tell()
    expect(await held).toEqual([200, 200, 200, 200])
  })
})

describe('a subrequest that is held', () => {
  test('and given up by the function is never sent and costs nothing', async () => {
    const { target, reached } = await startServer()
    const egress = await start(1)
    const { reports, socketPath } = egress
    reports.begin()
    expect((await send(socketPath, target)).status).toBe(200)
    const socket: Socket = connect(socketPath)
    socket.write(`GET ${target} HTTP/1.1\r\n\r\n`)
    await once(socket, 'connect')
    await untilHeld(egress)
    socket.destroy()
    await once(socket, 'close')
    await untilHeld(egress)
    reports.begin()
    await reports.tell()
    expect((await send(socketPath, target)).status).toBe(200)
    expect(reached()).toBe(2)
  })

  test('carries its body once it is let through', async () => {
    const bodies: string[] = []
    const server = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk: Buffer) => (body += chunk.toString()))
      request.on('end', () => response.end(String(bodies.push(body))))
    })
    cleanups.push(() => server.close())
    const target = `http://127.0.0.1:${await listenLocally(server)}/`
    const egress = await start(1)
    egress.reports.begin()
    await send(egress.socketPath, target, { method: 'POST', body: 'first' })
    const later = send(egress.socketPath, target, { method: 'POST', body: 'x'.repeat(300_000) })
    await untilHeld(egress)
    egress.reports.begin()
    await egress.reports.tell()
    expect((await later).status).toBe(200)
    expect(bodies.map(({ length }) => length)).toEqual([5, 300_000])
  })

  test('is refused when no report comes and the instance was at rest', async () => {
    const { target } = await startServer()
    const { reports, socketPath } = await start(1, { limits: { subrequestHoldMs: 30 } })
    reports.begin()
    reports.end()
    await reports.tell()
    expect(await sendMany(socketPath, target, 3)).toEqual([200, 429, 429])
  })

  test('is let through when reports of an instance at work stop coming, as are all until they come again', async () => {
    const { target } = await startServer()
    const egress = await start(1, { limits: { subrequestHoldMs: 30 } })
    const { reports, socketPath } = egress
    reports.begin()
    await reports.tell()
    expect(await sendMany(socketPath, target, 5)).toEqual(Array(5).fill(200))
    await reports.tell()
    const beyond = send(socketPath, target)
    for (let round = 0; round < 3; round += 1) await untilHeld(egress).then(() => reports.tell())
    expect((await beyond).status).toBe(429)
  })
})

describe('limits', () => {
  test('that change are in force for the next subrequest, and kept connections stay', async () => {
    const ports = new Set<number | undefined>()
    const server = createServer((request, response) => {
      ports.add(request.socket.remotePort)
      response.end()
    })
    cleanups.push(() => {
      server.closeAllConnections()
      server.close()
    })
    const target = `http://127.0.0.1:${await listenLocally(server)}/`
    const { proxy, reports, socketPath } = await start(1)
    reports.begin()
    expect((await send(socketPath, target)).status).toBe(200)
    const limits = { shop: { subrequests: 2, egress: 'public' as const } }
    await proxy.handle({ type: 'rules', rules: { ...LOOPBACK_RULES, limits } })
    expect((await send(socketPath, target)).status).toBe(200)
    expect(ports.size).toBe(1)
  })

  test('are the defaults for a function that is not named', async () => {
    const { target } = await startServer()
    const { socketPath } = await start(0, {
      rules: { limits: { other: { subrequests: 0, egress: 'none' } } },
    })
    expect(await sendMany(socketPath, target, 20)).toEqual(Array(20).fill(200))
  })
})

describe('without an agent', () => {
  test('nothing is held or refused, and what waits when it goes is let through', async () => {
    const { target } = await startServer()
    const egress = await start(1)
    const { proxy, reports, socketPath } = egress
    reports.begin()
    const sent = sendMany(socketPath, target, 3)
    await untilHeld(egress)
    await proxy.setAgent(false)
    expect(await sent).toEqual([200, 200, 200])
    expect(await sendMany(socketPath, target, 5)).toEqual(Array(5).fill(200))
  })

  test('what was sent meanwhile is not held against the function when one comes back', async () => {
    const { target } = await startServer()
    const egress = await start(2)
    const { proxy, reports, socketPath } = egress
    reports.begin(5)
    await reports.tell()
    await proxy.setAgent(false)
    await sendMany(socketPath, target, 30)
    await proxy.setAgent(true)
    expect(await sendMany(socketPath, target, 2)).toEqual([200, 200])
    // The new agent knows what runs: five requests, of which none can be told how much it sent.
    await reports.tell()
    expect(await sendMany(socketPath, target, 10)).toEqual(Array(10).fill(200))
    const beyond = send(socketPath, target)
    await untilHeld(egress)
    await reports.tellAll()
    expect((await beyond).status).toBe(429)
  })

  test('a router that counts from its beginning again takes no budget away', async () => {
    const { target } = await startServer()
    const { reports, socketPath } = await start(2)
    reports.begin(100)
    await reports.tell()
    await sendMany(socketPath, target, 200)
    reports.started = 1
    reports.inFlight = 1
    await reports.tell()
    expect(await sendMany(socketPath, target, 2)).toEqual([200, 200])
  })
})

test('a TCP server is not reached by a CONNECT that is held until it is let through', async () => {
  let connections = 0
  const server = createTcpServer((socket) => {
    connections += 1
    socket.on('error', () => undefined)
    socket.pipe(socket)
  })
  cleanups.push(() => server.close())
  const port = await listenLocally(server)
  const egress = await start(0)
  const allowOne = { shop: { subrequests: 1, egress: 'public' as const } }
  await egress.proxy.handle({ type: 'rules', rules: { ...LOOPBACK_RULES, limits: allowOne } })
  egress.reports.begin()
  expect((await send(egress.socketPath, 'http://10.0.0.1/')).status).toBe(403)
  const socket = connect(egress.socketPath)
  cleanups.push(() => socket.destroy())
  socket.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\nearly`)
  await untilHeld(egress)
  expect(connections).toBe(0)
  egress.reports.begin()
  await egress.reports.tell()
  let text = ''
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
  while (!text.endsWith('early')) await once(socket, 'data')
  expect(connections).toBe(1)
})
