/** Calls of functions by functions as the egress proxy passes them on, with a test in the place of the router. */
import { once } from 'node:events'
import { createServer, request, type IncomingMessage, type Server } from 'node:http'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { EGRESS_LIMITS } from '../../sdk/model/limits.ts'
import type { EgressLimits } from '../../runtime/egress/egress-limits.ts'
import { errorOf, send, startEgress, type EgressUnderTest } from '../harness/egress.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

interface Door {
  readonly egress: EgressUnderTest
  readonly server: Server
  readonly requests: readonly IncomingMessage[]
  readonly bodies: readonly string[]
}

/** Instance "i1" of function "shop", which may call "stock"; the inner door answers with 201. */
async function open(limits: Partial<EgressLimits> = {}): Promise<Door> {
  const egress = await startEgress({
    limits,
    rules: { limits: { shop: { subrequests: 1_000, egress: 'none' } } },
  })
  cleanups.push(() => egress.close())
  await egress.proxy.handle({ type: 'assign', id: 'i1', functionName: 'shop', services: ['stock'] })
  const requests: IncomingMessage[] = []
  const bodies: string[] = []
  const server = createServer((incoming, response) => {
    requests.push(incoming)
    let body = ''
    incoming.on('data', (chunk: Buffer) => (body += chunk.toString()))
    incoming.on('end', () => {
      bodies.push(body)
      response.writeHead(201, { 'x-from': 'stock', 'isola-function-error': 'Unhandled', 'isola-error': 'x' })
      response.end(`stock got ${body}`)
    })
  })
  server.listen(join(egress.directory, 'invoke.sock'))
  await once(server, 'listening')
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return { egress, server, requests, bodies }
}

const TO_STOCK = { 'isola-service': 'stock' }

