/** kill -9 on each process of a node, under load, alone and together; `isola up` again. */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { isAlive } from '../harness/node.ts'
import { processesOf, startWorkNode, untilSo, type WorkNode } from '../harness/work-node.ts'

const HELLO = `export default { fetch: () => new Response('hello') }`
const SLOW = `export default { async fetch(request) {
  const ms = Number(new URL(request.url).searchParams.get('ms'))
  console.log('slow ' + ms)
  await scheduler.wait(ms)
  return new Response('slow done')
} }`

let node: WorkNode | undefined
afterEach(async () => {
  await node?.stop()
  node = undefined
})

async function pidOf(role: 'router' | 'egress' | 'blank'): Promise<number> {
  const status = await node!.status()
  return processesOf(status, role)[0]?.pid ?? 0
}

async function isLive(role: 'router' | 'egress', not: number): Promise<number | false> {
  const pid = await pidOf(role)
  return pid !== 0 && pid !== not && isAlive(pid) ? pid : false
}

describe('kill -9 of the agent under load', () => {
  test('fails no request, and the next agent takes over the same instances, again and again', async () => {
    node = await startWorkNode()
    await node.deploy('hello', HELLO, { policy: { min: 2, max: 2 } })
    await node.deploy('slow', SLOW)
    await node.get('slow', '/?ms=0')
    const before = await untilSo(async () => {
      const found = await node!.instances('hello')
      return found.length === 2 && found
    })
    const router = await pidOf('router')
    const egress = await pidOf('egress')
    const traffic = node.traffic('hello')
    await traffic.more(20)
    for (let round = 0; round < 3; round++) {
      const slow = node.get('slow', '/?ms=700')
      await node.kill9()
      await traffic.more(50)
      await node.restart()
      await traffic.more(20)
      expect(await slow).toMatchObject({ status: 200, text: 'slow done' })
      const after = await node.instances('hello')
      expect(new Set(after.map(({ pid }) => pid))).toEqual(new Set(before.map(({ pid }) => pid)))
      expect([await pidOf('router'), await pidOf('egress')]).toEqual([router, egress])
    }
    const { answered, failures } = await traffic.stop()
    expect(failures).toEqual([])
    expect(answered).toBeGreaterThan(200)
    expect((await node.stop()).leftBehind).toEqual([])
    expect(node.traces()).toEqual([])
  })

  test('while nobody is there: log lines written meanwhile arrive, a cold start waits, and is served', async () => {
    node = await startWorkNode()
    await node.deploy('slow', SLOW)
    await node.deploy('cold', HELLO, { policy: { queueTimeoutMs: 60_000, idleMs: 100 } })
    await node.deploy('impatient', HELLO, { policy: { queueTimeoutMs: 1_500, idleMs: 100 } })
    await untilSo(
      async () => (await node!.instances('cold')).length + (await node!.instances('impatient')).length === 0,
    )
    await node.get('slow', '/?ms=0')
    await node.kill9()
    expect((await node.get('slow', '/?ms=11')).text).toBe('slow done')
    const impatient = await node.get('impatient')
    expect(impatient).toMatchObject({ status: 503, code: 'queue_timeout' })
    expect(Number(impatient.retryAfter)).toBeGreaterThan(0)
    const cold = node.get('cold')
    await node.restart()
    expect(await cold).toMatchObject({ status: 200, text: 'hello' })
    expect(await node.get('impatient')).toMatchObject({ status: 200 })
    const messages: string[] = []
    for await (const line of node.client().logs('slow')) messages.push(line.message)
    expect(messages.filter((message) => message === 'slow 11')).toHaveLength(1)
  })

  test('in the middle of a deploy leaves the old version or the new one serving, and the deploy can be repeated', async () => {
    node = await startWorkNode()
    await node.deploy('shop', `export default { fetch: () => new Response('v0') }`)
    const traffic = node.traffic('shop', { concurrency: 2 })
    await traffic.more(5)
    for (let round = 1; round <= 4; round++) {
      const source = `export default { fetch: () => new Response('v${round}') }`
      const deploying = node.deploy('shop', source).catch((error: unknown) => error)
      if (round > 1) await untilSo(async () => traffic.more(round * 3).then(() => true))
      await node.kill9()
      await deploying
      const { text } = await node.get('shop')
      expect([`v${round - 1}`, `v${round}`]).toContain(text)
      await node.restart()
      await node.deploy('shop', source)
      expect((await node.get('shop')).text).toBe(`v${round}`)
    }
    expect((await traffic.stop()).failures).toEqual([])
    expect((await node.stop()).leftBehind).toEqual([])
    expect(node.traces()).toEqual([])
  })

  test('during cold starts leaves no half-started process behind', async () => {
    node = await startWorkNode()
    const names = Array.from({ length: 8 }, (_, index) => `cold-${index}`)
    for (const name of names)
      await node.deploy(name, HELLO, { policy: { idleMs: 100, queueTimeoutMs: 30_000 } })
    await untilSo(async () => processesOf(await node!.status(), 'instance').length === 0)
    const requests = names.map((name) => node!.get(name))
    await untilSo(async () => processesOf(await node!.status(), 'instance').length > 0)
    await node.kill9()
    await node.restart()
    const answers = await Promise.all(requests)
    expect(answers.map(({ status }) => status)).toEqual(names.map(() => 200))
    expect((await node.stop()).leftBehind).toEqual([])
    expect(node.traces()).toEqual([])
  })

  test('during its shutdown: the next one serves at once and can be stopped as ever', async () => {
    node = await startWorkNode()
    await node.deploy('slow', SLOW)
    await node.get('slow', '/?ms=0')
    const slow = node.get('slow', '/?ms=20000').catch(() => undefined)
    await untilSo(async () => (await logs('slow')).includes('slow 20000'))
    process.kill(node.pid, 'SIGTERM')
    await untilSo(async () => node!.output().includes('stopping') || (await refused()))
    await node.kill9()
    await node.restart()
    expect(await node.get('slow', '/?ms=1')).toMatchObject({ status: 200 })
    void slow
    expect((await node.stop()).leftBehind).toEqual([])
    expect(node.traces()).toEqual([])
  })
})

