import { expect, test } from 'vitest'
import type { UsageHour } from '../../sdk/model/usage.ts'
import { processesOf, startWorkNode, type WorkNode } from '../harness/work-node.ts'

const HELLO = `export default { fetch: () => new Response('hello') }`

/** Over all hours. */
const requestsOf = async (
  node: WorkNode,
  name: string,
): Promise<Omit<UsageHour, 'functionName' | 'hour'>> => {
  const { hours } = await node.client().usage({ functionName: name })
  const sum = (field: keyof Omit<UsageHour, 'functionName' | 'hour'>): number =>
    hours.reduce((total, hour) => total + hour[field], 0)
  return {
    requests: sum('requests'),
    refused: sum('refused'),
    coldStarts: sum('coldStarts'),
    cpuMs: sum('cpuMs'),
    gbS: sum('gbS'),
    responseBytes: sum('responseBytes'),
    egressBytes: sum('egressBytes'),
  }
}

async function send(node: WorkNode, name: string, count: number): Promise<void> {
  for (let sent = 0; sent < count; sent++) expect((await node.get(name)).status).toBe(200)
}

/** As soon as so many are counted; an assertion about the number itself follows. */
async function untilCounted(node: WorkNode, name: string, count: number): Promise<void> {
  await node.until(async () => (await requestsOf(node, name)).requests >= count)
}

test('usage counts every request once, whenever the agent is killed', async () => {
  await using node = await startWorkNode()
  await node.deploy('hello', HELLO)
  let sent = 0
  for (const count of [20, 7, 13]) {
    await send(node, 'hello', count)
    sent += count
    // Told or not, written or not: the router has it.
    await node.kill9()
    await send(node, 'hello', 5)
    sent += 5
    await node.restart()
  }
  await send(node, 'hello', 3)
  sent += 3
  await untilCounted(node, 'hello', sent)
  const usage = await requestsOf(node, 'hello')
  expect(usage).toMatchObject({ requests: sent, refused: 0, responseBytes: sent * 'hello'.length })
  // An orderly stop counts what the router had not told yet.
  await send(node, 'hello', 4)
  await node.restart()
  expect((await requestsOf(node, 'hello')).requests).toBe(sent + 4)
})

test('a router that is killed costs at most what it had not told, and nothing is counted twice', async () => {
  await using node = await startWorkNode()
  await node.deploy('hello', HELLO)
  await send(node, 'hello', 10)
  await untilCounted(node, 'hello', 10)
  await send(node, 'hello', 4)
  const [router] = processesOf(await node.status(), 'router')
  process.kill(router!.pid, 'SIGKILL')
  await node.until(async () => {
    const [next] = processesOf(await node.status(), 'router')
    return next !== undefined && next.pid !== router!.pid
  })
  await node.until(() =>
    node.get('hello').then(
      ({ status }) => status === 200,
      () => false,
    ),
  )
  await send(node, 'hello', 6)
  await untilCounted(node, 'hello', 10 + 1 + 6)
  expect((await requestsOf(node, 'hello')).requests).toBeLessThanOrEqual(10 + 4 + 1 + 6)
})

test('agent and router killed together lose what was not written; what follows counts once', async () => {
  await using node = await startWorkNode()
  await node.deploy('hello', HELLO)
  await send(node, 'hello', 10)
  const [router] = processesOf(await node.status(), 'router')
  process.kill(router!.pid, 'SIGKILL')
  await node.kill9()
  await node.restart()
  const { requests: left } = await requestsOf(node, 'hello')
  expect(left).toBeLessThanOrEqual(10)
  await send(node, 'hello', 5)
  await untilCounted(node, 'hello', left + 5)
  expect((await requestsOf(node, 'hello')).requests).toBe(left + 5)
})

test('CPU and memory of instances, refusals and cold starts are in usage and metrics, and the command prints them', async () => {
  await using node = await startWorkNode()
  await node.deploy(
    'busy',
    `export default { fetch: () => {

    let sum = 0
    while (sum < 3e6) sum++
    return new Response('x'.repeat(1000))
  } }`,
  )
  await node.client().setPolicy('busy', { ratePerS: 1, burst: 2 })
  const statuses: number[] = []
  for (let count = 0; count < 6; count++) statuses.push((await node.get('busy')).status)
  const answered = statuses.filter((status) => status === 200).length
  expect(statuses).toContain(429)
  const usage = await node.until(async () => {
    const now = await requestsOf(node, 'busy')
    return now.requests + now.refused === statuses.length && now.cpuMs > 0 && now.gbS > 0 && now
  })
  expect(usage).toMatchObject({ requests: answered, refused: statuses.length - answered })
  const text = await node.client().metrics()
  expect(text).toMatch(
    new RegExp(
      `^isola_refusals_total\\{function="busy",reason="rate_limited"\\} ${statuses.length - answered}$`,
      'm',
    ),
  )
  expect(text).toMatch(/^isola_instances\{function="busy",version="\w+",state="running"\} 1$/m)
  expect(text).toMatch(/^isola_instance_cpu_seconds_total\{function="busy",version="\w+"\} 0\.\d+$/m)
  const { stdout, code } = await node.isola('usage', 'busy')
  expect(code).toBe(0)
  expect(stdout).toMatch(new RegExp(`^busy +${answered} +${statuses.length - answered} `, 'm'))

  await node.client().setPolicy('busy', { ratePerS: 0, burst: 0, idleMs: 100 })
  await node.until(async () => (await node.instances('busy')).length === 0)
  expect((await node.get('busy')).status).toBe(200)
  await node.until(async () => (await requestsOf(node, 'busy')).coldStarts === 1)
  expect(await node.client().metrics()).toMatch(
    /^isola_instance_ends_total\{function="busy",cause="stopped"\} [1-9]\d*$/m,
  )
})
