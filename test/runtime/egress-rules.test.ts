import { createServer, type RequestListener, type Server } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { errorOf, listenLocally, LOOPBACK_RULES, send, sendRaw, startEgress } from '../harness/egress.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

async function startServer(listener: RequestListener): Promise<{ port: number; server: Server }> {
  const server = createServer(listener)
  const port = await listenLocally(server)
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return { port, server }
}

async function start(options: Parameters<typeof startEgress>[0] = {}) {
  const egress = await startEgress(options)
  cleanups.push(() => egress.close())
  return egress
}

const echo: RequestListener = (request, response) => {
  const { method, url, rawHeaders } = request
  response.end(JSON.stringify({ method, url, rawHeaders }))
}

describe('a request that is refused', () => {
  test('tells the function and the log what was asked, what it resolved to, and the way out', async () => {
    const lookup = () => Promise.resolve([{ address: '10.1.2.3', family: 4 }])
    const egress = await start({ lookup })
    const answer = await send(egress.socketPath, 'http://db.example:5432/')
    const message =
      'connection to db.example:5432 refused: it resolves to 10.1.2.3, which is a private address: ' +
      'if functions may reach it, the operator can allow it with: isola up --allow-egress 10.1.2.3/32'
    expect(errorOf(answer)).toMatchObject({ code: 'egress_refused', message })
    expect(egress.sent).toContainEqual({ type: 'log', lines: [{ id: 'i1', functionName: 'shop', message }] })
  })

  test('fills no log: after the bound of a window refusals are only counted', async () => {
    const egress = await start({ rules: { allowedCidrs: [] }, limits: { logLinesPerWindowMax: 3 } })
    for (let round = 0; round < 10; round += 1) {
      expect((await send(egress.socketPath, 'http://127.0.0.1/')).status).toBe(403)
    }
    expect(egress.sent.filter(({ type }) => type === 'log')).toHaveLength(3)
  })

  test('of an instance that no function has claimed', async () => {
    const { port } = await startServer(echo)
    const egress = await start()
    const socketPath = `${egress.directory}/blank.sock`
    await egress.proxy.handle({ type: 'listen', id: 'blank', socketPath, uid: process.getuid?.() ?? 0 })
    const target = `http://127.0.0.1:${port}/`
    const answer = await send(socketPath, target)
    expect(errorOf(answer)).toEqual({
      code: 'egress_refused',
      message: expect.stringContaining('no function yet'),
    })
    await egress.proxy.handle({ type: 'assign', id: 'blank', functionName: 'other' })
    expect((await send(socketPath, target)).status).toBe(200)
  })

  test('beyond the requests an instance may have open, until one of them ends', async () => {
    const open: (() => void)[] = []
    let arrived: (() => void) | undefined
    const { port } = await startServer((request, response) => {
      if (request.url !== '/hold') return void response.end()
      open.push(() => response.end())
      if (open.length === 3) arrived?.()
      return undefined
    })
    const egress = await start({ limits: { requestsPerInstanceMax: 3 } })
    const target = `http://127.0.0.1:${port}`
    const all = new Promise<void>((resolve) => (arrived = resolve))
    const held = [1, 2, 3].map(() => send(egress.socketPath, `${target}/hold`))
    await all
    const answer = await send(egress.socketPath, `${target}/`)
    expect(errorOf(answer)).toMatchObject({ code: 'egress_refused' })
    expect(errorOf(answer).message).toContain('3 outgoing requests open')
    for (const release of open) release()
    await Promise.all(held)
    expect((await send(egress.socketPath, `${target}/`)).status).toBe(200)
  })

  test('cannot be had by a name that changes its address after it was checked', async () => {
    let requests = 0
    const { port } = await startServer((_request, response) => {
      requests += 1
      response.end()
    })
    let lookups = 0
    const lookup = () => {
      lookups += 1
      // Public for whoever checks, loopback for whoever asks again.
      return Promise.resolve([{ address: lookups === 1 ? '192.0.2.1' : '127.0.0.1', family: 4 }])
    }
    const egress = await start({
      lookup,
      limits: { connectTimeoutMs: 300 },
      rules: { allowedCidrs: ['192.0.2.1/32'] },
    })
    const answer = await send(egress.socketPath, `http://rebind.example:${port}/`)
    expect([answer.status === 200, lookups, requests]).toEqual([false, 1, 0])
    expect((await send(egress.socketPath, `http://rebind.example:${port}/`)).status).toBe(403)
    expect(requests).toBe(0)
  })

  test('connects only to the permitted addresses of a name that has both kinds', async () => {
    const { port } = await startServer(echo)
    const lookup = () =>
      Promise.resolve([
        { address: '::1', family: 6 },
        { address: '127.0.0.1', family: 4 },
      ])
    const egress = await start({ lookup })
    expect((await send(egress.socketPath, `http://both.example:${port}/`)).status).toBe(200)
  })
})

