/** Service bindings on a whole node: deploy, real isolates, the egress proxy and the router's inner door. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { Binding } from '../../sdk/model/function.ts'
import { refused } from '../harness/control-place.ts'
import { startWorkNode, untilSo, type WorkNode } from '../harness/work-node.ts'

const service = (functionName: string, name = 'SVC'): Binding => ({ type: 'service', name, functionName })

const CALLEE = `export default { async fetch(request) {
  const { pathname, protocol } = new URL(request.url)
  if (pathname === '/throw') throw new Error('callee is sad')
  if (pathname === '/socket') {
    const [client, server] = Object.values(new WebSocketPair())
    server.accept()
    server.addEventListener('message', ({ data }) => server.send('callee heard ' + data))
    return new Response(null, { status: 101, webSocket: client })
  }
  const own = [...request.headers.keys()].filter((name) => name.startsWith('isola-') && name !== 'isola-depth')
  return new Response(JSON.stringify({
    url: request.url, method: request.method, body: await request.text(),
    header: request.headers.get('x-own'), for: request.headers.get('x-forwarded-for'), own }),
    { status: 222, headers: { 'x-callee': 'yes' } })
} }`

const CALLER = `export default { async fetch(request, env) {
  const { pathname } = new URL(request.url)
  if (pathname === '/socket') return env.SVC.fetch(new Request('https://any.host/socket', request))
  if (pathname === '/forge') return fetch('http://127.0.0.1/', { headers: { 'isola-service': 'callee' } })
  if (pathname === '/throw') return env.SVC.fetch('https://any.host/throw')
  const answer = await env.SVC.fetch('https://any.host:8443/path?q=1', {
    method: 'POST', body: 'the body', headers: { 'x-own': 'kept' } })
  return new Response(answer.status + ' ' + answer.headers.get('x-callee') + ' ' + await answer.text())
} }`

let node: WorkNode
beforeAll(async () => {
  node = await startWorkNode()
  await node.deploy('callee', CALLEE)
  await node.deploy('secret', CALLEE)
  await node.deploy('caller', CALLER, { bindings: [service('callee')] })
})
afterAll(async () => {
  expect((await node.stop()).leftBehind).toEqual([])
  expect(node.traces()).toEqual([])
})

describe('a Worker with a service binding', () => {
  test('calls the other function with the URL, method, headers and body it chose', async () => {
    const { text } = await node.get('caller')
    expect(text.slice(0, 8)).toBe('222 yes ')
    expect(JSON.parse(text.slice(8))).toEqual({
      url: 'https://any.host:8443/path?q=1',
      method: 'POST',
      body: 'the body',
      header: 'kept',
      for: null,
      own: [],
    })
  })

  test('gets what the callee’s router answers as a response', async () => {
    const { status, code } = await node.get('caller', '/throw')
    expect([status, code]).toEqual([500, 'function_threw'])
  })

  test('cannot reach a function by writing the header itself', async () => {
    const { status, code } = await node.get('caller', '/forge')
    expect([status, code]).toEqual([403, 'egress_refused'])
  })

  test('passes WebSockets through', async () => {
    const url = node.httpUrl.replace('http', 'ws')
    const socket = new WebSocket(`${url}/socket`, { headers: { host: 'caller.localhost' } })
    socket.on('open', () => socket.send('hello'))
    const heard = await new Promise<string>((resolve, reject) => {
      socket.on('message', (data: Buffer) => resolve(data.toString()))
      socket.on('error', reject)
    })
    socket.close()
    expect(heard).toBe('callee heard hello')
  })

  test('the call is logged with the callee, under the request id of the caller where it is passed on', async () => {
    await node.deploy('passing', `export default { fetch: (request, env) => env.SVC.fetch(request) }`, {
      bindings: [service('callee')],
    })
    await node.get('passing', '/logged', { headers: { 'x-request-id': 'the-id-of-all' } })
    await untilSo(async () => {
      const { stdout } = await node.isola('logs', 'callee', '--json')
      return stdout.includes('"the-id-of-all"') && stdout.includes('"path":"/logged"')
    })
  })

  test('functions that call each other in a circle end in a named error, also with requests of their own making', async () => {
    const next = `export default { fetch: (request, env) => env.SVC.fetch('https://next.host/') }`
    await node.deploy('ping', CALLEE)
    await node.deploy('pong', next, { bindings: [service('ping')] })
    await node.deploy('ping', next, { bindings: [service('pong')] })
    const { status, code } = await node.get('ping')
    expect([status, code]).toEqual([508, 'loop_detected'])
  })

  test('a binding to a function that is not there is refused, but for one to itself', async () => {
    await expect(node.deploy('lost', CALLER, { bindings: [service('nobody')] })).rejects.toEqual(
      refused('function_not_found', /service binding "SVC" names the function "nobody"/),
    )
    await expect(node.deploy('lost', CALLER, { bindings: [service('No Name')] })).rejects.toEqual(
      refused('invalid_argument', /function name "No Name"/),
    )
    const self = `export default { fetch: (request, env) =>
      new URL(request.url).pathname === '/inner' ? new Response('inner') : env.SELF.fetch('http://x/inner') }`
    await node.deploy('self', self, { bindings: [service('self', 'SELF')] })
    expect((await node.get('self')).text).toBe('inner')
  })

  test('a callee that was deleted is a clear answer, and it is called again once it is back', async () => {
    await node.deploy('fleeting', CALLEE)
    await node.deploy('holder', CALLER, { bindings: [service('fleeting')] })
    expect((await node.get('holder')).text).toContain('the body')
    await node.client().deleteFunction('fleeting')
    const text = await untilSo(async () => {
      const answer = await node.get('holder')
      return answer.text.startsWith('404') ? answer.text : undefined
    })
    expect(text).toContain('function_not_found')
    await node.deploy('fleeting', CALLEE)
    expect((await node.get('holder')).text).toContain('222 yes')
  })

  test('goes on after the agent and the egress proxy were killed', async () => {
    const { processes } = await node.status()
    const egress = processes.find(({ role }) => role === 'egress')!
    await node.kill9()
    process.kill(egress.pid, 'SIGKILL')
    await node.restart()
    expect((await node.get('caller')).text).toContain('the body')
  })
})
