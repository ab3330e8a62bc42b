import { readdirSync, readlinkSync } from 'node:fs'
import { request, type IncomingHttpHeaders } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ASSET_LIMITS } from '../../sdk/model/limits.ts'
import type { SnapshotFunction } from '../../sdk/model/snapshot.ts'
import { AssetPlace, sha256Of } from '../harness/asset-place.ts'
import { startHttpInstance, type HttpInstance } from '../harness/fake-instance.ts'
import { hello, startTestRouter, type RawResponse, type TestRouter } from '../harness/router-process.ts'
import { aFunction } from '../harness/snapshots.ts'

const LARGE = Buffer.alloc(ASSET_LIMITS.cachedFileBytesMax * 6 + 7, 'isola is an island ')
const FILES = {
  '/index.html': '<h1>home</h1>',
  '/app.js': 'export {}',
  '/404.html': 'nothing here',
  '/large.bin': LARGE,
}
const ID = { site: 'a'.repeat(32), both: 'b'.repeat(32), old: 'c'.repeat(32), next: 'd'.repeat(32) }

let router: TestRouter
let place: AssetPlace
let instance: HttpInstance

const site: SnapshotFunction = aFunction('site', {
  shares: [{ versionId: ID.site, percent: 100 }],
  baseDomainHost: true,
  assetVersionIds: [ID.site],
})
const both: SnapshotFunction = aFunction('both', {
  shares: [{ versionId: ID.both, percent: 100 }],
  baseDomainHost: true,
  previewVersionIds: [ID.old, ID.both],
  assetVersionIds: [ID.both, ID.old],
})

beforeAll(async () => {
  router = await startTestRouter({ limits: { socketIdleTimeoutMs: 60_000 } })
  place = new AssetPlace(join(router.directory, 'assets'))
  const config = { notFoundHandling: '404-page', headers: '/*\n  X-Site: yes\n/app.js\n  ! etag' } as const
  place.put(ID.site, { files: FILES, config })
  place.put(ID.both, { files: { ...FILES, '/index.html': 'new' }, hasCode: true })
  place.put(ID.old, { files: { '/index.html': 'old' }, hasCode: true })
  instance = await startHttpInstance(router.socketPath('one'), (asked, response) => {
    response.end(`code: ${asked.method} ${asked.url}`)
  })
  await router.apply([site, both])
  router.up('one', { functionName: 'both', versionId: ID.both })
})

function linkOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

afterAll(async () => {
  await router.stop()
  await instance.stop()
})

const get = (host: string, target: string, more = '', method = 'GET'): Promise<RawResponse> =>
  router.ask(`${method} ${target} HTTP/1.1\r\nHost: ${host}.localhost:${router.port}\r\n${more}\r\n`)

const codeOf = ({ body }: RawResponse): string =>
  (JSON.parse(body.toString()) as { error: { code: string } }).error.code

