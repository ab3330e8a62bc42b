import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  openWranglerPlace,
  SCRIPTS,
  uploadForm,
  WORKERS,
  type Answer,
  type WranglerPlace,
} from '../harness/wrangler-place.ts'

let place: WranglerPlace

beforeEach(async () => {
  place = await openWranglerPlace()
  await upload('shop')
})
afterEach(() => place.close())

async function upload(script: string): Promise<void> {
  expect(await place.call('PUT', `${SCRIPTS}/${script}`, uploadForm({ bindings: [] }))).toMatchObject({
    status: 200,
  })
}

const record = (script: string) => place.registry.head.functions[script]
const patterns = (script: string): string[] =>
  (record(script)?.routes ?? []).map(({ pattern }) => pattern).sort()
const message = ({ errors }: Answer): string => errors.map((error) => error.message).join('\n')

/** As wrangler does it: what would change, then the change. */
async function setDomains(
  script: string,
  hosts: readonly string[],
  mayTake = false,
): Promise<{ readonly changeset: Answer; readonly records: Answer }> {
  const origins = hosts.map((hostname) => ({ hostname }))
  const changeset = await place.call(
    'POST',
    `${SCRIPTS}/${script}/domains/changeset?replace_state=true`,
    origins,
  )
  const records = await place.call('PUT', `${SCRIPTS}/${script}/domains/records`, {
    override_scope: true,
    override_existing_origin: mayTake,
    override_existing_dns_record: mayTake,
    origins,
  })
  return { changeset, records }
}

describe('the subdomain', () => {
  test('of the account is the base domain, and is not changed here', async () => {
    expect((await place.call('GET', `${WORKERS}/subdomain`)).result).toEqual({ subdomain: 'localhost' })
    const answer = await place.call('PUT', `${WORKERS}/subdomain`, { subdomain: 'mine' })
    expect(answer).toMatchObject({ status: 409, success: false })
    expect(message(answer)).toContain('--base-domain')
  })

  test('of a script decides whether it answers under the base domain; previews go with it unless said otherwise', async () => {
    expect(record('shop')).toMatchObject({ baseDomainHost: false, previewHosts: false })
    const on = await place.call('POST', `${SCRIPTS}/shop/subdomain`, { enabled: true })
    expect(on.result).toEqual({ enabled: true, previews_enabled: true })
    expect(record('shop')).toMatchObject({ baseDomainHost: true, previewHosts: true })
    const off = { enabled: true, previews_enabled: false }
    expect((await place.call('POST', `${SCRIPTS}/shop/subdomain`, off)).result).toEqual(off)
    expect((await place.call('GET', `${SCRIPTS}/shop/subdomain`)).result).toEqual(off)
    await place.call('POST', `${SCRIPTS}/shop/subdomain`, { enabled: false })
    expect(record('shop')).toMatchObject({ baseDomainHost: false, previewHosts: false })
  })

  test('of a script that is not there is 10007, and a body that is none is refused', async () => {
    const missing = await place.call('POST', `${SCRIPTS}/nobody/subdomain`, { enabled: true })
    expect(missing).toMatchObject({ status: 404, errors: [{ code: 10007 }] })
    const wrong = await place.call('POST', `${SCRIPTS}/shop/subdomain`, { enabled: 'yes' })
    expect(wrong).toMatchObject({ status: 400, success: false })
    expect(record('shop')?.baseDomainHost).toBe(false)
  })
})

