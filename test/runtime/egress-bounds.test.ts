import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { RefusalLog } from '../../runtime/egress/refusal-log.ts'
import { Resolver } from '../../runtime/egress/resolve.ts'
import { listenLocally, send, sendRaw, startEgress } from '../harness/egress.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

async function start(options: Parameters<typeof startEgress>[0] = {}) {
  const egress = await startEgress(options)
  cleanups.push(() => egress.close())
  return egress
}

/** A server that counts its open connections. */
async function startServer() {
  const server = createServer((_request, response) => response.end())
  const openConnections = new Set<Socket>()
  let changed: () => void = () => undefined
  server.on('connection', (socket) => {
    openConnections.add(socket)
    socket.on('close', () => {
      openConnections.delete(socket)
      changed()
    })
  })
  const port = await listenLocally(server)
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  const reached = async (count: number): Promise<void> => {
    while (openConnections.size !== count) await new Promise<void>((resolve) => (changed = resolve))
  }
  return { port, open: () => openConnections.size, reached }
}

describe('bounds of an instance', () => {
  test('an idle connection is closed after its keep-alive time', async () => {
    const { port, open, reached } = await startServer()
    const egress = await start({ limits: { keepAliveTimeoutMs: 30 } })
    await send(egress.socketPath, `http://127.0.0.1:${port}/`)
    expect(open()).toBe(1)
    await reached(0)
  })

  test('more idle connections than are allowed are closed at the next request', async () => {
    const servers = await Promise.all([1, 2, 3].map(() => startServer()))
    const egress = await start({ limits: { idleConnectionsPerInstanceMax: 2 } })
    for (const { port } of servers) await send(egress.socketPath, `http://127.0.0.1:${port}/`)
    expect(servers.map(({ open }) => open())).toEqual([1, 1, 1])
    const [first, second, third] = servers
    await send(egress.socketPath, `http://127.0.0.1:${first?.port}/`)
    await Promise.all([first?.reached(1), second?.reached(0), third?.reached(0)])
  })

  test('a head that does not come is answered 408', async () => {
    const egress = await start({ limits: { headTimeoutMs: 50 } })
    expect(await sendRaw(egress.socketPath, 'GET http://127.0.0.1/ HTTP/1.1\r\n')).toMatch(/^HTTP\/1\.1 408 /)
  })

  test('connections beyond twice the requests are closed at once', async () => {
    const egress = await start({ limits: { requestsPerInstanceMax: 1 } })
    const held = [1, 2].map(() => connect(egress.socketPath))
    cleanups.push(() => held.forEach((socket) => socket.destroy()))
    await Promise.all(held.map((socket) => once(socket, 'connect')))
    const third = connect(egress.socketPath)
    third.on('error', () => undefined)
    await once(third.resume(), 'close')
    expect(held.map(({ destroyed }) => destroyed)).toEqual([false, false])
  })
})

describe('name lookups', () => {
  test('run a few at a time, and the others wait for a place', async () => {
    const running: (() => void)[] = []
    let peak = 0
    let active = 0
    const resolver = new Resolver({
      timeoutMs: 10_000,
      concurrencyMax: 2,
      lookup: async () => {
        active += 1
        peak = Math.max(peak, active)
        await new Promise<void>((resolve) => running.push(resolve))
        active -= 1
        return [{ address: '127.0.0.1', family: 4 }]
      },
    })
    const all = ['a', 'b', 'c', 'd', 'e'].map((name) => resolver.resolve(name))
    let done = 0
    for (const lookup of all) void lookup.then(() => (done += 1))
    while (done < all.length) {
      running.shift()?.()
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(peak).toBe(2)
  })

  test('that were given up keep their place until they end', async () => {
    const running: (() => void)[] = []
    const resolver = new Resolver({
      timeoutMs: 20,
      concurrencyMax: 1,
      lookup: async () => {
        await new Promise<void>((resolve) => running.push(resolve))
        return [{ address: '127.0.0.1', family: 4 }]
      },
    })
    await expect(resolver.resolve('stuck.example')).rejects.toMatchObject({ code: 'egress_failed' })
    await expect(resolver.resolve('other.example')).rejects.toMatchObject({ code: 'egress_failed' })
    expect(running).toHaveLength(1)
    running[0]?.()
  })

  test('that were given up before their turn are never made, and hold up none that comes later', async () => {
    const asked: string[] = []
    let end: () => void = () => undefined
    const stuck = new Promise<void>((resolve) => (end = resolve))
    const resolver = new Resolver({
      timeoutMs: 20,
      concurrencyMax: 1,
      lookup: async (name) => {
        asked.push(name)
        if (name === 'stuck.example') await stuck
        return [{ address: '127.0.0.1', family: 4 }]
      },
    })
    const names = ['stuck.example', ...Array.from({ length: 100 }, (_, index) => `${index}.example`)]
    const outcomes = await Promise.allSettled(names.map((name) => resolver.resolve(name)))
    expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(names.length)
    end()
    expect(await resolver.resolve('later.example')).toHaveLength(1)
    expect(asked).toEqual(['stuck.example', 'later.example'])
  })

  test('are not needed for an address', async () => {
    const lookup = () => Promise.reject(new Error('asked'))
    const resolver = new Resolver({ timeoutMs: 20, concurrencyMax: 1, lookup })
    expect(await resolver.resolve('::1')).toEqual([{ address: '::1', family: 6 }])
  })
})

describe('the log of refusals', () => {
  test('says in the next window how many it left out', () => {
    let nowMs = 0
    const messages: string[] = []
    const log = new RefusalLog({
      linesPerWindowMax: 2,
      windowMs: 1_000,
      nowMs: () => nowMs,
      send: ({ lines }) => messages.push(...lines.map(({ message }) => message)),
    })
    const write = (message: string): void => log.write({ id: 'i1', functionName: 'shop', message })
    for (const message of ['a', 'b', 'c', 'd']) write(message)
    nowMs = 999
    write('e')
    nowMs = 1_000
    write('f')
    write('g')
    expect(messages).toEqual(['a', 'b', 'f (3 refusals before this one were not logged)', 'g'])
  })
})
