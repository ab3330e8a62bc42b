/** Tails on a whole node: wrangler's API, the control server's WebSocket, real isolates and the router. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { connectTail, type TailClient } from '../harness/tail-client.ts'
import { startWorkNode, type WorkNode } from '../harness/work-node.ts'

const SHOP = `let calls = 0
export default { async fetch(request, env, ctx) {
  const { pathname } = new URL(request.url)
  if (pathname === '/throw') throw new TypeError('shop is sad')
  if (pathname === '/later') {
    ctx.waitUntil(scheduler.wait(600).then(() => console.warn('after the response')))
    return new Response('soon')
  }
  if (pathname === '/loop') for (;;) calls += 1
  if (pathname === '/stream') return new Response(new ReadableStream({
    start(controller) { console.log('began'); controller.enqueue(new Uint8Array(10)) },
    pull: () => scheduler.wait(60_000) }))
  if (pathname === '/work') { const end = Date.now(); for (let i = 0; i < 2e7; i++) calls += i % 3 }
  console.log('call of', { path: pathname, list: [1, true, null] }, undefined, 5n, new Map([[1, 2]]))
  console.error('plain text')
  return new Response(request.headers.get('isola-tail') ?? 'nothing', { status: 222 })
} }`

let node: WorkNode
beforeAll(async () => {
  node = await startWorkNode()
  await node.deploy('shop', SHOP, { limits: { cpuMs: 300 } })
  await node.deploy('quiet', `export default { fetch() { console.log('psst'); return new Response('') } }`)
})
afterAll(async () => {
  expect((await node.stop()).leftBehind).toEqual([])
  expect(node.traces()).toEqual([])
})

async function call(
  method: string,
  path: string,
  body?: unknown,
): Promise<{ result: any; errors: any[]; status: number }> {
  const response = await fetch(`${node.controlUrl}/client/v4/accounts/isola/workers/scripts/${path}`, {
    method,
    headers: { authorization: `Bearer ${node.token}` },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  return { ...((await response.json()) as { result: any; errors: any[] }), status: response.status }
}

async function tail(script: string, filters: readonly unknown[] = [], debug = false): Promise<TailClient> {
  const { result } = await call('POST', `${script}/tails`, { filters })
  const client = await connectTail(result.url as string, { debug })
  await watched(script, client)
  return client
}

/** The router hears of it by another way than the client: until it has, requests are not told. */
async function watched(script: string, client: TailClient): Promise<void> {
  await node.until(async () => {
    const { text } = await node.get(script, '/probe')
    return script !== 'shop' || text === 'lines'
  })
  void client
}

const urlOf = (path: string): string => `http://shop.localhost:${new URL(node.httpUrl).port}${path}`
const isOf =
  (path: string) =>
  ({ event }: { event: unknown }): boolean =>
    (event as { request?: { url: string } } | null)?.request?.url === urlOf(path)

