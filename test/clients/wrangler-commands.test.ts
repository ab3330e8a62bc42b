/** What else people run: who am I, triggers, delete, dispatch namespaces; each against a whole node. */
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { startWorkNode, type WorkNode } from '../harness/work-node.ts'
import { openProject } from '../harness/wrangler.ts'
import { wranglerTest } from '../harness/wrangler-test.ts'

let node: WorkNode
/** A namespace is made once. */
let attempts = 0
beforeAll(async () => {
  node = await startWorkNode()
})
afterAll(async () => {
  expect(await node.stop()).toEqual({ exitCode: 0, leftBehind: [] })
})

describe('wrangler', () => {
  wranglerTest('takes its environment from the .env file that isola wrote', async () => {
    await using project = await openProject(node, 'hello')
    const { stdout } = await node.isola('wrangler-env', '--dotenv')
    await project.write('.env', stdout)
    const env = {
      CLOUDFLARE_API_BASE_URL: undefined,
      CLOUDFLARE_API_TOKEN: undefined,
      CLOUDFLARE_ACCOUNT_ID: undefined,
    }
    expect(await project.run(['whoami'], { env })).toMatch(/isola/)
    await project.run(['deploy'], { env })
    expect((await node.get('hello')).text).toBe('hello 1')
  })

  wranglerTest('deploys an environment as a Worker of its own, and tails it by its route', async () => {
    await using project = await openProject(node, 'faulty')
    await project.edit(
      'wrangler.jsonc',
      '"faulty",',
      '"faulty", "env": { "staging": { "routes": ["staging.example/*"] } },',
    )
    await project.run(['deploy', '--env', 'staging'])
    expect((await node.fetch('staging.example')).text()).toBe('fine')
    expect((await node.get('faulty')).code).toBe('route_not_found')
    expect((await node.get('faulty-staging')).code).toBe('route_not_found')
    const tail = project.start(['tail', 'staging.example/*', '--env', 'staging', '--format', 'pretty'])
    await tail.until((output) => output.includes('waiting for logs'))
    await node.fetch('staging.example', '/seen')
    await tail.until((output) => /staging\.example\S*\/seen - Ok/.test(output))
    await tail.end('SIGINT')
  })

  wranglerTest('moves a Worker between hosts with triggers deploy, without a new version', async () => {
    await using project = await openProject(node, 'hello')
    await project.edit('wrangler.jsonc', '"hello"', '"mover"')
    await project.run(['deploy'])
    const before = await project.run(['deployments', 'status'])
    await project.edit(
      'wrangler.jsonc',
      '"mover",',
      '"mover", "workers_dev": false, "routes": ["shop.example/api/*", { "pattern": "own.example", "custom_domain": true }],',
    )
    await project.run(['triggers', 'deploy'])
    expect((await node.fetch('shop.example', '/api/x')).text()).toBe('hello 1')
    expect((await node.fetch('shop.example', '/')).status).toBe(404)
    expect((await node.fetch('own.example', '/')).text()).toBe('hello 1')
    expect((await node.get('mover')).status).toBe(404)
    expect(await project.run(['deployments', 'status'])).toBe(before)
  })

  wranglerTest('deletes a Worker, and says that there is none the second time', async () => {
    await using project = await openProject(node, 'hello')
    await project.edit('wrangler.jsonc', '"hello"', '"gone-soon"')
    await project.run(['deploy'])
    expect((await node.get('gone-soon')).text).toBe('hello 1')
    expect(await project.run(['delete', '--force'])).toContain('Successfully deleted')
    expect((await node.get('gone-soon')).code).toBe('route_not_found')
    const again = await project.wrangler(['delete', '--force'])
    expect(again.code).toBe(1)
    expect(again.stderr).toMatch(/10007|10090/)
  })

  wranglerTest('fills a dispatch namespace, whose scripts a dispatcher calls by name', async () => {
    const namespace = `tenants-${(attempts += 1)}`
    await using tenant = await openProject(node, 'hello')
    await using dispatcher = await openProject(node)
    await tenant.edit('wrangler.jsonc', '"hello"', '"tenant-a"')
    await tenant.run(['dispatch-namespace', 'create', namespace])
    expect(await tenant.run(['dispatch-namespace', 'list'])).toContain(namespace)
    await tenant.run(['deploy', '--dispatch-namespace', namespace])
    expect((await node.get('tenant-a')).code).toBe('route_not_found')
    await dispatcher.write(
      'wrangler.toml',
      [
        'name = "dispatcher"',
        'main = "index.js"',
        'compatibility_date = "2026-11-01"',
        '[[dispatch_namespaces]]',
        'binding = "TENANTS"',
        `namespace = "${namespace}"`,
      ].join('\n'),
    )
    await dispatcher.write(
      'index.js',
      `export default {
        async fetch(request, env) {
          try {
            return await env.TENANTS.get(new URL(request.url).pathname.slice(1)).fetch(request)
          } catch (error) {
            return new Response(error.message, { status: 404 })
          }
        },
      }`,
    )
    await dispatcher.run(['deploy'])
    expect((await node.get('dispatcher', '/tenant-a')).text).toBe('hello 1')
    expect((await node.get('dispatcher', '/tenant-b')).status).toBe(404)
    const refused = await tenant.wrangler(['dispatch-namespace', 'delete', namespace])
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/tenant-a|script/)])
  })
})