describe('a function of static files only', () => {
  test('serves a file with type, strong tag, caching and its version, and no instance is asked for', async () => {
    const before = router.agent.messages.filter(({ type }) => type === 'need').length
    const { status, headers, body } = await get('site', '/')
    expect([status, body.toString()]).toEqual([200, FILES['/index.html']])
    expect(headers).toMatchObject({
      etag: `"${sha256Of(FILES['/index.html']).slice(0, 32)}"`,
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'public, max-age=0, must-revalidate',
      'content-length': String(FILES['/index.html'].length),
      'x-isola-version': ID.site,
      'x-site': 'yes',
    })
    expect(headers['x-request-id']).toBeTruthy()
    expect(router.agent.messages.filter(({ type }) => type === 'need')).toHaveLength(before)
  })

  test('answers HEAD with the head of GET alone', async () => {
    const head = await get('site', '/large.bin', '', 'HEAD')
    expect([head.status, head.headers['content-length']]).toEqual([200, String(LARGE.length)])
  })

  test('says 304 to who has it, without type and length of a body, and keeps the connection', async () => {
    const client = await router.open()
    const ask = `GET / HTTP/1.1\r\nHost: site.localhost\r\n`
    client.send(`${ask}\r\n`)
    const { headers } = await client.response()
    client.send(`${ask}If-None-Match: W/${headers['etag']}\r\n\r\n`)
    const again = await client.response()
    expect([again.status, again.headers['etag'], again.headers['content-type']]).toEqual([
      304,
      headers['etag'],
      undefined,
    ])
    client.send(`${ask}\r\n`)
    expect((await client.response()).status).toBe(200)
    client.socket.destroy()
  })

  test('serves ranges of small and large files, and 416 beyond their end', async () => {
    const small = await get('site', '/', 'Range: bytes=1-2\r\n')
    expect([small.status, small.body.toString(), small.headers['content-range']]).toEqual([
      206,
      'h1',
      'bytes 1-2/13',
    ])
    const from = LARGE.length - 100_000
    const large = await get('site', '/large.bin', `Range: bytes=${from}-\r\n`)
    expect(large.status).toBe(206)
    expect(large.body.equals(LARGE.subarray(from))).toBe(true)
    const beyond = await get('site', '/large.bin', `Range: bytes=${LARGE.length}-\r\n`)
    expect([beyond.status, beyond.headers['content-range']]).toEqual([416, `bytes */${LARGE.length}`])
  })

  test('what is not there is the 404 page with its status, never 304 and never a part', async () => {
    const { status, body, headers } = await get('site', '/nowhere', 'Range: bytes=0-1\r\n')
    expect([status, body.toString()]).toEqual([404, 'nothing here'])
    expect((await get('site', '/nowhere', `If-None-Match: ${headers['etag']}\r\n`)).status).toBe(404)
  })

  test('other methods are refused with those that are served', async () => {
    const response = await router.ask(
      'POST / HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: 3\r\n\r\n',
      'abc',
    )
    expect([response.status, response.headers['allow']]).toEqual([405, 'GET, HEAD'])
  })

  test('answers with credentials are not for shared caches, and rules for headers apply', async () => {
    expect((await get('site', '/', 'Authorization: Basic eDp5\r\n')).headers['cache-control']).toBeUndefined()
    expect((await get('site', '/app.js')).headers['etag']).toBeUndefined()
  })

  test('no spelling of a path reaches a file outside of the manifest', async () => {
    for (const target of [
      '/../sites/x',
      '/..%2f..%2fcontrol.sock',
      '/%2e%2e/%2e%2e/etc/passwd',
      `/../files/${sha256Of('x')}`,
    ])
      expect((await get('site', target)).body.toString(), target).toMatch(/^(?:nothing here)?$/)
  })

  test('counts as a request, in the log and in the numbers, without an instance', async () => {
    await get('site', '/app.js?secret=1')
    const { lines } = await router.agent.heard('log', ({ lines }) =>
      lines.some(({ request }) => request !== undefined && 'path' in request && request.path === '/app.js'),
    )
    const line = lines.find(({ message }) => message.includes('/app.js'))
    expect(line).toMatchObject({
      functionName: 'site',
      versionId: ID.site,
      level: 'info',
      request: { status: 200, queueMs: 0 },
    })
    expect(line?.instanceId).toBeUndefined()
    const { metrics } = await router.agent.heard('metrics', ({ metrics }) =>
      metrics.versions.some(({ versionId }) => versionId === ID.site),
    )
    const own = metrics.versions.find(({ versionId }) => versionId === ID.site)!
    expect(own.requests.some(({ status, count }) => status === 200 && count > 0)).toBe(true)
    expect([own.function.sumS, own.queue.sumS, own.coldStarts]).toEqual([0, 0, 0])
  })
})

