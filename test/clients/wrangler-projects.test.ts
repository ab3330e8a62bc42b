/** Real projects, deployed by the real wrangler to a whole node, and what then answers. */
import { randomUUID } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { startWorkNode, type WorkNode } from '../harness/work-node.ts'
import { openProject } from '../harness/wrangler.ts'
import { wranglerTest } from '../harness/wrangler-test.ts'

let node: WorkNode
beforeAll(async () => {
  node = await startWorkNode()
})
afterAll(async () => {
  expect(await node.stop()).toEqual({ exitCode: 0, leftBehind: [] })
})

const text = async (name: string, path = '/'): Promise<string> => (await node.get(name, path)).text

describe('wrangler deploy', () => {
  wranglerTest('puts a Hono API into service, and again with what was changed', async () => {
    await using project = await openProject(node, 'hono')
    const first = await project.run(['deploy'])
    expect(first).toMatch(/Current Version ID: [0-9a-f]{8}-[0-9a-f]{4}-/)
    expect(await text('hono-api')).toBe('hello from hono')
    expect(JSON.parse(await text('hono-api', '/users/7'))).toEqual({ id: '7', settings: { colors: ['red'] } })
    const echo = { method: 'POST', body: '{"a":1}', headers: { 'content-type': 'application/json' } }
    const echoed = await node.fetch('hono-api.localhost', '/echo', echo)
    expect([echoed.status, echoed.json()]).toEqual([201, { a: 1 }])
    expect(await node.get('hono-api', '/none')).toMatchObject({ status: 404, text: 'no such page' })

    await project.edit('wrangler.jsonc', '"GREETING": "hello"', '"GREETING": "good day"')
    const second = await project.run(['deploy', '--message', 'says it otherwise', '--tag', 'v2'])
    expect(await text('hono-api')).toBe('good day from hono')
    const [, id] = /Current Version ID: (\S+)/.exec(second) ?? []
    expect(JSON.parse(await text('hono-api', '/version'))).toMatchObject({ id, tag: 'v2' })
    const shown = await project.run(['versions', 'view', id ?? ''])
    expect(shown).toContain('says it otherwise')
    expect(shown).toContain('env.GREETING ("good day")')
  })

  wranglerTest('serves a single-page app that Vite built, and only its API reaches the Worker', async () => {
    await using project = await openProject(node, 'spa')
    await project.tool(['vite', 'build'])
    const script = readdirSync(join(project.directory, 'dist/assets')).find((name) => name.endsWith('.js'))
    const said = await project.run(['deploy'])
    expect(said).toMatch(/Uploaded \d of \d assets/)

    const page = await node.fetch('spa.localhost', '/')
    expect(page.status).toBe(200)
    expect(page.headers['content-type']).toMatch(/^text\/html/)
    expect(page.text()).toContain(`/assets/${script}`)
    const program = await node.fetch('spa.localhost', `/assets/${script}`)
    expect(program.headers['content-type']).toMatch(/^text\/javascript/)
    expect(program.text()).toContain('times on isola')
    const revisited = { headers: { 'if-none-match': String(page.headers.etag) } }
    expect((await node.fetch('spa.localhost', '/', revisited)).status).toBe(304)
    const deep = await node.fetch('spa.localhost', '/deep/link', {
      headers: { 'sec-fetch-mode': 'navigate' },
    })
    expect([deep.status, deep.text()]).toEqual([200, page.text()])
    expect(await text('spa', '/api/things')).toBe('{"path":"/api/things"}')
    expect(await text('spa', '/api/page')).toBe('the page has its root')
    expect(await project.run(['deploy'])).toContain('No updated asset files to upload')
  })

  wranglerTest('serves a site of files alone by its _headers and _redirects', async () => {
    await using project = await openProject(node, 'site')
    await project.run(['deploy'])
    const get = (path: string, headers = {}) => node.fetch('site.localhost', path, { headers })
    const home = await get('/')
    expect([home.status, home.text(), home.headers['x-site']]).toEqual([200, '<h1>home</h1>\n', 'isola'])
    expect((await get('/about')).text()).toBe('<h1>about</h1>\n')
    expect(await get('/about.html')).toMatchObject({ status: 307, headers: { location: '/about' } })
    expect(await get('/docs')).toMatchObject({ status: 307, headers: { location: '/docs/' } })
    expect(await get('/old')).toMatchObject({ status: 301, headers: { location: '/about' } })
    expect(await get('/go/intro')).toMatchObject({ status: 302, headers: { location: '/docs/intro' } })
    expect(await get('/news/a/b')).toMatchObject({
      status: 302,
      headers: { location: 'https://news.example/a/b' },
    })
    const part = await get('/data/numbers.txt', { range: 'bytes=2-4' })
    expect([part.status, part.text(), part.headers['content-range']]).toEqual([206, '234', 'bytes 2-4/11'])
    expect(part.headers['cache-control']).toBe('public, max-age=60')
    expect(part.headers['x-site']).toBeUndefined()
    const missing = await get('/nothing/here')
    expect([missing.status, missing.text()]).toEqual([404, '<h1>not here</h1>\n'])
    expect((await get('/_headers')).status).toBe(404)
    expect(await node.instances('site')).toEqual([])
  })

  wranglerTest('binds one Worker to another, whose methods it calls', async () => {
    await using stock = await openProject(node, 'stock')
    await using shop = await openProject(node, 'shop')
    await stock.run(['deploy'])
    await shop.run(['deploy'])
    expect(await text('shop', '/add')).toBe('42')
    expect(await text('shop', '/shelf')).toBe('top has 5 of pears')
    expect(await text('shop', '/fail')).toBe('RangeError: out of stock')
    expect(await text('shop', '/fetch')).toBe('stock got PUT /item')

    await stock.edit('index.js', 'left + right', 'left * right')
    await stock.run(['deploy'])
    expect(await text('shop', '/add')).toBe('80')
  })

  wranglerTest('carries WebAssembly, text and data modules', async () => {
    await using project = await openProject(node, 'wasm')
    await project.run(['deploy'])
    expect(await text('wasm')).toBe('42 a note 1,2,3')
  })

  wranglerTest('carries a script of the service-worker format with its text and WebAssembly', async () => {
    await using project = await openProject(node, 'script')
    await project.run(['deploy'])
    expect(await text('script')).toBe('a script of earth: 23, a note')
    await project.edit('wrangler.toml', '"earth"', '"mars"')
    await project.run(['deploy'])
    expect(await text('script')).toBe('a script of mars: 23, a note')
  })

  wranglerTest('carries a rate limit, which counts for all instances', async () => {
    await using project = await openProject(node, 'hello')
    await project.edit(
      'wrangler.jsonc',
      '"hello",',
      '"limited", "ratelimits": [{ "name": "LIMIT", "namespace_id": "1001", "simple": { "limit": 2, "period": 60 } }],',
    )
    await project.write(
      'src/index.ts',
      `export default {
        async fetch(request, env) {
          const { success } = await env.LIMIT.limit({ key: new URL(request.url).pathname })
          return new Response(success ? 'yes' : 'no')
        },
      }`,
    )
    await project.run(['deploy'])
    const key = `/${randomUUID()}`
    const said = [await text('limited', key), await text('limited', key), await text('limited', key)]
    expect(said).toEqual(['yes', 'yes', 'no'])
    expect(await text('limited', `/${randomUUID()}`)).toBe('yes')
  })

  wranglerTest('of a dry run asks nothing of the node', async () => {
    await using project = await openProject({ controlUrl: 'http://127.0.0.1:1', token: 'none' }, 'hono')
    expect(await project.run(['deploy', '--dry-run', '--outdir', 'out'])).toContain('--dry-run: exiting now')
    expect(readdirSync(join(project.directory, 'out'))).toContain('index.js')
  })
})
