import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { SecretBinding } from '../../sdk/model/function.ts'
import {
  bundleOf,
  DEPLOY_OPTIONS,
  openControlPlace,
  versionOf,
  type ControlPlace,
} from '../harness/control-place.ts'

const CODE = 'export default { fetch: () => new Response("ok") }'
let place: ControlPlace

beforeEach(async () => {
  place = await openControlPlace()
  await place.client.deployBundle('shop', bundleOf(CODE), {
    ...DEPLOY_OPTIONS,
    bindings: [{ type: 'text', name: 'PLAIN', text: 'x' }],
    routes: [{ pattern: 'shop.example/*' }],
    previewHosts: false,
  })
})
afterEach(() => place.close())

const put = (name: string, body: unknown = { text: 'open sesame' }): Promise<Response> =>
  place.call('PUT', `/v1/functions/shop/secrets/${name}`, body)
const errorOf = async (response: Response): Promise<{ code: string; message: string }> =>
  ((await response.json()) as { error: { code: string; message: string } }).error

async function served(): Promise<readonly { name: string; type: string }[]> {
  const { deployment } = await place.client.getFunction('shop')
  const version = await place.registry.getVersion('shop', deployment.shares[0]!.versionId)
  return version!.content.bindings
}

describe('secrets of a function', () => {
  test('one that is set is in a version that serves at once, closed, with all else as it was', async () => {
    const response = await put('KEY')
    const text = await response.clone().text()
    expect(response.status).toBe(200)
    const bindings = await served()
    expect(bindings.map(({ name, type }) => `${name} ${type}`)).toEqual(['KEY secret', 'PLAIN text'])
    expect((bindings[0] as SecretBinding).sealed).not.toContain('sesame')
    const everything = JSON.stringify([
      await place.client.listVersions('shop'),
      await place.client.getFunction('shop'),
      text,
    ])
    expect(everything).not.toContain('sesame')
    const record = await place.client.getFunction('shop')
    expect(record.routes.map(({ pattern }) => pattern)).toEqual(['shop.example/*'])
    expect(record.previewHosts).toBe(false)
    const list = await place.call('GET', '/v1/functions/shop/secrets')
    expect(await list.json()).toEqual({ secrets: [{ name: 'KEY' }] })
  })

  test('the same secret again is the same version; another value is another', async () => {
    const ids = []
    for (const text of ['a', 'a', 'b'])
      ids.push(versionOf((await (await put('KEY', { text })).json()) as never))
    expect(ids[0]).toBe(ids[1])
    expect(ids[2]).not.toBe(ids[0])
  })

  test('they stay when the function is deployed again, unless its configuration takes the name', async () => {
    await put('KEY')
    await put('OTHER')
    await place.client.deployBundle('shop', bundleOf(`${CODE}\n`), {
      ...DEPLOY_OPTIONS,
      bindings: [{ type: 'text', name: 'OTHER', text: 'plain' }],
    })
    expect((await served()).map(({ name, type }) => `${name} ${type}`)).toEqual(['KEY secret', 'OTHER text'])
  })

  test('one is deleted, and one that is not there is said to be so', async () => {
    await put('KEY')
    expect((await place.call('DELETE', '/v1/functions/shop/secrets/KEY')).status).toBe(200)
    expect((await served()).map(({ name }) => name)).toEqual(['PLAIN'])
    const again = await errorOf(await place.call('DELETE', '/v1/functions/shop/secrets/KEY'))
    expect(again).toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('"shop" has no secret "KEY"'),
    })
  })

  test('what cannot be set is refused by name, and nothing is changed', async () => {
    const before = await place.client.getFunction('shop')
    for (const [name, body, code] of [
      ['PLAIN', { text: 'x' }, 'conflict'],
      ['not%20usable', { text: 'x' }, 'invalid_argument'],
      ['KEY', { text: 'x'.repeat(131_073) }, 'invalid_argument'],
      ['KEY', { value: 'x' }, 'invalid_argument'],
    ] as const) {
      expect((await errorOf(await put(name, body))).code).toBe(code)
    }
    expect(
      (await errorOf(await place.call('PUT', '/v1/functions/none/secrets/KEY', { text: 'x' }))).code,
    ).toBe('function_not_found')
    expect(await place.client.getFunction('shop')).toEqual(before)
  })

  test('a newer version that does not serve is not put into service by a secret', async () => {
    const modules = await place.client.uploadBlobs(bundleOf(`${CODE}\n// newer`).modules)
    const { baseDomainHost: _, previewHosts: __, routes: ___, ...fields } = DEPLOY_OPTIONS
    await place.client.createVersion('shop', { ...fields, mainModule: 'index.js', modules })
    expect(await errorOf(await put('KEY'))).toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('does not serve alone'),
    })
  })

  test('a deploy that comes first is not undone by a secret', async () => {
    place.node.trialStart = async (version) => {
      if (!version.content.bindings.some(({ type }) => type === 'secret')) return
      place.node.trialStart = async () => undefined
      await place.client.deployBundle('shop', bundleOf(`${CODE}\n// first`), DEPLOY_OPTIONS)
    }
    expect((await errorOf(await put('KEY'))).message).toContain('was deployed while its secret was set')
    expect((await served()).map(({ name }) => name)).toEqual([])
  })

  test.each([
    ['new code', `${CODE}\n// newer`],
    ['what serves already', CODE],
  ])('one that is set while a deploy of %s is made stays', async (_, code) => {
    let sets = 0
    place.node.trialStart = async (version) => {
      if (sets > 0 || version.content.bindings.some(({ type }) => type === 'secret')) return
      sets++
      expect((await put('KEY')).status).toBe(200)
    }
    const bindings = [{ type: 'text', name: 'PLAIN', text: 'x' }] as const
    await place.client.deployBundle('shop', bundleOf(code), { ...DEPLOY_OPTIONS, bindings })
    expect(sets).toBe(1)
    expect((await served()).map(({ name }) => name)).toEqual(['KEY', 'PLAIN'])
  })

  test('a version whose secret nobody closed is refused', async () => {
    const attempt = place.client.deployBundle('shop', bundleOf(CODE), {
      ...DEPLOY_OPTIONS,
      bindings: [{ type: 'secret', name: 'KEY', sealed: 'open sesame' }],
    })
    await expect(attempt).rejects.toMatchObject({ code: 'invalid_argument' })
  })
})

