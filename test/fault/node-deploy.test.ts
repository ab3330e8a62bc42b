/** Deploys, rollbacks, splits and deletions while requests come in: none of them fails. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { startWorkNode, untilSo, type Traffic, type WorkNode } from '../harness/work-node.ts'

let node: WorkNode
let origin: Server
let originUrl: string
const heard = new Map<string, number>()
const running: Traffic[] = []

beforeAll(async () => {
  origin = createServer((request, response) => {
    heard.set(request.url!, (heard.get(request.url!) ?? 0) + 1)
    response.end()
  })
  origin.listen(0, '127.0.0.1')
  await once(origin, 'listening')
  originUrl = `http://127.0.0.1:${(origin.address() as AddressInfo).port}`
  node = await startWorkNode({ flags: ['--allow-egress', '127.0.0.1/32'] })
})
afterEach(async () => {
  await Promise.all(running.splice(0).map((traffic) => traffic.stop()))
})
afterAll(async () => {
  expect((await node.stop()).leftBehind).toEqual([])
  expect(node.traces()).toEqual([])
  origin.closeAllConnections()
  origin.close()
})

const version = (name: string): string => `let sent = 0
export default { async fetch(request, env, ctx) {
  const { pathname } = new URL(request.url)
  if (pathname === '/slow') await scheduler.wait(2000)
  if (pathname === '/stream') {
    let n = 0
    return new Response(new ReadableStream({ async pull(c) {
      if (n++ === 15) return c.close()
      await scheduler.wait(100)
      c.enqueue(new TextEncoder().encode('${name};'))
    } }))
  }
  if (pathname.startsWith('/late/')) ctx.waitUntil((async () => { await scheduler.wait(1000 + Math.random() * 2000); await fetch('${originUrl}' + pathname) })())
  return new Response('${name}')
} }`

function traffic(...parameters: Parameters<WorkNode['traffic']>): Traffic {
  const started = node.traffic(...parameters)
  running.push(started)
  return started
}

describe('under load', () => {
  test(
    'fifty deploys fail no short, slow or streaming request and lose no waitUntil work',
    { timeout: 180_000 },
    async () => {
      const policy = { idleMs: 300 }
      await node.deploy('shop', version('v0'), { policy })
      const short = traffic('shop', { concurrency: 4 })
      const slow = traffic('shop', { concurrency: 3, path: '/slow' })
      const stream = traffic('shop', {
        concurrency: 3,
        path: '/stream',
        isGood: ({ status, text }) => status === 200 && /^(v\d+;)\1{14}$/.test(text),
      })
      const late: string[] = []
      await short.more(5)
      for (let round = 1; round <= 50; round++) {
        const path = `/late/${round}`
        expect((await node.get('shop', path)).status).toBe(200)
        late.push(path)
        await node.deploy('shop', version(`v${round}`), { policy })
        expect((await node.get('shop')).text).toBe(`v${round}`)
      }
      await slow.more(3)
      await stream.more(3)
      const outcomes = await Promise.all([short, slow, stream].map((each) => each.stop()))
      expect(outcomes.flatMap(({ failures }) => failures)).toEqual([])
      expect(short.texts.size).toBeGreaterThanOrEqual(50)
      await untilSo(async () => late.every((path) => heard.get(path) === 1))
      const kept = await untilSo(async () => {
        const found = await node.instances('shop')
        return new Set(found.map((each) => each.version)).size <= 1 && found
      })
      expect(kept.length).toBeLessThanOrEqual(2)
    },
  )

  test('rollback and traffic splits fail no request and are in force when they are acknowledged', async () => {
    const first = await node.deploy('split', version('a'))
    const second = await node.deploy('split', version('b'))
    const [a, b] = [first, second].map(({ deployment }) => deployment.shares[0]!.versionId)
    const steady = traffic('split')
    await steady.more(5)
    for (let round = 0; round < 5; round++) {
      await node.client().rollback('split', { versionId: a! })
      expect((await node.get('split')).text).toBe('a')
      await node.client().setTraffic('split', {
        shares: [
          { versionId: a!, percent: 50 },
          { versionId: b!, percent: 50 },
        ],
      })
      await steady.more(20)
      await node.client().setTraffic('split', { shares: [{ versionId: b!, percent: 100 }] })
      expect((await node.get('split')).text).toBe('b')
    }
    expect((await steady.stop()).failures).toEqual([])
    expect(steady.texts).toEqual(new Set(['a', 'b']))
  })

  test('deploys of one function at a time all succeed or say conflict, and the last one serves', async () => {
    await node.deploy('contended', version('start'))
    const steady = traffic('contended')
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, (_, index) => node.deploy('contended', version(`c${index}`))),
    )
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'conflict' })
    }
    const last = outcomes
      .flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
      .toSorted((one, other) => one.generation - other.generation)
      .at(-1)!
    const record = await node.client().getFunction('contended')
    expect(record.deployment.shares).toEqual(last.deployment.shares)
    await steady.more(10)
    expect((await steady.stop()).failures).toEqual([])
  })

  test('deploys of many functions at a time all succeed', async () => {
    const names = Array.from({ length: 12 }, (_, index) => `many-${index}`)
    await Promise.all(names.map((name) => node.deploy(name, version(name))))
    const answers = await Promise.all(names.map((name) => node.get(name)))
    expect(answers.map(({ text }) => text)).toEqual(names)
    await Promise.all(names.map((name) => node.client().deleteFunction(name)))
    expect((await node.get('many-0')).code).toBe('route_not_found')
  })

  test('a refused deploy leaves the old version serving', async () => {
    await node.deploy('strict', version('good'))
    const steady = traffic('strict')
    for (const bad of [
      'export default {',
      'throw new Error("at load")',
      'export default {}',
      'import "missing"',
    ]) {
      await expect(node.deploy('strict', bad)).rejects.toMatchObject({ code: 'version_refused' })
    }
    await steady.more(10)
    expect((await steady.stop()).failures).toEqual([])
    expect(steady.texts).toEqual(new Set(['good']))
  })

  test('a deletion lets requests under way finish, and then there is no route', async () => {
    await node.deploy('doomed', version('doomed'))
    await node.get('doomed')
    const pids = (await node.instances('doomed')).map(({ pid }) => pid)
    const slow = Array.from({ length: 5 }, () => node.get('doomed', '/slow'))
    const stream = node.get('doomed', '/stream')
    const late = node.get('doomed', '/late/doomed')
    await late
    await node.client().deleteFunction('doomed')
    expect(await node.get('doomed')).toMatchObject({ status: 404, code: 'route_not_found' })
    expect((await Promise.all(slow)).map(({ text }) => text)).toEqual(slow.map(() => 'doomed'))
    expect((await stream).text).toBe('doomed;'.repeat(15))
    await untilSo(async () => heard.get('/late/doomed') === 1)
    // And nothing is started for it any more.
    await untilSo(async () => {
      const left = (await node.instances('doomed')).map(({ pid }) => pid)
      expect(pids).toEqual(expect.arrayContaining(left))
      return left.length === 0
    })
  })

  test('waitUntil work that computes too hard to be asked about it is not cut off by a replacement', async () => {
    const source = `let count = 0
      export default { fetch(request, env, ctx) {
        ctx.waitUntil((async () => {
          for (let part = 0; part < 2; part++) { await scheduler.wait(1); for (let x = 0; x < 5e8; x++) count += x & 3 }
          await fetch('${originUrl}/computed')
        })())
        return new Response('answered')
      } }`
    await node.deploy('computing', source, { policy: { idleMs: 100 } })
    expect((await node.get('computing')).text).toBe('answered')
    await node.client().deleteFunction('computing')
    await untilSo(async () => (await node.instances('computing')).length === 0)
    expect(heard.get('/computed')).toBe(1)
  })
})