describe('a tail', () => {
  test('tells of a request what it was, what became of it, and what was logged, as values', async () => {
    using client = await tail('shop')
    const answer = await node.fetch('shop.localhost', '/hello?plain=1', {
      headers: { 'x-tag': 'blue', authorization: 'Bearer geheim' },
    })
    const [version] = (await node.client().getFunction('shop')).deployment.shares
    expect(await client.event(isOf('/hello?plain=1'))).toMatchObject({
      outcome: 'ok',
      scriptName: 'shop',
      scriptVersion: { id: expect.stringMatching(/^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/) as string },
      logs: [
        {
          level: 'log',
          message: ['call of', { path: '/hello', list: [1, true, null] }, null, '5', '[object Map]'],
        },
        { level: 'error', message: ['plain text'] },
      ],
      exceptions: [],
      diagnosticsChannelEvents: [],
      truncated: false,
      event: {
        request: {
          url: urlOf('/hello?plain=1'),
          method: 'GET',
          headers: { 'x-tag': 'blue', authorization: 'REDACTED', 'cf-connecting-ip': '127.0.0.1' },
          cf: {},
        },
        response: { status: 222 },
      },
    })
    const event = await client.event(isOf('/hello?plain=1'))
    expect(event.scriptVersion?.id.replaceAll('-', '')).toBe(version?.versionId)
    expect(
      Object.keys((event.event as any).request.headers).filter((name) => name.startsWith('isola-')),
    ).toEqual([])
    expect(event.wallTime).toBeGreaterThanOrEqual(0)
    expect(Math.abs(event.eventTimestamp - Date.now())).toBeLessThan(60_000)
    expect(answer.status).toBe(222)
  })

  test('tells of an exception with its name, text and stack', async () => {
    using client = await tail('shop')
    await node.get('shop', '/throw')
    expect(await client.event(isOf('/throw'))).toMatchObject({
      outcome: 'exception',
      exceptions: [
        { name: 'TypeError', message: 'shop is sad', stack: expect.stringContaining('index.js:4') as string },
      ],
      event: { response: { status: 500 } },
    })
  })

  test('waits for what a request does after its response', async () => {
    using client = await tail('shop')
    await node.get('shop', '/later')
    expect((await client.event(isOf('/later'))).logs.map(({ message }) => message)).toEqual([
      ['after the response'],
    ])
  })

  test('tells of a request that took too much CPU, and of one whose client went away', async () => {
    using client = await tail('shop')
    await new Promise<void>((resolve) => {
      const { hostname, port } = new URL(node.httpUrl)
      const outgoing = request(
        { hostname, port, path: '/stream', headers: { host: `shop.localhost:${port}` } },
        (answer) => {
          answer.once('data', () => outgoing.destroy())
          answer.on('error', () => resolve())
        },
      )
      outgoing.on('error', () => undefined)
      outgoing.end()
    })
    expect(await client.event(isOf('/stream'))).toMatchObject({
      outcome: 'canceled',
      logs: [{ message: ['began'] }],
    })
    await node.get('shop', '/loop')
    const event = await client.event(isOf('/loop'))
    expect(event).toMatchObject({ outcome: 'exceededCpu', event: { response: { status: 503 } } })
    expect(event.exceptions[0]?.message).toMatch(/^cpu_limit_exceeded: .*300/)
    expect(event.cpuTime).toBeGreaterThan(100)
  }, 30_000)

  test('counts CPU', async () => {
    using client = await tail('shop')
    await node.get('shop', '/work')
    const { cpuTime, wallTime } = await client.event(isOf('/work'))
    expect(cpuTime).toBeGreaterThan(0)
    expect(cpuTime).toBeLessThanOrEqual(wallTime)
  })

  test('tells only what passes its filter, beside another that tells all', async () => {
    using all = await tail('shop')
    using posts = await tail('shop', [
      { method: ['POST'] },
      { header: { key: 'X-Tag', query: 'red' } },
      { client_ip: ['self'] },
    ])
    using nothing = await tail('shop', [{ client_ip: ['198.51.100.1'] }])
    using debug = await tail('shop', [{ method: ['DELETE'] }], true)
    await node.get('shop', '/one', { headers: { 'x-tag': 'red' } })
    await node.get('shop', '/two', { method: 'POST', headers: { 'x-tag': 'red' } })
    await Promise.all([all.event(isOf('/one')), all.event(isOf('/two')), debug.event(isOf('/two'))])
    await posts.event(isOf('/two'))
    expect(posts.events.map(({ event }) => (event as any).request.method)).toEqual(['POST'])
    expect(nothing.events).toEqual([])
  })

  test('of one function tells nothing of another', async () => {
    using shop = await tail('shop')
    using quiet = await tail('quiet')
    await node.get('quiet', '/x')
    await quiet.event(({ logs }) => logs[0]?.message[0] === 'psst')
    await node.get('shop', '/y')
    await shop.event(isOf('/y'))
    expect(shop.events.filter(({ scriptName }) => scriptName !== 'shop')).toEqual([])
  })
})

