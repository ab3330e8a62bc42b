/** One policy on a whole node: the ladder of an instance, a full node, and a version that keeps failing. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ProcessStatus } from '../../sdk/model/node-status.ts'
import { startWorkNode, untilSo, type WorkNode } from '../harness/work-node.ts'

const SLOW = `export default { async fetch(request) {
  await scheduler.wait(Number(new URL(request.url).searchParams.get('ms')))
  return new Response('slow done')
} }`
const COUNT = `let count = 0; let doneAt = 0
export default { fetch(request, env, ctx) {
  if (request.url.endsWith('/later')) {
    ctx.waitUntil(scheduler.wait(1500).then(() => { doneAt = Date.now() }))
  }
  return Response.json({ count: ++count, doneAt })
} }`
const BUDGET_MIB = 256

let node: WorkNode
beforeAll(async () => {
  node = await startWorkNode({ flags: ['--memory', `${BUDGET_MIB}M`, '--cpus', '2'] })
})
afterAll(async () => {
  expect((await node.stop()).leftBehind).toEqual([])
  expect(node.traces()).toEqual([])
})

const inState = (name: string, state: ProcessStatus['state']): Promise<readonly ProcessStatus[]> =>
  untilSo(async () => {
    const found = await node.instances(name)
    return found.length > 0 && found.every((each) => each.state === state) && found
  })

async function answerOf(name: string, path = '/'): Promise<{ count: number; doneAt: number }> {
  const answer = await node.get(name, path)
  expect(answer, answer.text).toMatchObject({ status: 200 })
  return JSON.parse(answer.text) as { count: number; doneAt: number }
}

describe('an instance at rest', () => {
  afterAll(async () => {
    for (const { name } of await node.client().listFunctions()) await node.client().deleteFunction(name)
  })

  test('is paused, resumes for the next request with all it had, and is paused again', async () => {
    await node.deploy('resting', COUNT)
    await node.client().setPolicy('resting', { pauseMs: 300, idleMs: 60_000 })
    const before = await answerOf('resting')
    const [paused] = await inState('resting', 'paused')
    expect((await answerOf('resting')).count).toBe(before.count + 1)
    const [again] = await inState('resting', 'paused')
    expect(again!.pid).toBe(paused!.pid)
    const { scaling } = await node.status()
    const [status] = scaling.filter(({ functionName }) => functionName === 'resting')
    expect(status).toMatchObject({ paused: 1, running: 0 })
    expect(status!.reason).not.toBe('')
  })

  test('is not paused before its waitUntil work is done', async () => {
    await node.deploy('working', COUNT, { policy: { pauseMs: 100, idleMs: 60_000 } })
    await answerOf('working', '/later')
    await inState('working', 'paused')
    const pausedAtMs = Date.now()
    const { doneAt } = await answerOf('working')
    expect(doneAt).toBeGreaterThan(0)
    expect(doneAt).toBeLessThanOrEqual(pausedAtMs)
  })

  test('that is paused leaves when its idle time is over, and is started anew', async () => {
    await node.deploy('leaving', COUNT, { policy: { pauseMs: 100, idleMs: 1_500 } })
    await answerOf('leaving')
    await inState('leaving', 'paused')
    await untilSo(async () => (await node.instances('leaving')).length === 0)
    expect((await answerOf('leaving')).count).toBe(1)
  })

  test('that is paused outlives the agent, resumes without it, and is known to the next', async () => {
    await node.deploy('outliving', COUNT, { policy: { pauseMs: 300, idleMs: 60_000 } })
    await answerOf('outliving')
    const [paused] = await inState('outliving', 'paused')
    await node.kill9()
    expect((await answerOf('outliving')).count).toBe(2)
    await node.restart()
    const [adopted] = await inState('outliving', 'paused')
    expect(adopted!.pid).toBe(paused!.pid)
    expect((await answerOf('outliving')).count).toBe(3)
  })

  test('that is paused is resumed by a router that never heard of it', async () => {
    await node.deploy('unknown', COUNT, { policy: { pauseMs: 300, idleMs: 60_000 } })
    await answerOf('unknown')
    const [paused] = await inState('unknown', 'paused')
    const router = (await node.status()).processes.find(({ role }) => role === 'router')!
    process.kill(router.pid, 'SIGKILL')
    // Until the next one listens.
    const answer = await untilSo(() => node.get('unknown').catch(() => undefined))
    expect(JSON.parse(answer.text)).toMatchObject({ count: 2 })
    const [again] = await inState('unknown', 'paused')
    expect(again!.pid).toBe(paused!.pid)
  })
})

describe('a node with 256 MiB for instances', () => {
  test('says so, and why each function has the instances it has', async () => {
    const { budget } = await node.status()
    expect(budget).toEqual({ memoryMib: BUDGET_MIB, cpus: 2 })
    await node.deploy('explained', COUNT, { policy: { min: 1 } })
    await inState('explained', 'running')
    const { stdout } = await node.isola('status')
    expect(stdout).toContain(`budget    ${BUDGET_MIB} MiB and 2 processors`)
    expect(stdout).toMatch(/^FUNCTION +VERSION +INSTANCES +REASON$/m)
    expect(stdout).toMatch(/^explained +[0-9a-f]{8} +1 running +\S/m)
    await node.client().deleteFunction('explained')
  })

  test('refuses by name, with its values and a time, who finds no place until the deadline', async () => {
    await node.deploy('holder', SLOW, { policy: { max: 100, concurrency: 1, queueTimeoutMs: 60_000 } })
    await node.deploy('late', SLOW, { policy: { max: 4, concurrency: 1, queueTimeoutMs: 400, idleMs: 100 } })
    await untilSo(async () => (await node.instances('late')).length === 0)
    const held = Array.from({ length: 40 }, () => node.get('holder', '/?ms=4000'))
    await untilSo(() => holdsAll('holder'))
    const refused = await node.get('late', '/?ms=0')
    expect(refused, refused.text).toMatchObject({ status: 503, code: 'node_full' })
    expect(Number(refused.retryAfter)).toBeGreaterThan(0)
    expect(refused.message).toContain(`${BUDGET_MIB} MiB`)
    expect((await Promise.all(held)).map(({ status }) => status)).toEqual(held.map(() => 200))
    // And when there is a place again:
    await untilSo(async () => (await node.get('late', '/?ms=0')).status === 200)
    await node.client().deleteFunction('holder')
  })

  test('is shared by two functions that both want all of it, and no request of either fails', async () => {
    const policy = { max: 100, concurrency: 1, queueTimeoutMs: 60_000, idleMs: 1_000 }
    for (const name of ['greedy', 'modest']) await node.deploy(name, SLOW, { policy })
    const greedy = node.traffic('greedy', { concurrency: 40, path: '/?ms=200' })
    await untilSo(() => holdsAll('greedy'))
    const modest = node.traffic('modest', { concurrency: 40, path: '/?ms=200' })
    const counts = await untilSo(async () => {
      const [ofGreedy, ofModest] = [await serving('greedy'), await serving('modest')]
      return ofModest >= 4 && Math.abs(ofGreedy - ofModest) <= 2 && { ofGreedy, ofModest }
    })
    expect(counts.ofGreedy).toBeGreaterThanOrEqual(4)
    await Promise.all([greedy.more(100), modest.more(100)])
    expect((await greedy.stop()).failures).toEqual([])
    expect((await modest.stop()).failures).toEqual([])
    await untilSo(async () => (await serving('greedy')) + (await serving('modest')) === 0)
  })
})

describe('a version that keeps crashing', () => {
  test('is refused fast, and serves again by itself once it does not crash any more', async () => {
    const source = `import { abortIsolate } from 'cloudflare:workers'
      export default { fetch: (request) => request.url.endsWith('/ok') ? new Response('ok') : abortIsolate('broken') }`
    await node.deploy('broken', source)
    const refused = await untilSo(async () => {
      const answer = await node.get('broken')
      return answer.code === 'crash_loop' && answer
    })
    expect(refused).toMatchObject({ status: 503, message: expect.stringContaining('broken') })
    expect(Number(refused.retryAfter)).toBeGreaterThan(0)
    // One instance is tried when the wait is over: now it answers.
    await untilSo(async () => (await node.get('broken', '/ok')).status === 200)
    for (let round = 0; round < 20; round++) {
      expect(await node.get('broken', '/ok')).toMatchObject({ status: 200, text: 'ok' })
    }
  })
})

const serving = async (name: string): Promise<number> =>
  (await node.instances(name)).filter(({ state }) => state === 'running').length

/** So many that there is no place for another. */
async function holdsAll(name: string): Promise<boolean> {
  const { scaling } = await node.status()
  const found = scaling.find(({ functionName }) => functionName === name)
  return found !== undefined && found.running >= 15 && found.starting === 0
}