describe('a function of files and code', () => {
  test('files answer where there are some, the code where there are none', async () => {
    expect((await get('both', '/')).body.toString()).toBe('new')
    expect((await get('both', '/api')).body.toString()).toBe('code: GET /api')
    expect((await get('both', '/api', '', 'POST')).body.toString()).toBe('code: POST /api')
  })

  test('each preview host has the files of its version', async () => {
    expect((await get(`${ID.old.slice(0, 8)}-both`, '/')).body.toString()).toBe('old')
    expect((await get(`${ID.both.slice(0, 8)}-both`, '/')).body.toString()).toBe('new')
  })

  test('of versions that share traffic, the one that was chosen serves its own files', async () => {
    await using split = await startTestRouter()
    const files = new AssetPlace(join(split.directory, 'assets'))
    for (const id of [ID.old, ID.next]) files.put(id, { files: { '/index.html': id } })
    const shares = [ID.old, ID.next].map((versionId) => ({ versionId, percent: 50 }))
    await split.apply([
      aFunction('split', { shares, baseDomainHost: true, assetVersionIds: [ID.old, ID.next] }),
    ])
    const seen = new Set<string>()
    for (let turn = 0; turn < 200 && seen.size < 2; turn++) {
      const { headers, body } = await split.ask('GET / HTTP/1.1\r\nHost: split.localhost\r\n\r\n')
      expect(body.toString()).toBe(headers['x-isola-version'])
      seen.add(body.toString())
    }
    expect(seen.size).toBe(2)
    const sticky = new Set<string>()
    for (let turn = 0; turn < 10; turn++) {
      const { body } = await split.ask(
        'GET / HTTP/1.1\r\nHost: split.localhost\r\nX-Isola-Version-Key: me\r\n\r\n',
      )
      sticky.add(body.toString())
    }
    expect(sticky.size).toBe(1)
  })
})

describe('bounds', () => {
  test('the rate of the function holds for its files, too', async () => {
    await using bounded = await startTestRouter()
    new AssetPlace(join(bounded.directory, 'assets')).put(ID.site, { files: FILES })
    const limited = { ...hello({ ratePerS: 0.001, burst: 2 }), assetVersionIds: [ID.site] }
    await bounded.apply([{ ...limited, shares: [{ versionId: ID.site, percent: 100 }] }])
    const statuses = []
    for (let turn = 0; turn < 3; turn++)
      statuses.push((await bounded.ask('GET / HTTP/1.1\r\nHost: hello.localhost\r\n\r\n')).status)
    expect(statuses).toEqual([200, 200, 429])
  })

  test('a client that reads slowly gets all of a large file, and the router holds little of it meanwhile', async () => {
    const client = await router.open()
    client.socket.pause()
    client.send('GET /large.bin HTTP/1.1\r\nHost: site.localhost\r\n\r\n')
    await get('site', '/')
    client.socket.resume()
    const { status, body } = await client.response()
    expect(status).toBe(200)
    expect(body.equals(LARGE)).toBe(true)
    client.socket.destroy()
  })

  test('whole files on their way to slow clients are bounded in memory; beyond it files come in pieces, and are whole', async () => {
    await using slow = await startTestRouter({ limits: { socketIdleTimeoutMs: 60_000 } })
    const body = Buffer.alloc(ASSET_LIMITS.cachedFileBytesMax, 'slowly ')
    new AssetPlace(join(slow.directory, 'assets')).put(ID.site, { files: { '/f': body } })
    await slow.apply([site])
    const ask = 'GET /f HTTP/1.1\r\nHost: site.localhost\r\n\r\n'
    // It is in memory from here on.
    await slow.ask(ask)
    const isOpen = (): boolean =>
      readdirSync(`/proc/${slow.pid}/fd`).some((fd) =>
        linkOf(`/proc/${slow.pid}/fd/${fd}`).includes('/assets/files/'),
      )
    const count = ASSET_LIMITS.heldBytesMax / body.length + 1
    const clients = await Promise.all(Array.from({ length: count }, () => slow.open()))
    expect(isOpen()).toBe(false)
    for (const client of clients) {
      // Many requests on one connection: the sockets' own buffers take the first few.
      client.socket.pause()
      client.send(ask.repeat(10))
    }
    await expect.poll(isOpen, { timeout: 10_000 }).toBe(true)
    const last = clients.at(-1)!
    for (const client of clients.slice(0, -1)) client.socket.destroy()
    last.socket.resume()
    for (let turn = 0; turn < 10; turn++) expect((await last.response()).body.equals(body)).toBe(true)
    last.socket.destroy()
    await expect.poll(isOpen).toBe(false)
  })

  test('a client that leaves in the middle of a large file leaves no open file behind', async () => {
    const openFiles = (): number => readdirSync(`/proc/${router.pid}/fd`).length
    await get('site', '/large.bin')
    const before = openFiles()
    const clients = await Promise.all(Array.from({ length: 8 }, () => router.open()))
    for (const client of clients) {
      client.socket.pause()
      client.send('GET /large.bin HTTP/1.1\r\nHost: site.localhost\r\n\r\n')
    }
    await expect.poll(openFiles).toBeGreaterThanOrEqual(before + 16)
    for (const client of clients) client.socket.destroy()
    await expect.poll(openFiles).toBeLessThanOrEqual(before)
  })
})

