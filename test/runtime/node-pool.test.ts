/** How many instances a function has on a whole node, and what its queue does with those who wait. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startWorkNode, untilSo, type WorkNode } from '../harness/work-node.ts'

const HELLO = `export default { fetch: () => new Response('hello') }`
const SLOW = `export default { async fetch(request) {
  await scheduler.wait(Number(new URL(request.url).searchParams.get('ms')))
  return new Response('slow done')
} }`
const BUSY = `let count = 0
export default { async fetch(request) {
  const rounds = Number(new URL(request.url).searchParams.get('rounds') ?? 1)
  for (let round = 0; round < rounds; round++) { for (let x = 0; x < 400000; x++) count += Math.sqrt(x); await scheduler.wait(1) }
  return new Response('busy done')
} }`

let node: WorkNode
beforeAll(async () => {
  node = await startWorkNode()
})
afterAll(async () => {
  expect((await node.stop()).leftBehind).toEqual([])
  expect(node.traces()).toEqual([])
})

describe('the queue of a function with one instance of concurrency 1', () => {
  test('refuses the next one when full, and one that waited too long, each by name', async () => {
    await node.deploy('narrow', SLOW, { policy: { max: 1, concurrency: 1, queue: 2, queueTimeoutMs: 400 } })
    await node.get('narrow', '/?ms=0')
    const first = node.get('narrow', '/?ms=1500')
    await untilSo(async () => {
      const all = await Promise.all(Array.from({ length: 4 }, () => node.get('narrow', '/?ms=0')))
      const codes = all.map(({ code }) => code)
      return codes.includes('queue_full') && codes.includes('queue_timeout') && all
    })
    expect(await first).toMatchObject({ status: 200 })
    expect(await node.get('narrow', '/?ms=0')).toMatchObject({ status: 200 })
  })
})

describe('the number of instances', () => {
  test('grows with requests in flight up to max, and back to none when idle; then a cold start', async () => {
    await node.deploy('wide', SLOW, { policy: { max: 3, concurrency: 2, idleMs: 300 } })
    const traffic = node.traffic('wide', { concurrency: 12, path: '/?ms=200' })
    await untilSo(async () => (await node.instances('wide')).length === 3)
    await traffic.more(30)
    expect(await node.instances('wide')).toHaveLength(3)
    expect((await traffic.stop()).failures).toEqual([])
    await untilSo(async () => (await node.instances('wide')).length === 0)
    expect(await node.get('wide', '/?ms=0')).toMatchObject({ status: 200 })
  })

  test('grows with the CPU they use, though few requests are in flight', async () => {
    await node.deploy('hot', BUSY, { policy: { max: 2, concurrency: 50 } })
    const traffic = node.traffic('hot', { concurrency: 4, path: '/?rounds=20' })
    await untilSo(async () => (await node.instances('hot')).length === 2)
    expect((await traffic.stop()).failures).toEqual([])
  })

  test('follows a policy that changes while it is live, and min is kept through a kill', async () => {
    await node.deploy('kept', HELLO, { policy: { idleMs: 200 } })
    await untilSo(async () => (await node.instances('kept')).length === 0)
    await node.client().setPolicy('kept', { min: 2 })
    const [one] = await untilSo(async () => {
      const found = await node.instances('kept')
      return found.length === 2 && found
    })
    process.kill(one!.pid, 'SIGKILL')
    await untilSo(async () => {
      const found = await node.instances('kept')
      return found.length === 2 && found.every(({ pid }) => pid !== one!.pid)
    })
    await node.client().setPolicy('kept', { min: 0 })
    await untilSo(async () => (await node.instances('kept')).length === 0)
  })

  test('of an old version falls to none once the new one serves', async () => {
    await node.deploy('renewed', HELLO, { policy: { idleMs: 200 } })
    const [old] = await node.instances('renewed')
    await node.deploy('renewed', HELLO.replace('hello', 'new'), { policy: { idleMs: 60_000 } })
    expect((await node.get('renewed')).text).toBe('new')
    const left = await untilSo(async () => {
      const found = await node.instances('renewed')
      return found.length === 1 && found[0]!.version !== old!.version && found
    })
    expect(left).toHaveLength(1)
  })
})

describe('a busy, healthy function with cpu_ms 50', () => {
  test('is not ended while it keeps answering, with many requests at a time', async () => {
    await node.deploy('healthy', BUSY, { limits: { cpuMs: 50 }, policy: { max: 1 } })
    await node.get('healthy')
    const [instance] = await node.instances('healthy')
    const traffic = node.traffic('healthy', { concurrency: 40, path: '/?rounds=6' })
    await traffic.more(400)
    expect((await traffic.stop()).failures).toEqual([])
    expect((await node.instances('healthy')).map(({ pid }) => pid)).toEqual([instance!.pid])
  })

  test('is not ended for waitUntil work that many requests leave behind', async () => {
    const source = `let count = 0
      export default { fetch(request, env, ctx) {
        ctx.waitUntil((async () => { for (let i = 0; i < 8; i++) { await scheduler.wait(20); for (let x = 0; x < 300000; x++) count += Math.sqrt(x) } })())
        return new Response('answered')
      } }`
    await node.deploy('after', source, { limits: { cpuMs: 50 }, policy: { max: 1 } })
    for (let round = 0; round < 3; round++) {
      const all = await Promise.all(Array.from({ length: 20 }, () => node.get('after')))
      expect(all.map(({ status }) => status)).toEqual(all.map(() => 200))
    }
    const instances = await node.instances('after')
    expect(instances).toHaveLength(1)
    const traffic = node.traffic('after', { concurrency: 1 })
    await traffic.more(20)
    expect((await traffic.stop()).failures).toEqual([])
    expect((await node.instances('after')).map(({ pid }) => pid)).toEqual(instances.map(({ pid }) => pid))
  })

  test('is not ended while a large upload passes through it', async () => {
    const source = `export default { async fetch(request) {
      let bytes = 0
      for await (const chunk of request.body) bytes += chunk.length
      return new Response(String(bytes))
    } }`
    await node.deploy('upload', source, { limits: { cpuMs: 600 } })
    const body = Buffer.alloc(50 * 1024 * 1024)
    expect((await node.get('upload', '/', { method: 'POST', body })).text).toBe(String(body.length))
  })
})

describe('a hundred functions hit at once', () => {
  test('all start and answer', { timeout: 120_000 }, async () => {
    const names = Array.from({ length: 100 }, (_, index) => `storm-${index}`)
    const client = node.client()
    for (let at = 0; at < names.length; at += 10) {
      await Promise.all(
        names
          .slice(at, at + 10)
          .map((name) => node.deploy(name, HELLO, { policy: { idleMs: 100, queueTimeoutMs: 60_000 } })),
      )
    }
    await untilSo(async () =>
      (await client.status()).processes.every(({ function: name }) => !name?.startsWith('storm')),
    )
    const answers = await Promise.all(names.map((name) => node.get(name)))
    expect(answers.map(({ status }) => status)).toEqual(names.map(() => 200))
  })
})
