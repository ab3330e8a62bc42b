/** How calls of methods between functions end when they do not end well, and what becomes of their connections. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Binding } from '../../sdk/model/function.ts'
import { startWorkNode, untilSo, type WorkNode } from '../harness/work-node.ts'

const service = (functionName: string, name = 'SVC'): Binding => ({ type: 'service', name, functionName })

const callee = (version: string): string => `import { WorkerEntrypoint } from 'cloudflare:workers'
export default class extends WorkerEntrypoint {
  version() { return '${version}' }
  hang() { console.log('hangs'); return scheduler.wait(120_000) }
}`

const CALLER = `export default { async fetch(request, env) {
  try {
    return Response.json({ value: await env.SVC[new URL(request.url).pathname.slice(1)]() })
  } catch (error) {
    return Response.json({ error: error.name + ': ' + error.message })
  }
} }`

let node: WorkNode
beforeAll(async () => {
  node = await startWorkNode()
})
afterAll(async () => {
  expect((await node.stop()).leftBehind).toEqual([])
  expect(node.traces()).toEqual([])
})

const ask = async (caller: string, what: string): Promise<{ value?: unknown; error?: string }> =>
  JSON.parse((await node.get(caller, `/${what}`)).text) as { value?: unknown; error?: string }

describe('calls of methods between functions', () => {
  test('of a callee that was deleted throw an error that names it, and work again once it is back', async () => {
    await node.deploy('fleeting', callee('first'))
    await node.deploy('holder', CALLER, { bindings: [service('fleeting')] })
    expect(await ask('holder', 'version')).toEqual({ value: 'first' })
    await node.client().deleteFunction('fleeting')
    const { error } = await untilSo(async () => {
      const answer = await ask('holder', 'version')
      return answer.error?.includes('there is no function') ? answer : undefined
    })
    expect(error).toBe('Error: there is no function "fleeting" on this node: deploy it, or correct the name')
    await node.deploy('fleeting', callee('second'))
    await untilSo(async () => (await ask('holder', 'version')).value === 'second')
  })

  test('of a callee whose process ends throw what Cloudflare’s would, and the next call finds another', async () => {
    await node.deploy('mortal', callee('alive'))
    await node.deploy('bereaved', CALLER, { bindings: [service('mortal')] })
    expect(await ask('bereaved', 'version')).toEqual({ value: 'alive' })
    const broken = ask('bereaved', 'hang')
    await untilSo(async () => (await node.isola('logs', 'mortal')).stdout.includes('hangs'))
    for (const { pid } of await node.instances('mortal')) process.kill(pid, 'SIGKILL')
    expect(await broken).toEqual({ error: 'Error: Network connection lost.' })
    await untilSo(async () => (await ask('bereaved', 'version')).value === 'alive')
  })

  test('of a callee that loops end when its limit ends it', async () => {
    const source = callee('looping').replace('hang()', 'loop() { for (;;); }\n  hang()')
    await node.deploy('looping', source, { limits: { cpuMs: 500 } })
    await node.deploy('patient', CALLER, { bindings: [service('looping')] })
    expect(await ask('patient', 'loop')).toEqual({ error: 'Error: Network connection lost.' })
    await untilSo(async () => (await node.isola('logs', 'looping')).stdout.includes('CPU limit of 500 ms'))
  })

  test('do not fail when the callee is deployed anew under them, and soon reach the new version alone', async () => {
    await node.deploy('changing', callee('old'))
    await node.deploy('steady', CALLER, { bindings: [service('changing')] })
    const traffic = node.traffic('steady', { concurrency: 2, path: '/version', isGood: isVersion })
    await traffic.more(50)
    await node.deploy('changing', callee('new'))
    await untilSo(async () => traffic.texts.has('{"value":"new"}'))
    expect((await traffic.stop()).failures).toEqual([])
  })

  test('hold a slot of the callee while they run, and give it back a while after', async () => {
    await node.deploy('limited', callee('limited'), {
      policy: { concurrency: 1, max: 1, queueTimeoutMs: 10_000 },
    })
    await node.deploy('first', CALLER, { bindings: [service('limited')] })
    await node.deploy('second', CALLER, { bindings: [service('limited')] })
    expect(await ask('first', 'version')).toEqual({ value: 'limited' })
    // The connection of the first has the only slot until nobody has needed it for a while.
    expect(await ask('second', 'version')).toEqual({ value: 'limited' })
  })

  test('of functions that call each other in a circle end in an error that says so', async () => {
    const next = `import { WorkerEntrypoint } from 'cloudflare:workers'
      export default class extends WorkerEntrypoint {
        async fetch() { try { return new Response(await this.next()) } catch (error) { return new Response(error.message) } }
        next() { return this.env.SVC.next() }
      }`
    await node.deploy('ping', next.replace('this.env.SVC.next()', `''`))
    await node.deploy('pong', next, { bindings: [service('ping')] })
    await node.deploy('ping', next, { bindings: [service('pong')] })
    expect((await node.get('ping')).text).toMatch(/is called after 16 calls of functions by functions/)
  })

  test('are not open to a function that opens the connection itself', async () => {
    await node.deploy('closed', callee('closed'))
    const forger = `import { connect } from 'cloudflare:sockets'
      export default { async fetch() {
        const failures = []
        for (const address of ['isola-rpc.closed.0', 'isola-rpc.closed.0:80', { hostname: 'isola-rpc', port: 80 }]) {
          try { await connect(address).opened; failures.push('open') } catch { failures.push('refused') }
        }
        return Response.json(failures)
      } }`
    await node.deploy('forger', forger, { bindings: [service('closed')] })
    expect(JSON.parse((await node.get('forger')).text)).toEqual(['refused', 'refused', 'refused'])
  })
})

function isVersion({ text }: { readonly text: string }): boolean {
  return text === '{"value":"old"}' || text === '{"value":"new"}'
}