describe('a call by a service binding', () => {
  test('reaches the inner door with URL, method, headers and body as they were, also where the function may reach no host', async () => {
    const { egress, requests, bodies } = await open()
    const answer = await send(egress.socketPath, 'https://any.host:8443/a%20b?c=d', {
      method: 'PUT',
      headers: {
        ...TO_STOCK,
        'x-own': 'yes',
        'x-forwarded-for': '203.0.113.7',
        'x-request-id': 'r-1',
        'content-length': '5',
      },
      body: 'apple',
    })
    expect([answer.status, answer.body.toString()]).toEqual([201, 'stock got apple'])
    expect(answer.headers['x-from']).toBe('stock')
    const { method, url, headers } = requests[0]!
    expect([method, url, bodies[0]]).toEqual(['PUT', '/a%20b?c=d', 'apple'])
    expect(headers).toMatchObject({
      host: 'any.host:8443',
      'x-own': 'yes',
      'x-forwarded-for': '203.0.113.7',
      'x-request-id': 'r-1',
      'isola-function': 'stock',
      'isola-proto': 'https',
      'isola-depth': '1',
    })
    expect(headers['isola-service']).toBeUndefined()
  })

  test('what isola’s own processes say to each other can neither be forged nor seen', async () => {
    const { egress, requests } = await open()
    const answer = await send(egress.socketPath, 'http://any.host/', {
      headers: {
        ...TO_STOCK,
        'isola-function': 'secret',
        'isola-version': 'v',
        'isola-invoke': 'event',
        Isola_Proto: 'gopher',
        'isola-proto': 'gopher',
      },
    })
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('isola'))).toEqual([])
    const own = Object.entries(requests[0]!.headers).filter(([name]) => name.startsWith('isola'))
    expect(Object.fromEntries(own)).toEqual({
      'isola-function': 'stock',
      'isola-proto': 'http',
      'isola-depth': '1',
    })
  })

  test('to a function without a binding is refused, however the header came there, and is logged', async () => {
    const { egress, requests } = await open()
    for (const service of ['secret', 'stock, secret', 'Stock', '', 'constructor']) {
      const answer = await send(egress.socketPath, 'http://any.host/', {
        headers: { 'isola-service': service },
      })
      expect([answer.status, errorOf(answer).code]).toEqual([403, 'egress_refused'])
      expect(errorOf(answer).message).toContain('no service binding')
    }
    expect(requests).toEqual([])
    const logged = egress.sent.filter(({ type }) => type === 'log')
    expect(JSON.stringify(logged)).toContain('no service binding')
    // An assignment without services, as an earlier agent sent it, allows none.
    await egress.proxy.handle({ type: 'assign', id: 'i1', functionName: 'shop' })
    const after = await send(egress.socketPath, 'http://any.host/', { headers: TO_STOCK })
    expect(after.status).toBe(403)
  })

  test('functions that call each other in a circle are stopped', async () => {
    const { egress, requests } = await open()
    const { serviceDepthMax } = EGRESS_LIMITS
    const at = (depth: string) =>
      send(egress.socketPath, 'http://any.host/', { headers: { ...TO_STOCK, 'isola-depth': depth } })
    expect((await at(String(serviceDepthMax - 1))).status).toBe(201)
    expect(requests[0]!.headers['isola-depth']).toBe(String(serviceDepthMax))
    const refused = await at(String(serviceDepthMax))
    expect([refused.status, errorOf(refused).code]).toEqual([508, 'loop_detected'])
    for (const depth of ['-5', '1, 2', 'NaN', '']) expect((await at(depth)).status).toBe(508)
  })

  test('counts as a subrequest', async () => {
    const egress = await startEgress({
      hasAgent: true,
      rules: { limits: { shop: { subrequests: 0, egress: 'public' } } },
    })
    cleanups.push(() => egress.close())
    await egress.proxy.handle({ type: 'assign', id: 'i1', functionName: 'shop', services: ['stock'] })
    const answer = await send(egress.socketPath, 'http://any.host/', { headers: TO_STOCK })
    expect(errorOf(answer).code).toBe('subrequest_limit_exceeded')
  })

  test('without a router is answered with what is the matter', async () => {
    const egress = await startEgress()
    cleanups.push(() => egress.close())
    await egress.proxy.handle({ type: 'assign', id: 'i1', functionName: 'shop', services: ['stock'] })
    const answer = await send(egress.socketPath, 'http://any.host/', { headers: TO_STOCK })
    expect([answer.status, errorOf(answer).code]).toEqual([503, 'node_unreachable'])
    expect(errorOf(answer).message).toContain('"stock"')
    const upgrade = await send(egress.socketPath, 'http://any.host/', {
      headers: { ...TO_STOCK, connection: 'Upgrade', upgrade: 'websocket' },
    })
    expect(errorOf(upgrade).code).toBe('node_unreachable')
  })

  test('takes no TCP connections', async () => {
    const { egress } = await open()
    const answer = await new Promise<number>((resolve, reject) => {
      const outgoing = request({
        socketPath: egress.socketPath,
        method: 'CONNECT',
        path: 'any.host:80',
        headers: TO_STOCK,
      })
      outgoing.on('connect', (response, socket) => {
        socket.destroy()
        resolve(response.statusCode!)
      })
      outgoing.on('error', reject)
      outgoing.end()
    })
    expect(answer).toBe(403)
  })

  test('streams both ways, and ends at the callee when the caller goes', async () => {
    const { egress, server } = await open()
    server.removeAllListeners('request')
    const gone = new Promise<void>((resolve) => {
      server.on('request', (incoming: IncomingMessage, response) => {
        response.writeHead(200)
        incoming.on('data', (chunk: Buffer) => response.write(`<${chunk.toString()}>`))
        incoming.on('error', () => undefined)
        response.on('close', resolve)
      })
    })
    const outgoing = request({
      socketPath: egress.socketPath,
      path: 'http://any.host/',
      method: 'POST',
      headers: TO_STOCK,
    })
    outgoing.on('error', () => undefined)
    outgoing.write('one')
    const [answer] = (await once(outgoing, 'response')) as [IncomingMessage]
    answer.on('error', () => undefined)
    expect(String(((await once(answer, 'data')) as [Buffer])[0])).toBe('<one>')
    outgoing.write('two')
    expect(String(((await once(answer, 'data')) as [Buffer])[0])).toBe('<two>')
    outgoing.destroy()
    await gone
  })
})
