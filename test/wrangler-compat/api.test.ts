import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { IsolaError } from '../../sdk/model/errors.ts'
import { WRANGLER_API_LIMITS } from '../../sdk/model/limits.ts'
import { bundleOf, DEPLOY_OPTIONS } from '../harness/control-place.ts'
import {
  HELLO,
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
})
afterEach(() => place.close())

const put = (script: string, metadata = {}): Promise<Answer> =>
  place.call('PUT', `${SCRIPTS}/${script}`, uploadForm(metadata))
const get = (path: string): Promise<Answer> => place.call('GET', path)

describe('a request', () => {
  test('without the token, or with another, is refused before anything is said', async () => {
    for (const authorization of ['', 'Bearer wrong', 'Basic YTpi']) {
      for (const path of [`${SCRIPTS}/shop/versions`, '/no/such/path']) {
        const answer = await place.call('GET', path, undefined, { headers: { authorization } })
        expect(answer).toMatchObject({
          status: 401,
          success: false,
          errors: [
            { code: 10000, message: expect.stringMatching(/Authentication error.*isola wrangler-env/) },
          ],
        })
      }
    }
  })

  test('that asks who a wrong token is gets another code, because wrangler asks after each of the first', async () => {
    const headers = { authorization: 'Bearer wrong' }
    for (const path of ['/user', '/user/tokens/verify', '/memberships?page=1', '/accounts?page=1']) {
      expect(await place.call('GET', path, undefined, { headers })).toMatchObject({
        status: 401,
        errors: [{ code: 9109, message: expect.stringContaining('isola wrangler-env') }],
      })
    }
  })

  test('to another account than the one there is, is an authentication error that names it', async () => {
    expect(await get('/accounts/0123456789abcdef/workers/scripts')).toMatchObject({
      status: 403,
      errors: [{ code: 10000, message: expect.stringContaining('CLOUDFLARE_ACCOUNT_ID=isola') }],
    })
  })

  test('may have doubled and trailing slashes', async () => {
    await put('shop')
    expect(await get(`/${SCRIPTS}/shop/versions//`)).toMatchObject({ status: 200, success: true })
  })

  test('for what is not there names path or methods', async () => {
    expect(await get('/accounts/isola/d1/nonsense')).toMatchObject({ status: 404, errors: [{ code: 7003 }] })
    expect(await place.call('PUT', `${SCRIPTS}/shop/deployments`, {})).toMatchObject({
      status: 405,
      errors: [{ code: 7001, message: expect.stringMatching(/POST/) }],
    })
    expect(await get(`${SCRIPTS}/%ff/versions`)).toMatchObject({ status: 400, errors: [{ code: 10001 }] })
  })

  test('that meets a fault hears nothing of it but its number', async () => {
    await put('shop')
    place.registry.listVersions = async () => {
      throw new TypeError('secret words')
    }
    const answer = await get(`${SCRIPTS}/shop/versions`)
    const [error] = answer.errors
    expect([answer.status, error?.code]).toEqual([500, 10013])
    expect(error?.message).toContain(answer.headers.get('cf-ray'))
    expect(error?.message).not.toContain('secret words')
    expect(place.faults).toMatchObject([{ message: 'secret words' }])
  })

  test('that may succeed later says when', async () => {
    place.node.trialStart = async () => {
      throw new IsolaError('node_full', 'there is no room for it')
    }
    const answer = await put('shop')
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '2'])
  })
})

