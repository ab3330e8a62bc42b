import { createServer } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import type { EgressLimit } from '../../sdk/model/function-limits.ts'
import { errorOf, listenLocally, LOOPBACK_RULES, send, sendRaw, startEgress } from '../harness/egress.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

/** Function "shop" with that egress limit, and a server at every name and address it can reach. */
async function start(egressLimit: EgressLimit, rules: Partial<typeof LOOPBACK_RULES> = {}) {
  const server = createServer((request, response) => response.end(request.headers.host))
  server.on('upgrade', (_request, socket) => socket.end('HTTP/1.1 101 Switching Protocols\r\n\r\n'))
  const port = await listenLocally(server)
  const egress = await startEgress({
    rules: { limits: { shop: { subrequests: 1_000, egress: egressLimit } }, ...rules },
  })
  cleanups.push(async () => {
    await egress.close()
    server.closeAllConnections()
    server.close()
  })
  const statusOf = async (host: string): Promise<number> =>
    (await send(egress.socketPath, `http://${host}:${port}/`)).status
  return { ...egress, port, statusOf }
}

describe('egress "none"', () => {
  test('refuses every host by name, says why and how to change it, and asks no DNS', async () => {
    const { socketPath, sent, port, proxy, directory } = await start('none')
    const answer = await send(socketPath, `http://api.example:${port}/`)
    const message =
      `connection to api.example:${port} refused: the egress limit of function "shop" is "none", so it may reach no host: ` +
      'if it should, change that with: isola limits shop --egress public (or a list of hosts)'
    expect([answer.status, answer.headers['x-isola-error']]).toEqual([403, 'egress_refused'])
    expect(errorOf(answer)).toMatchObject({ code: 'egress_refused', message })
    expect(sent).toContainEqual({ type: 'log', lines: [{ id: 'i1', functionName: 'shop', message }] })

    const other = `${directory}/other.sock`
    await proxy.handle({ type: 'listen', id: 'i2', socketPath: other, uid: process.getuid?.() ?? 0 })
    await proxy.handle({ type: 'assign', id: 'i2', functionName: 'other' })
    expect((await send(other, `http://api.example:${port}/`)).status).toBe(200)
  })

  test('holds for WebSockets and TCP connections as well', async () => {
    const { socketPath, port } = await start('none')
    const upgrade = `GET http://api.example:${port}/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`
    for (const head of [upgrade, `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`]) {
      expect(await sendRaw(socketPath, head)).toMatch(/^HTTP\/1\.1 403 [^]*"egress_refused"/)
    }
  })

  test('leaves the origins of the function’s routes, which the operator named, but only for HTTP', async () => {
    const server = createServer((_request, response) => response.end('origin'))
    const port = await listenLocally(server)
    cleanups.push(() => server.close())
    const origins = { shop: [{ pattern: 'site.example/*', origin: `http://127.0.0.1:${port}` }] }
    const { socketPath } = await start('none', { allowedCidrs: [], origins })
    expect((await send(socketPath, 'https://site.example/page')).body.toString()).toBe('origin')
    expect((await send(socketPath, `http://127.0.0.1:${port}/`)).status).toBe(403)
    expect(await sendRaw(socketPath, 'CONNECT site.example:80 HTTP/1.1\r\n\r\n')).toMatch(/^HTTP\/1\.1 403 /)
  })
})

describe('a list of hosts', () => {
  const hosts = ['api.example', '*.wild.example', '127.0.0.1', '*.0.0.3']

  test.each([
    ['api.example', 200],
    ['API.Example', 200],
    ['api.example.', 200],
    ['a.wild.example', 200],
    ['a.b.wild.example', 200],
    ['127.0.0.1', 200],
    ['2130706433', 200],
    ['[::ffff:7f00:1]', 200],
    ['127.0.0.2', 403],
    ['wild.example', 403],
    ['xwild.example', 403],
    ['x.api.example', 403],
    ['api.example.other', 403],
    ['127.0.0.3', 403],
    ['localhost', 403],
  ])('lets %s get %d', async (host, status) => {
    const { statusOf } = await start(hosts)
    expect(await statusOf(host)).toBe(status)
  })

  test('knows an address in whatever way it was written in the list', async () => {
    const { socketPath } = await start(['[::FFFF:10.0.0.9]', '0x7f.1', '::1'])
    // Passed by the list, and then judged as the addresses they are.
    for (const [host, why] of [
      ['10.0.0.9', 'a private address'],
      ['[::1]', 'a loopback address'],
    ] as const) {
      const answer = await send(socketPath, `http://${host}/`)
      expect(errorOf(answer).message).toContain(`it is ${why}`)
    }
    expect(errorOf(await send(socketPath, 'http://127.0.0.1:1/')).message).toContain('ECONNREFUSED')
  })

  test('refuses by name with the hosts there are', async () => {
    const { socketPath } = await start([
      'a.example',
      'b.example',
      'c.example',
      'd.example',
      'e.example',
      'f.example',
    ])
    const answer = await send(socketPath, 'https://other.example/')
    expect(errorOf(answer)).toMatchObject({
      code: 'egress_refused',
      message:
        'connection to other.example:443 refused: "other.example" is not among the hosts that function "shop" may reach ' +
        '(a.example, b.example, c.example, d.example, e.example and 1 more): ' +
        'if it should be, name it too with: isola limits shop --egress HOST,…',
    })
  })

  test('opens no private address behind a name it allows', async () => {
    const { statusOf } = await start(['api.example'], { allowedCidrs: [] })
    expect(await statusOf('api.example')).toBe(403)
  })

  test('holds for TCP connections', async () => {
    const server = createTcpServer((socket) => socket.end('hello'))
    const port = await listenLocally(server)
    cleanups.push(() => server.close())
    const { socketPath } = await start(['api.example'])
    expect(await sendRaw(socketPath, `CONNECT api.example:${port} HTTP/1.1\r\n\r\n`)).toMatch(/hello$/)
    expect(await sendRaw(socketPath, `CONNECT other.example:${port} HTTP/1.1\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 403 /,
    )
  })

  test('that changes is in force for the next request, also where the connection was kept', async () => {
    const { proxy, statusOf } = await start(['api.example'])
    expect(await statusOf('api.example')).toBe(200)
    const limits = { shop: { subrequests: 1_000, egress: ['other.example'] } }
    await proxy.handle({ type: 'rules', rules: { ...LOOPBACK_RULES, limits } })
    expect([await statusOf('api.example'), await statusOf('other.example')]).toEqual([403, 200])
  })
})