describe('routes', () => {
  test('are replaced as a whole, whatever content type they are sent with', async () => {
    const first = [{ pattern: 'shop.example/*', zone_name: 'shop.example' }, { pattern: 'API.example/v1/*' }]
    await place.call('PUT', `${SCRIPTS}/shop/routes`, first, { headers: { 'content-type': 'text/plain' } })
    expect(patterns('shop')).toEqual(['api.example/v1/*', 'shop.example/*'])
    const answer = await place.call('PUT', `${SCRIPTS}/shop/routes`, [{ pattern: 'shop.example/*' }])
    expect(answer.result).toEqual([{ pattern: 'shop.example/*', script: 'shop' }])
    expect(patterns('shop')).toEqual(['shop.example/*'])
    await place.call('PUT', `${SCRIPTS}/shop/routes`, [])
    expect(patterns('shop')).toEqual([])
  })

  test('of another script are refused with its name, and nothing changes', async () => {
    await upload('blog')
    await place.call('PUT', `${SCRIPTS}/blog/routes`, [{ pattern: 'shop.example/*' }])
    const { generation } = place.registry.head
    const routes = [{ pattern: 'a.example/*' }, { pattern: 'Shop.Example/*' }]
    const answer = await place.call('PUT', `${SCRIPTS}/shop/routes`, routes)
    expect(answer).toMatchObject({ status: 409, errors: [{ code: 10020 }] })
    expect(message(answer)).toContain('already belongs to function "blog"')
    expect(place.registry.head.generation).toBe(generation)
    expect(patterns('shop')).toEqual([])
  })

  test.each([['shop.example:8080/*'], ['https://shop.example/*'], ['']])(
    'that cannot be, such as %j, are refused',
    async (pattern) => {
      const answer = await place.call('PUT', `${SCRIPTS}/shop/routes`, [{ pattern }])
      expect(answer).toMatchObject({ status: 400, success: false })
      expect(patterns('shop')).toEqual([])
    },
  )

  test('of an operator stay', async () => {
    await place.client.addRoute('shop', { pattern: 'front.example/*' })
    await place.call('PUT', `${SCRIPTS}/shop/routes`, [{ pattern: 'shop.example/*' }])
    expect(patterns('shop')).toEqual(['front.example/*', 'shop.example/*'])
  })

  test('an upload of a next version leaves them as they are', async () => {
    await place.call('PUT', `${SCRIPTS}/shop/routes`, [{ pattern: 'shop.example/*' }])
    await upload('shop')
    expect(patterns('shop')).toEqual(['shop.example/*'])
  })
})

describe('zones', () => {
  test('there is one for every host that is asked for, and a conflict is found in it', async () => {
    await place.call('PUT', `${SCRIPTS}/shop/routes`, [{ pattern: 'api.shop.example/v1/*' }])
    for (const name of ['api.shop.example', 'shop.example']) {
      const { result } = await place.call('GET', `/zones?name=${name}&account.id=isola`)
      expect(result).toMatchObject([{ name }])
      const routes = await place.call('GET', `/zones/${result[0].id}/workers/routes`)
      expect(routes.result).toMatchObject([{ pattern: 'api.shop.example/v1/*', script: 'shop' }])
    }
    const { result } = await place.call('GET', '/zones?name=other.example')
    expect((await place.call('GET', `/zones/${result[0].id}/workers/routes`)).result).toEqual([])
    expect((await place.call('GET', '/zones?name=no%20host')).result).toEqual([])
    expect((await place.call('GET', '/zones')).result).toMatchObject([
      { name: 'api.shop.example' },
      { name: 'shop.example' },
    ])
  })

  test('a route can be added to one and removed again', async () => {
    const [zone] = (await place.call('GET', '/zones?name=shop.example')).result
    const routes = `/zones/${zone.id}/workers/routes`
    const added = await place.call('POST', routes, { pattern: 'shop.example/a/*', script: 'shop' })
    expect(added.result.pattern).toBe('shop.example/a/*')
    await place.call('POST', routes, { pattern: 'shop.example/b/*', script: 'shop' })
    expect(patterns('shop')).toEqual(['shop.example/a/*', 'shop.example/b/*'])
    await place.call('DELETE', `${routes}/${added.result.id}`)
    expect(patterns('shop')).toEqual(['shop.example/b/*'])
    expect(await place.call('DELETE', `${routes}/${added.result.id}`)).toMatchObject({ status: 404 })
  })
})

