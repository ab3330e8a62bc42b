/** What SIGTERM (Ctrl-C) lets finish, and what two of them end. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { createServer, request, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { isAlive } from '../harness/node.ts'
import { processesOf, startWorkNode, untilSo, type WorkNode } from '../harness/work-node.ts'

/** Told by functions what they have done. */
let origin: Server
let heard: string[]
let originUrl: string
let node: WorkNode | undefined

beforeEach(async () => {
  heard = []
  origin = createServer((request, response) => {
    heard.push(request.url ?? '')
    response.end('noted')
  })
  origin.listen(0, '127.0.0.1')
  await once(origin, 'listening')
  originUrl = `http://127.0.0.1:${(origin.address() as AddressInfo).port}`
  node = await startWorkNode({ flags: ['--allow-egress', '127.0.0.1/32'] })
})
afterEach(async () => {
  await node?.stop()
  origin.close()
  origin.closeAllConnections()
})

const work = (): string => `export default { async fetch(request, env, ctx) {
  const { pathname } = new URL(request.url)
  if (pathname === '/slow') { await fetch('${originUrl}/slow-began'); await scheduler.wait(1500); return new Response('slow done') }
  if (pathname === '/stream') {
    let n = 0
    return new Response(new ReadableStream({ async pull(c) {
      if (n === 1) await fetch('${originUrl}/stream-began')
      if (n++ === 15) return c.close()
      await scheduler.wait(100)
      c.enqueue(new TextEncoder().encode('part;'))
    } }))
  }
  if (pathname === '/late') {
    ctx.waitUntil((async () => { await scheduler.wait(2000); await fetch('${originUrl}/late-done') })())
    return new Response('answered')
  }
  if (pathname === '/socket') {
    const [client, server] = Object.values(new WebSocketPair())
    server.accept()
    server.addEventListener('message', ({ data }) => server.send(data))
    return new Response(null, { status: 101, webSocket: client })
  }
  if (pathname === '/hang') { await fetch('${originUrl}/hang-began'); await scheduler.wait(600000) }
  return new Response('hello')
} }`

async function openSocket(): Promise<{ readonly closed: Promise<unknown> }> {
  const { hostname, port } = new URL(node!.httpUrl)
  const handshake = request({
    hostname,
    port,
    path: '/socket',
    headers: {
      host: `work.localhost:${port}`,
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    },
  })
  handshake.end()
  const [, socket] = (await once(handshake, 'upgrade')) as [unknown, Socket]
  socket.resume()
  socket.on('error', () => undefined)
  return { closed: once(socket, 'close') }
}

describe('SIGTERM', () => {
  test('lets requests, streams and waitUntil work finish, ends with 0 and leaves nothing', async () => {
    await node!.deploy('work', work())
    const slow = node!.get('work', '/slow')
    const stream = node!.get('work', '/stream')
    await untilSo(async () => heard.includes('/slow-began') && heard.includes('/stream-began'))
    expect((await node!.get('work', '/late')).text).toBe('answered')
    const { exitCode, leftBehind } = await node!.stop()
    expect(await slow).toMatchObject({ status: 200, text: 'slow done' })
    expect((await stream).text).toBe('part;'.repeat(15))
    expect(heard).toContain('/late-done')
    expect({ exitCode, leftBehind, traces: node!.traces() }).toEqual({
      exitCode: 0,
      leftBehind: [],
      traces: [],
    })
  })

  test('ends open WebSockets within its bound', { timeout: 90_000 }, async () => {
    await node!.deploy('work', work())
    const { closed } = await openSocket()
    const { exitCode, leftBehind } = await node!.stop()
    await closed
    expect({ exitCode, leftBehind, traces: node!.traces() }).toEqual({
      exitCode: 0,
      leftBehind: [],
      traces: [],
    })
  })
})

describe('a second Ctrl-C', () => {
  test('ends a node whose requests would go on for minutes, with 130 and no process left', async () => {
    await node!.deploy('work', work())
    const hanging = node!.get('work', '/hang').catch((error: Error) => error)
    await untilSo(async () => heard.includes('/hang-began'))
    const pids = (await node!.status()).processes.map(({ pid }) => pid)
    // Presses that follow within a second count as one: pressed until it is over, as people do.
    process.kill(node!.pid, 'SIGINT')
    const presses = setInterval(() => isAlive(node!.pid) && process.kill(node!.pid, 'SIGINT'), 300)
    expect(await node!.exited()).toBe(130)
    clearInterval(presses)
    await hanging
    await untilSo(async () => pids.every((pid) => !isAlive(pid)))
    // What stays is cleared by the next node on the data directory.
    await node!.restart()
    expect(await node!.get('work')).toMatchObject({ status: 200, text: 'hello' })
    expect((await node!.stop()).leftBehind).toEqual([])
    expect(node!.traces()).toEqual([])
  })

  test('during cold starts leaves none of the starting processes', async () => {
    const source = `${'// padding '.repeat(100_000)}\n${work()}`
    const names = Array.from({ length: 12 }, (_, index) => `cold-${index}`)
    for (const name of names) await node!.deploy(name, source, { policy: { idleMs: 100 } })
    await untilSo(async () => processesOf(await node!.status(), 'instance').length === 0)
    const hanging = names.map((name) => node!.get(name, '/hang').catch((error: Error) => error))
    process.kill(node!.pid, 'SIGINT')
    const presses = setInterval(() => isAlive(node!.pid) && process.kill(node!.pid, 'SIGINT'), 50)
    await node!.exited()
    clearInterval(presses)
    await Promise.all(hanging)
    await untilSo(async () => workerdsOf(node!.dataDirectory).length === 0)
    await node!.restart()
    expect((await node!.stop()).leftBehind).toEqual([])
    expect(node!.traces()).toEqual([])
  })
})

/** Processes that belong to the node's cgroups, whoever their parent is now. */
function workerdsOf(dataDirectory: string): string[] {
  const name = createHash('sha256').update(realpathSync(dataDirectory)).digest('hex').slice(0, 12)
  return readdirSync('/proc').filter((entry) => {
    if (!/^\d+$/.test(entry) || !isAlive(Number(entry))) return false
    try {
      return readFileSync(`/proc/${entry}/cgroup`, 'utf8').includes(`isola-${name}`)
    } catch {
      return false
    }
  })
}