describe('a script', () => {
  test('that there is not is told by the codes on which wrangler goes on', async () => {
    expect(await get(`${WORKERS}/services/shop`)).toMatchObject({ status: 404, errors: [{ code: 10090 }] })
    for (const path of ['deployments', 'settings', 'secrets', 'versions', 'references', 'content/v2']) {
      expect(await get(`${SCRIPTS}/shop/${path}`)).toMatchObject({ status: 404, errors: [{ code: 10007 }] })
    }
    expect(await get(`${SCRIPTS}/constructor/versions`)).toMatchObject({ errors: [{ code: 10007 }] })
  })

  test('is a service, a Worker with its hosts, and one of the list', async () => {
    await put('shop')
    const service = await get(`${WORKERS}/services/shop`)
    expect(service.result.default_environment.script).toMatchObject({
      tag: expect.stringMatching(/^[0-9a-f]{32}$/),
      last_deployed_from: 'wrangler',
    })
    const worker = await get(`${WORKERS}/workers/shop`)
    expect(worker.result.subdomain).toEqual({
      enabled: false,
      previews_enabled: false,
      url: 'http://shop.localhost:8080/',
      preview_url_suffix: '-shop.localhost',
    })
    expect((await get(SCRIPTS)).result).toMatchObject([{ id: 'shop' }])
  })

  test('that isola deployed is one like any other, and keeps its hosts when wrangler deploys it', async () => {
    const routes = [{ pattern: 'shop.example/*' }]
    await place.client.deployBundle('shop', bundleOf(HELLO), { ...DEPLOY_OPTIONS, routes })
    const before = (await get(`${WORKERS}/services/shop`)).result.default_environment.script.tag
    expect((await get(`${SCRIPTS}/shop/versions`)).result.items).toHaveLength(1)
    await put('shop', { bindings: [{ name: 'A', type: 'plain_text', text: 'a' }] })
    expect(place.registry.head.functions['shop']).toMatchObject({
      baseDomainHost: true,
      previewHosts: true,
      routes: [{ pattern: 'shop.example/*', source: 'config' }],
    })
    expect((await get(`${WORKERS}/services/shop`)).result.default_environment.script.tag).toBe(before)
  })

  test('has settings of its version and of its own; a patch changes what it names', async () => {
    await put('shop', { compatibility_flags: ['nodejs_compat'], logpush: true, tags: ['a'] })
    await place.call('PATCH', `${SCRIPTS}/shop/script-settings`, {
      observability: { enabled: true, head_sampling_rate: 0.5 },
    })
    expect((await get(`${SCRIPTS}/shop/settings`)).result).toMatchObject({
      bindings: [],
      compatibility_date: '2026-11-01',
      compatibility_flags: ['nodejs_compat'],
      logpush: true,
      tags: ['a'],
      observability: { enabled: true, head_sampling_rate: 0.5 },
    })
    const { result } = await place.call('PATCH', `${SCRIPTS}/shop/script-settings`, {
      observability: { enabled: false },
      tags: null,
    })
    expect(result).toEqual({
      tags: ['a'],
      logpush: true,
      observability: { enabled: false },
      tail_consumers: [],
      streaming_tail_consumers: [],
    })
    const long = { observability: { note: 'x'.repeat(WRANGLER_API_LIMITS.keptJsonCharsMax) } }
    expect(await place.call('PATCH', `${SCRIPTS}/shop/script-settings`, long)).toMatchObject({ status: 400 })
    expect(await place.call('PATCH', `${SCRIPTS}/shop/script-settings`, { logpush: 'yes' })).toMatchObject({
      status: 400,
    })
  })

  test('gives its modules back as a form', async () => {
    await put('shop')
    const response = await fetch(`${place.url}${SCRIPTS}/shop/content/v2`, {
      headers: { authorization: `Bearer ${place.wranglerPorts.token}` },
    })
    expect(response.headers.get('cf-entrypoint')).toBe('index.js')
    const file = (await response.formData()).get('index.js') as File
    expect([file.type, await file.text()]).toEqual(['application/javascript+module', HELLO])
  })

  test('is deleted with all that it is; one that others call only by force', async () => {
    await put('api')
    await put('shop', {
      bindings: [{ name: 'API', type: 'service', service: 'api' }],
      tail_consumers: [{ service: 'api' }],
    })
    expect((await get(`${SCRIPTS}/shop/references`)).result).toEqual({})
    expect((await get(`${SCRIPTS}/api/references`)).result).toMatchObject({
      services: { incoming: [{ service: 'shop' }] },
    })
    expect((await get(`${WORKERS}/tails/by-consumer/api`)).result).toMatchObject([
      { producer: { script: 'shop' } },
    ])
    expect((await get(`${WORKERS}/durable_objects/namespaces?per_page=1000&page=1`)).result).toEqual([])
    expect((await get('/accounts/isola/containers/applications')).result).toEqual([])
    expect(await place.call('DELETE', `${WORKERS}/services/api?force=false`)).toMatchObject({
      status: 409,
      errors: [{ code: 10064, message: expect.stringContaining('"shop"') }],
    })
    expect((await place.call('DELETE', `${WORKERS}/services/api?force=true`)).status).toBe(200)
    expect(Object.keys(place.registry.head.functions)).toEqual(['shop'])
    expect(await place.call('DELETE', `${WORKERS}/services/api?force=true`)).toMatchObject({ status: 404 })
  })
})