describe('kill -9 of the agent and of something else', () => {
  test('the router and the agent together, again and again: the port stays, the instances too', async () => {
    node = await startWorkNode()
    await node.deploy('hello', HELLO, { policy: { min: 1, max: 1 } })
    await node.get('hello')
    const instances = (await node.instances('hello')).map(({ pid }) => pid)
    for (let round = 0; round < 2; round++) {
      const traffic = node.traffic('hello')
      await traffic.more(10)
      const router = await pidOf('router')
      await node.kill9()
      process.kill(router, 'SIGKILL')
      await traffic.stop()
      await node.restart()
      expect(await node.get('hello')).toMatchObject({ status: 200, text: 'hello' })
      expect((await node.instances('hello')).map(({ pid }) => pid)).toEqual(instances)
    }
    expect((await node.stop()).leftBehind).toEqual([])
    expect(node.traces()).toEqual([])
  })

  test('an instance while no agent is there: its next requests wait for the agent, nothing of it stays', async () => {
    node = await startWorkNode()
    await node.deploy('hello', HELLO, { policy: { queueTimeoutMs: 60_000 } })
    await node.deploy('neighbour', HELLO)
    await node.get('hello')
    await node.get('neighbour')
    const [instance] = await node.instances('hello')
    const neighbour = node.traffic('neighbour', { concurrency: 2 })
    await node.kill9()
    process.kill(instance!.pid, 'SIGKILL')
    // At once: while the kernel still takes it apart, connections break that the next ones are refused.
    const waiting = Array.from({ length: 5 }, () => node!.get('hello'))
    await neighbour.more(50)
    await node.restart()
    expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual(waiting.map(() => 200))
    const [next] = await node.instances('hello')
    expect(next!.pid).not.toBe(instance!.pid)
    expect((await neighbour.stop()).failures).toEqual([])
    expect((await node.stop()).leftBehind).toEqual([])
    expect(node.traces()).toEqual([])
  })

  test('a flood of output while no agent is there stays within a bound on the disk, and the function goes on', async () => {
    node = await startWorkNode()
    const source = `export default { fetch() {
      const line = 'x'.repeat(10000)
      for (let i = 0; i < 2000; i++) console.log(line)
      return new Response('written')
    } }`
    await node.deploy('flood', source)
    await node.get('flood')
    await node.kill9()
    for (let round = 0; round < 3; round++) expect((await node.get('flood')).text).toBe('written')
    const [run] = node.traces().filter((path) => path.startsWith('/run/'))
    const bytes = readdirSync(run!, { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.log'))
      .reduce((sum, path) => sum + statSync(join(run!, path)).size, 0)
    expect(bytes).toBeGreaterThan(1_000_000)
    expect(bytes).toBeLessThan(20_000_000)
    await node.restart()
    expect((await node.get('flood')).text).toBe('written')
  })
})

describe('kill -9 of what the agent supervises', () => {
  test('a router is replaced on the same port and everything answers again', async () => {
    node = await startWorkNode()
    await node.deploy('hello', HELLO, { policy: { min: 1 } })
    await node.get('hello')
    const instances = (await node.instances('hello')).map(({ pid }) => pid)
    for (let round = 0; round < 3; round++) {
      const pid = await pidOf('router')
      const traffic = node.traffic('hello')
      await traffic.more(10)
      process.kill(pid, 'SIGKILL')
      await isReplaced('router', pid)
      await traffic.more(20)
      await traffic.stop()
      const steady = node.traffic('hello')
      await steady.more(20)
      expect((await steady.stop()).failures).toEqual([])
    }
    expect((await node.instances('hello')).map(({ pid }) => pid)).toEqual(instances)
  })

  test('an egress proxy is replaced, and instances that were there have their way out again', async () => {
    node = await startWorkNode({ flags: ['--allow-egress', '127.0.0.1/32'] })
    await node.deploy('hello', HELLO)
    await node.deploy(
      'out',
      `export default { async fetch() { try { const r = await fetch('http://' + 'hello.localhost:${new URL(node.httpUrl).port}/'); return new Response(String(r.status)) } catch (e) { return new Response('failed: ' + e, { status: 500 }) } } }`,
    )
    const first = await node.get('out')
    const pid = await pidOf('egress')
    process.kill(pid, 'SIGKILL')
    await isReplaced('egress', pid)
    expect(await untilSo(async () => (await node!.get('out')).text === first.text)).toBe(true)
    expect(await node.get('hello')).toMatchObject({ status: 200 })
  })

  test('an instance fails only what was on it, a minimum is restored, and a blank costs nothing', async () => {
    node = await startWorkNode()
    await node.deploy('hello', HELLO, { policy: { min: 2, max: 2 } })
    await node.deploy('neighbour', HELLO)
    const two = await untilSo(async () => {
      const found = await node!.instances('hello')
      return found.length === 2 && found
    })
    const neighbour = node.traffic('neighbour', { concurrency: 2 })
    await neighbour.more(10)
    for (const { pid } of two) process.kill(pid, 'SIGKILL')
    const restored = await untilSo(async () => {
      const found = await node!.instances('hello')
      return found.length === 2 && found.every(({ pid }) => !two.some((old) => old.pid === pid)) && found
    })
    expect(restored).toHaveLength(2)
    expect(await node.get('hello')).toMatchObject({ status: 200, text: 'hello' })
    const blank = await untilSo(async () => (await pidOf('blank')) || undefined)
    process.kill(blank, 'SIGKILL')
    await untilSo(async () => {
      const pids = processesOf(await node!.status(), 'blank').map(({ pid }) => pid)
      return pids.length === 2 && !pids.includes(blank)
    })
    expect((await neighbour.stop()).failures).toEqual([])
    expect((await node.stop()).leftBehind).toEqual([])
    expect(node.traces()).toEqual([])
  })

  test('all of it at once, agent included: the next agent serves as before', async () => {
    node = await startWorkNode()
    await node.deploy('hello', HELLO)
    await node.get('hello')
    const pids = (await node.status()).processes.map(({ pid }) => pid)
    await node.kill9()
    for (const pid of pids) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
    await node.restart()
    expect(await node.get('hello')).toMatchObject({ status: 200, text: 'hello' })
    expect((await node.stop()).leftBehind).toEqual([])
    expect(node.traces()).toEqual([])
  })
})

async function isReplaced(role: 'router' | 'egress', pid: number): Promise<number> {
  return untilSo(() => isLive(role, pid))
}

async function logs(name: string): Promise<string[]> {
  const messages: string[] = []
  for await (const line of node!.client().logs(name)) messages.push(line.message)
  return messages
}

/** True once the router takes no more connections. */
async function refused(): Promise<boolean> {
  return node!.get('slow', '/?ms=0').then(
    () => false,
    () => true,
  )
}