describe('custom domains', () => {
  test('are told before they are set, are whole hosts, and are no routes to the call that sets those', async () => {
    const { changeset, records } = await setDomains('shop', ['Shop.example', 'www.shop.example'])
    expect(changeset.result).toMatchObject({
      added: [{ hostname: 'shop.example' }, { hostname: 'www.shop.example' }],
      removed: [],
      updated: [],
      conflicting: [],
    })
    expect(records.result).toMatchObject([{ hostname: 'shop.example', service: 'shop' }, {}])
    await place.call('PUT', `${SCRIPTS}/shop/routes`, [{ pattern: 'api.example/*' }])
    expect(patterns('shop')).toEqual(['api.example/*', 'shop.example/*', 'www.shop.example/*'])
    const next = await setDomains('shop', ['shop.example'])
    expect(next.changeset.result).toMatchObject({ added: [], removed: [{ hostname: 'www.shop.example' }] })
    expect(patterns('shop')).toEqual(['api.example/*', 'shop.example/*'])
    expect((await place.call('GET', `${WORKERS}/domains?service=shop`)).result).toMatchObject([
      { hostname: 'shop.example', environment: 'production' },
    ])
  })

  test('of another script are named with it, and taken only when that is said', async () => {
    await upload('blog')
    await setDomains('blog', ['shop.example'])
    const asked = await setDomains('shop', ['shop.example'])
    const [updated] = asked.changeset.result.updated
    expect(updated).toMatchObject({ hostname: 'shop.example', modified: true })
    expect((await place.call('GET', `${WORKERS}/domains/records/${updated.id}`)).result).toMatchObject({
      hostname: 'shop.example',
      service: 'blog',
    })
    expect(asked.records).toMatchObject({ status: 409, errors: [{ code: 10020 }] })
    expect(patterns('blog')).toEqual(['shop.example/*'])
    const taken = await setDomains('shop', ['shop.example'], true)
    expect(taken.records.status).toBe(200)
    expect([patterns('blog'), patterns('shop')]).toEqual([[], ['shop.example/*']])
    expect((await place.call('GET', `${WORKERS}/domains`)).result).toMatchObject([{ service: 'shop' }])
  })

  test('a host that another script has by a route is never taken', async () => {
    await upload('blog')
    await place.call('PUT', `${SCRIPTS}/blog/routes`, [{ pattern: 'shop.example/*' }])
    const { records } = await setDomains('shop', ['shop.example'], true)
    expect(records).toMatchObject({ status: 409, errors: [{ code: 10020 }] })
    expect(patterns('blog')).toEqual(['shop.example/*'])
  })

  test('that are no host names are refused', async () => {
    for (const host of ['*.shop.example', 'shop.example/a', 'shop example']) {
      const { records } = await setDomains('shop', [host])
      expect(records, host).toMatchObject({ status: 400, success: false })
    }
    expect(patterns('shop')).toEqual([])
  })
})

describe('what there is not yet', () => {
  test('crons: an empty list is fine, any other is refused by name', async () => {
    expect(await place.call('PUT', `${SCRIPTS}/shop/schedules`, [])).toMatchObject({ status: 200 })
    const answer = await place.call('PUT', `${SCRIPTS}/shop/schedules`, [{ cron: '*/5 * * * *' }])
    expect(answer).toMatchObject({ status: 400, success: false })
    expect(message(answer)).toContain('"*/5 * * * *"')
    expect((await place.call('GET', `${SCRIPTS}/shop/schedules`)).result).toEqual({ schedules: [] })
    expect(await place.call('PUT', `${SCRIPTS}/nobody/schedules`, [])).toMatchObject({ status: 404 })
  })

  test.each([
    ['POST', 'storage/kv/namespaces', { title: 'cache' }, 'the KV namespace "cache"'],
    ['POST', 'r2/buckets', { name: 'files' }, 'the R2 bucket "files"'],
    ['POST', 'd1/database', { name: 'db' }, 'the D1 database "db"'],
    ['POST', 'queues', { queue_name: 'jobs' }, 'the queue "jobs"'],
    ['PUT', 'workflows/flow', { script_name: 'shop' }, 'the Workflow "flow"'],
    ['POST', 'queues', [1], 'the queue cannot'],
    ['GET', 'queues?page=1&name=jobs', undefined, 'the queue "jobs"'],
  ])('%s %s is refused by name', async (method, path, body, said) => {
    const answer = await place.call(method, `/accounts/isola/${path}`, body)
    expect(answer).toMatchObject({ status: 400, success: false })
    expect(message(answer)).toContain(said)
  })

  test.each([
    ['storage/kv/namespaces?per_page=100', []],
    ['r2/buckets', { buckets: [] }],
    ['d1/database?per_page=10', []],
    ['queues?page=1', []],
    ['workflows', []],
  ])('there are none of %s', async (path, none) => {
    expect((await place.call('GET', `/accounts/isola/${path}`)).result).toEqual(none)
  })

  test.each([
    ['r2/buckets/files', 10006],
    ['d1/database/db', 7404],
    ['workflows/flow', 10200],
  ])('%s is not found, with the code on which wrangler goes on', async (path, code) => {
    const answer = await place.call('GET', `/accounts/isola/${path}`)
    expect(answer).toMatchObject({ status: 404, errors: [{ code }] })
  })
})