describe('versions of the service-worker format', () => {
  const script = { ...bundleOf(`addEventListener('fetch', () => {})`), format: 'service-worker' as const }
  const asCjs = { ...script, modules: script.modules.map((module) => ({ ...module, kind: 'cjs' as const })) }

  test('keep their format, and their main module may be a script', async () => {
    const result = await place.client.deployBundle('old', asCjs, DEPLOY_OPTIONS)
    const version = await place.registry.getVersion('old', versionOf(result))
    expect(version!.content).toMatchObject({ format: 'service-worker', modules: [{ kind: 'cjs' }] })
  })

  test('bind modules of theirs that are there, and only they do', async () => {
    const words = { name: 'words', kind: 'text' as const, body: Buffer.from('words') }
    const bindings = [{ type: 'module' as const, name: 'WORDS', module: 'words' }]
    const bundle = { ...asCjs, modules: [...asCjs.modules, words] }
    await place.client.deployBundle('old', bundle, { ...DEPLOY_OPTIONS, bindings })
    for (const [wrong, message] of [
      [asCjs, /not among the modules/],
      [{ ...asCjs, modules: [...asCjs.modules, { ...words, kind: 'esm' as const }] }, /of kind "esm"/],
      [bundleOf(CODE, [words]), /only a service worker has/],
    ] as const) {
      await expect(
        place.client.deployBundle('old', wrong, { ...DEPLOY_OPTIONS, bindings }),
      ).rejects.toMatchObject({
        code: 'invalid_argument',
        message: expect.stringMatching(message),
      })
    }
  })
})