describe('rules', () => {
  test('an origin gets the requests of its route with their host and path, at any address', async () => {
    const { port } = await startServer(echo)
    const origin = `http://127.0.0.1:${port}`
    const origins = {
      shop: [
        { pattern: 'site.example/*', origin },
        { pattern: '*.wild.example/api/*', origin },
      ],
    }
    const egress = await start({ rules: { allowedCidrs: [], origins } })
    for (const url of [
      'http://site.example/a?b=c',
      'https://SITE.example./x',
      'http://site.example:81/',
      'https://a.b.wild.example/api/1',
    ]) {
      const { href, host, pathname, search } = new URL(url)
      const answer = await send(egress.socketPath, href)
      expect(answer.status).toBe(200)
      const seen = JSON.parse(answer.body.toString()) as { url: string; rawHeaders: string[] }
      expect(seen.url).toBe(pathname + search)
      expect(seen.rawHeaders.slice(0, 2)).toEqual(['Host', host])
    }
    for (const url of [
      `${origin}/`,
      'http://wild.example/api/',
      'http://a.wild.example/other',
      'http://xsite.example/',
    ]) {
      expect((await send(egress.socketPath, url)).status).toBe(403)
    }
  })

  test('an origin is its function’s alone', async () => {
    const { port } = await startServer(echo)
    const origins = { other: [{ pattern: 'site.example', origin: `http://127.0.0.1:${port}` }] }
    const egress = await start({ rules: { allowedCidrs: [], origins } })
    expect((await send(egress.socketPath, 'http://site.example/')).status).toBe(403)
    await egress.proxy.handle({ type: 'assign', id: 'i1', functionName: 'other' })
    expect((await send(egress.socketPath, 'http://site.example/')).status).toBe(200)
  })

  test('the longest pattern wins', async () => {
    const servers = await Promise.all(
      ['host', 'prefix', 'exact', 'wild'].map((name) =>
        startServer((_request, response) => void response.end(name)),
      ),
    )
    const [host, prefix, exact, wild] = servers.map(({ port }) => `http://127.0.0.1:${port}`)
    const origins = {
      shop: [
        { pattern: '*.example/*', origin: wild as string },
        { pattern: 'site.example/*', origin: host as string },
        { pattern: 'site.example/a/*', origin: prefix as string },
        { pattern: 'site.example/a/b', origin: exact as string },
      ],
    }
    const egress = await start({ rules: { origins } })
    const reached = async (url: string) => (await send(egress.socketPath, url)).body.toString()
    expect(await reached('http://site.example/')).toBe('host')
    expect(await reached('http://site.example/a/c')).toBe('prefix')
    expect(await reached('http://site.example/a/b?q')).toBe('exact')
    expect(await reached('http://x.example/')).toBe('wild')
  })

  test('that close a block are in force for the next request, kept connections or not', async () => {
    const { port } = await startServer(echo)
    const egress = await start()
    const target = `http://127.0.0.1:${port}/`
    expect((await send(egress.socketPath, target)).status).toBe(200)
    await egress.proxy.handle({ type: 'rules', rules: { ...LOOPBACK_RULES, allowedCidrs: [] } })
    expect((await send(egress.socketPath, target)).status).toBe(403)
  })

  test('that cannot be read open nothing and are told', async () => {
    const origins = { shop: [{ pattern: 'site.example', origin: 'ftp://127.0.0.1' }] }
    const egress = await start({ rules: { allowedCidrs: ['127.0.0.1/99', '127.0.0.2/32'], origins } })
    expect(egress.problems).toEqual([
      expect.stringContaining('"127.0.0.1/99" is not a block of addresses'),
      expect.stringContaining('origin "ftp://127.0.0.1" is not usable'),
    ])
    expect((await send(egress.socketPath, 'http://127.0.0.1/')).status).toBe(403)
  })
})

describe('what is not a proxy request', () => {
  test.each([
    ['GET / HTTP/1.1\r\n\r\n', 400],
    ['GET ftp://host/ HTTP/1.1\r\n\r\n', 400],
    ['GET http:///path HTTP/1.1\r\n\r\n', 400],
    ['GET http://ho st/ HTTP/1.1\r\n\r\n', 400],
    ['GET http://127.0.0.1:99999/ HTTP/1.1\r\n\r\n', 400],
    ['OPTIONS * HTTP/1.1\r\n\r\n', 400],
    ['CONNECT 127.0.0.1 HTTP/1.1\r\n\r\n', 400],
    ['CONNECT 127.0.0.1:0 HTTP/1.1\r\n\r\n', 400],
    ['CONNECT a@127.0.0.1:80 HTTP/1.1\r\n\r\n', 400],
    ['CONNECT http://127.0.0.1:80 HTTP/1.1\r\n\r\n', 400],
    ['GET http://127.0.0.1/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n', 400],
    [
      'POST http://127.0.0.1/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc',
      400,
    ],
    [
      'POST http://127.0.0.1/ HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      400,
    ],
    ['POST http://127.0.0.1/ HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc', 400],
    ['GET http://127.0.0.1/ HTTP/1.1\r\nA B: c\r\n\r\n', 400],
    [`GET http://127.0.0.1/ HTTP/1.1\r\nA: ${'b'.repeat(70_000)}\r\n\r\n`, 431],
    ['\x16\x03\x01\x02\x00', 400],
  ])('%j is answered %d', async (bytes, status) => {
    const egress = await start({ rules: { allowedCidrs: [] } })
    const closing = bytes.replace('HTTP/1.1\r\n', 'HTTP/1.1\r\nConnection: close\r\n')
    const text = await sendRaw(egress.socketPath, bytes.includes('Upgrade') ? bytes : closing)
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
  })
})
