/** The limits of what a function sends and logs, on a whole node: router's reports, agent, proxy and a real isolate. */
import { createServer, type Server } from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { listenLocally } from '../harness/egress.ts'
import { startWorkNode, untilSo, type WorkNode } from '../harness/work-node.ts'

const FETCHER = `export default { async fetch(request, env, ctx) {
  const { searchParams: asked } = new URL(request.url)
  const statuses = { }
  const one = async () => {
    const answer = await fetch(asked.get('to'))
    await answer.arrayBuffer()
    statuses[answer.status] = (statuses[answer.status] ?? 0) + 1
  }
  const count = Number(asked.get('count') ?? 1)
  if (asked.has('together')) await Promise.all(Array.from({ length: count }, one))
  else for (let n = 0; n < count; n++) await one()
  return Response.json(statuses)
} }`

let node: WorkNode
let server: Server
let target: string
beforeAll(async () => {
  server = createServer((_request, response) => response.end('fine'))
  target = `http://127.0.0.1:${await listenLocally(server)}/`
  node = await startWorkNode({ flags: ['--allow-egress', '127.0.0.0/8'] })
})
afterAll(async () => {
  server.closeAllConnections()
  server.close()
  expect((await node.stop()).leftBehind).toEqual([])
  expect(node.traces()).toEqual([])
})

async function limit(name: string, ...flags: string[]): Promise<void> {
  const { code, stderr } = await node.isola('limits', name, ...flags)
  expect([code, stderr]).toEqual([0, ''])
}

const ask = async (name: string, query: string): Promise<Record<string, number>> => {
  const { status, text } = await node.get(name, `/?to=${encodeURIComponent(target)}&${query}`)
  expect([status, text]).toEqual([200, expect.any(String)])
  return JSON.parse(text) as Record<string, number>
}

describe('subrequests on a whole node', () => {
  test('are limited for each request, from the first one on, and never for an honest crowd', async () => {
    await node.deploy('fetcher', FETCHER)
    await limit('fetcher', '--subrequests', '10')
    expect(await ask('fetcher', 'count=12')).toEqual({ 200: 10, 429: 2 })
    // One after the other, faster than reports come.
    for (let round = 0; round < 10; round += 1) expect(await ask('fetcher', 'count=10')).toEqual({ 200: 10 })
    const crowd = await Promise.all(Array.from({ length: 40 }, () => ask('fetcher', 'count=10&together')))
    expect(crowd).toEqual(Array.from({ length: 40 }, () => ({ 200: 10 })))
    await untilSo(async () => {
      const answers = await ask('fetcher', 'count=15&together')
      return answers['429'] === 5
    })
  })

  test('go on without an agent', async () => {
    await node.kill9()
    const crowd = await Promise.all(Array.from({ length: 5 }, () => ask('fetcher', 'count=30')))
    expect(crowd).toEqual(Array.from({ length: 5 }, () => ({ 200: 30 })))
    await node.restart()
    await untilSo(async () => (await ask('fetcher', 'count=12'))['429'] === 2)
  })
})

test('egress "none" and a list of hosts are in force without a deploy', async () => {
  await node.deploy('closed', FETCHER)
  await limit('closed', '--egress', 'none')
  expect(await ask('closed', 'count=1')).toEqual({ 403: 1 })
  await limit('closed', '--egress', '127.0.0.1')
  expect(await ask('closed', 'count=1')).toEqual({ 200: 1 })
})

test('a function that floods its log is cut at its limit, and the log says so', async () => {
  await node.deploy(
    'chatty',
    `export default { fetch() { for (let n = 0; n < 100; n++) console.log('x'.repeat(100)); return new Response('said') } }`,
  )
  await limit('chatty', '--logs', '2KB')
  await node.get('chatty')
  const lines = await untilSo(async () => {
    const { stdout } = await node.isola('logs', 'chatty', '--json', '--lines', '1000')
    return stdout.includes('log_limit_exceeded') && stdout
  })
  expect(lines.match(/x{100}/g)).toHaveLength(20)
  expect(lines).toContain('log_limit_exceeded: limit of 2000 bytes a minute reached')
})