describe('a node that does not have a file', () => {
  const LOST = { '/index.html': 'lost', '/cut.bin': Buffer.alloc(ASSET_LIMITS.cachedFileBytesMax + 1, 'x') }

  test('refuses it by name, whether it is gone, cut or filled with something else, and serves it once it is back', async () => {
    await using broken = await startTestRouter()
    const files = new AssetPlace(join(broken.directory, 'assets'))
    files.put(ID.site, { files: LOST })
    await broken.apply([site])
    const ask = (path: string): Promise<RawResponse> =>
      broken.ask(`GET ${path} HTTP/1.1\r\nHost: site.localhost\r\n\r\n`)
    for (const instead of [undefined, '', 'els!']) {
      files.damage(LOST['/index.html'], instead)
      const response = await ask('/')
      expect([response.status, codeOf(response)]).toEqual([503, 'asset_unavailable'])
      expect(response.body.toString()).toContain('site')
    }
    files.damage(LOST['/cut.bin'], 'short')
    expect(codeOf(await ask('/cut.bin'))).toBe('asset_unavailable')
    files.put(ID.site, { files: LOST })
    expect((await ask('/')).body.toString()).toBe('lost')
    expect((await ask('/cut.bin')).body.length).toBe(LOST['/cut.bin'].length)
  })

  test('refuses a version whose files it does not know, and finds them when they come', async () => {
    await using early = await startTestRouter()
    await early.apply([site])
    const ask = (): Promise<RawResponse> => early.ask('GET / HTTP/1.1\r\nHost: site.localhost\r\n\r\n')
    expect(codeOf(await ask())).toBe('asset_unavailable')
    new AssetPlace(join(early.directory, 'assets')).put(ID.site, { files: LOST })
    expect((await ask()).body.toString()).toBe('lost')
  })
})

describe('what a function asks for itself', () => {
  interface Answer {
    readonly status: number
    readonly headers: IncomingHttpHeaders
    readonly body: string
  }

  const inside = (path: string, headers: Record<string, string>): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const socketPath = join(router.directory, 'invoke.sock')
      const asked = request(
        { socketPath, path, headers: { host: 'any.example', ...headers }, agent: false },
        (answer) => {
          let body = ''
          answer.on('data', (chunk: Buffer) => (body += chunk.toString()))
          answer.on('end', () => resolve({ status: answer.statusCode!, headers: answer.headers, body }))
        },
      )
      asked.on('error', reject)
      asked.end()
    })

  test('are its own files, never its code, whatever its rate; and no other function’s', async () => {
    const own = { 'isola-function': 'both', 'isola-assets-of': ID.both }
    expect((await inside('/', own)).body).toBe('new')
    expect((await inside('/api', own)).status).toBe(404)
    const foreign = await inside('/', { 'isola-function': 'both', 'isola-assets-of': ID.site })
    expect([foreign.status, foreign.headers['isola-error']]).toEqual([503, 'asset_unavailable'])
  })

  test('a call of a named entrypoint is the code’s, and of the default one as any other request; a client names none', async () => {
    const call = { 'isola-function': 'both' }
    expect((await inside('/', call)).body).toBe('new')
    expect((await inside('/', { ...call, 'isola-entrypoint': 'Admin' })).body).toBe('code: GET /')
    expect((await get('both', '/', 'isola-entrypoint: Admin\r\n')).body.toString()).toBe('new')
  })

  test('a client cannot ask in its name', async () => {
    const response = await get('both', '/api', `isola-assets-of: ${ID.site}\r\n`)
    expect(response.body.toString()).toBe('code: GET /api')
  })
})