describe('without a tail', () => {
  test('an instance is not asked for more, and neither queries nor values are in the log', async () => {
    await node.until(async () => (await node.get('shop', '/rest')).text === 'nothing')
    const { result } = await call('GET', 'shop/tails')
    expect(result).toEqual([])
    using client = await tail('shop')
    await node.get('shop', '/logged?secret=abc')
    await client.event(isOf('/logged?secret=abc'))
    const { stdout } = await node.isola('logs', 'shop', '--json')
    expect(stdout).toContain('call of { path:')
    expect(stdout).not.toContain('secret=abc')
    const file = readFileSync(join(node.dataDirectory, 'logs', 'shop.ndjson'), 'utf8')
    expect(file).toContain('/logged')
    expect(file).not.toMatch(/"values"|secret=abc/)
  })
})

describe('the end of a tail', () => {
  test('is said with 1000 when it is deleted by its id, or with its function', async () => {
    const { result } = await call('POST', 'shop/tails', { filters: [] })
    expect(Date.parse(result.expires_at)).toBeGreaterThan(Date.now())
    using client = await connectTail(result.url as string)
    expect((await call('GET', 'shop/tails')).result).toEqual([
      { id: result.id, expires_at: result.expires_at },
    ])
    expect(await call('DELETE', `shop/tails/${result.id}`)).toMatchObject({ success: true, result: null })
    expect((await client.closed()).code).toBe(1000)
    expect((await call('DELETE', `shop/tails/${result.id}`)).status).toBe(404)

    await node.deploy('brief', SHOP)
    const brief = await call('POST', 'brief/tails', { filters: [] })
    using other = await connectTail(brief.result.url as string)
    expect((await node.isola('delete', 'brief', '--yes')).code).toBe(0)
    expect(await other.closed()).toEqual({ code: 1000, reason: 'function "brief" was deleted' })
  })
})

describe('a tail consumer', () => {
  test('is given the events of the function that names it, and its own calls cause none', async () => {
    await node.deploy(
      'collector',
      `const seen = []
export default {
  tail(events, env, ctx) { seen.push(...events); console.log('collected', events.length); ctx.waitUntil(Promise.resolve()) },
  fetch() { return Response.json(seen.map(({ scriptName, outcome, event, logs, exceptions }) =>
    ({ scriptName, outcome, url: event.request.getUnredacted().url, logs: logs.length, exceptions }))) } }`,
      { policy: { max: 1 } },
    )
    await node.deploy('producer', SHOP)
    const settings = await call('PATCH', 'producer/script-settings', {
      tail_consumers: [{ service: 'collector' }],
    })
    expect(settings.errors).toEqual([])
    await call('PATCH', 'collector/script-settings', { tail_consumers: [{ service: 'collector' }] })
    using watcher = await tail('collector')
    await node.until(async () => (await node.get('producer', '/told')).text === 'lines')
    await node.get('producer', '/throw')
    const seen = await node.until(async () => {
      const list = JSON.parse((await node.get('collector')).text) as any[]
      return list.some(({ outcome }) => outcome === 'exception') && list
    })
    const port = new URL(node.httpUrl).port
    expect(seen.filter(({ scriptName }) => scriptName === 'producer')).toContainEqual({
      scriptName: 'producer',
      outcome: 'ok',
      url: `http://producer.localhost:${port}/told`,
      logs: 2,
      exceptions: [],
    })
    const delivery = await watcher.event(({ event }) => event !== null && 'consumedEvents' in event)
    expect(delivery).toMatchObject({ scriptName: 'collector', outcome: 'ok' })
    expect((delivery.event as any).consumedEvents).toContainEqual({ scriptName: 'producer' })
  }, 30_000)

  test('that fails is told so in its own log', async () => {
    await node.deploy('broken', `export default { tail() { throw new Error('no thanks') } }`)
    await node.deploy('teller', SHOP)
    await call('PATCH', 'teller/script-settings', { tail_consumers: [{ service: 'broken' }] })
    await node.until(async () => (await node.get('teller', '/told')).text === 'lines')
    const log = await node.until(async () => {
      const { stdout } = await node.isola('logs', 'broken')
      return stdout.includes('did not reach it') && stdout
    })
    expect(log).toMatch(/no thanks/)
    expect(log).toMatch(/trace events did not reach it: it answered 500 function_threw/)
  }, 30_000)
})
