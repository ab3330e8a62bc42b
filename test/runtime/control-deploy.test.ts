import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { DeployResult } from '../../sdk/model/control.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import {
  bundleOf,
  DEPLOY_OPTIONS,
  openControlPlace,
  refused,
  versionOf,
  type ControlPlace,
} from '../harness/control-place.ts'

let place: ControlPlace
beforeEach(async () => {
  place = await openControlPlace()
})
afterEach(() => place.close())

const deploy = (name: string, code: string, options = {}): Promise<DeployResult> =>
  place.client.deployBundle(name, bundleOf(code), { ...DEPLOY_OPTIONS, ...options })

describe('a deploy', () => {
  test('puts the version into service with all its traffic, and says where', async () => {
    const result = await deploy('shop', 'one', {
      message: 'first',
      routes: [
        { pattern: 'Shop.Example/api/*' },
        { pattern: '*.shop.example' },
        { pattern: 'shop.example/api/*' },
      ],
    })
    expect(result).toMatchObject({
      functionName: 'shop',
      generation: 1,
      trialMs: 12,
      urls: ['http://shop.localhost:8080/', 'http://shop.example:8080/api/'],
      deployment: { message: 'first', shares: [{ percent: 100 }] },
    })
    expect(result.liveMs).toBeGreaterThan(0)
    const record = await place.client.getFunction('shop')
    expect(record.routes).toEqual([
      { pattern: 'shop.example/api/*', source: 'config' },
      { pattern: '*.shop.example/*', source: 'config' },
    ])
    expect(record).toMatchObject({ policy: {}, recentVersionIds: [versionOf(result)] })
    expect(place.started.map((version) => version.id)).toEqual([versionOf(result)])
  })

  test('answers only when the router has it in force', async () => {
    const order: string[] = []
    const inForce = Promise.withResolvers<void>()
    place.node.whenLive = async (generation) => {
      order.push(`asked for ${generation}`)
      await inForce.promise
      order.push('in force')
    }
    const deployed = deploy('shop', 'one').then(() => order.push('answered'))
    await expect.poll(() => order).toEqual(['asked for 1'])
    inForce.resolve()
    await deployed
    expect(order).toEqual(['asked for 1', 'in force', 'answered'])
  })

  test('of a version that does not start is refused with its message; nothing is written, the old one serves', async () => {
    const first = await deploy('shop', 'one')
    const before = new Map(place.store)
    place.node.trialStart = async () => {
      throw new IsolaError('version_refused', 'Uncaught SyntaxError: Unexpected token at index.js:1')
    }
    await expect(deploy('shop', 'broken {')).rejects.toThrow(
      refused('version_refused', /SyntaxError: Unexpected token at index\.js:1/),
    )
    const added = [...place.store.keys()].filter((key) => !before.has(key))
    expect(added).toEqual([expect.stringMatching(/^blobs\//)])
    expect(place.store.get('head.json')).toEqual(before.get('head.json'))
    expect((await place.client.getFunction('shop')).deployment).toEqual(first.deployment)
    const response = await place.call('POST', '/v1/functions/shop/deploy', await requestOf('broken {'))
    expect(response.status).toBe(422)
  })

  const requestOf = async (code: string) => {
    const bundle = bundleOf(code)
    const modules = await place.client.uploadBlobs(bundle.modules)
    return { ...DEPLOY_OPTIONS, mainModule: bundle.mainModule, modules }
  }

  test('whose blobs are missing is refused before anything starts', async () => {
    const request = await requestOf('one')
    for (const key of place.store.keys()) if (key.startsWith('blobs/')) place.store.delete(key)
    await expect(place.client.deploy('shop', request)).rejects.toMatchObject({
      code: 'blob_missing',
      details: { missing: [request.modules[0]!.sha256] },
    })
    expect(place.started).toEqual([])
  })

  test('that claims another size than its blob has is refused', async () => {
    const request = await requestOf('one')
    const modules = request.modules.map((module) => ({ ...module, sizeBytes: 1 }))
    await expect(place.client.deploy('shop', { ...request, modules })).rejects.toThrow(
      refused('invalid_argument', /said to have 1 bytes but its blob has 3/),
    )
    expect(place.started).toEqual([])
  })

  test('uploads again, once, when a blob was collected between upload and deploy', async () => {
    let collected = 0
    place.node.trialStart = async () => undefined
    const { registry } = place
    const blobSizeBytes = registry.blobSizeBytes.bind(registry)
    Object.assign(registry, {
      async blobSizeBytes(sha256: string) {
        if (collected++ === 0) place.store.delete(`blobs/${sha256}`)
        return blobSizeBytes(sha256)
      },
    })
    expect((await deploy('shop', 'one')).generation).toBe(1)
    expect(collected).toBe(2)
  })

  test('of the same content again is the same version in a new deployment', async () => {
    const first = await deploy('shop', 'one')
    const second = await deploy('shop', 'one')
    expect(versionOf(second)).toBe(versionOf(first))
    expect(second.deployment.id).not.toBe(first.deployment.id)
    expect(second.deployment.previousId).toBe(first.deployment.id)
    expect(await place.client.listVersions('shop')).toHaveLength(1)
    expect((await place.client.getFunction('shop')).recentVersionIds).toEqual([versionOf(first)])
  })

  test('does not depend on the order of modules, bindings or flags', async () => {
    const extra = { name: 'a.txt', kind: 'text', body: new Uint8Array(3) } as const
    const bindings = [
      { type: 'text', name: 'B', text: 'b' },
      { type: 'json', name: 'A', json: { z: 1, a: [null, true] } },
    ] as const
    const bundle = bundleOf('one', [extra])
    const first = await place.client.deployBundle('shop', bundle, {
      ...DEPLOY_OPTIONS,
      bindings,
      compatibilityFlags: ['b', 'a', 'b'],
    })
    const turned = { ...bundle, modules: bundle.modules.toReversed() }
    const second = await place.client.deployBundle('shop', turned, {
      ...DEPLOY_OPTIONS,
      bindings: bindings.toReversed(),
      compatibilityFlags: ['a', 'b'],
    })
    expect(versionOf(second)).toBe(versionOf(first))
    expect(place.started[0]?.content.bindings.map((binding) => binding.name)).toEqual(['A', 'B'])
  })

  test('keeps policy and operator routes, and replaces config routes and hosts', async () => {
    await deploy('shop', 'one', { routes: [{ pattern: 'old.example' }] })
    await place.client.setPolicy('shop', { max: 3 })
    await place.client.addRoute('shop', { pattern: 'kept.example/*', origin: 'http://10.0.0.1:81' })
    await deploy('shop', 'two', {
      routes: [{ pattern: 'new.example/*' }, { pattern: 'KEPT.example' }],
      baseDomainHost: false,
      previewHosts: false,
    })
    const record = await place.client.getFunction('shop')
    expect(record.policy.max).toBe(3)
    expect(record.routes).toEqual([
      { pattern: 'kept.example/*', source: 'operator', origin: 'http://10.0.0.1:81' },
      { pattern: 'new.example/*', source: 'config' },
    ])
    expect(record).toMatchObject({ baseDomainHost: false, previewHosts: false })
  })

  test('whose route belongs to another function is refused by name before it is started', async () => {
    await deploy('shop', 'one', { routes: [{ pattern: 'shop.example/*' }] })
    await expect(deploy('other', 'two', { routes: [{ pattern: 'SHOP.example' }] })).rejects.toThrow(
      refused('route_taken', /route "shop\.example\/\*" already belongs to function "shop"/),
    )
    expect(place.started).toHaveLength(1)
    expect(await place.client.listFunctions()).toHaveLength(1)
  })

  test('loses the race for a route to the one that is first, whole', async () => {
    const routes = [{ pattern: 'race.example/*' }]
    const results = await Promise.allSettled([
      deploy('one', 'a', { routes }),
      deploy('two', 'b', { routes }),
      deploy('three', 'c', { routes }),
    ])
    const losers = results.filter((result) => result.status === 'rejected')
    expect(losers.map((loser) => (loser.reason as IsolaError).code)).toEqual(['route_taken', 'route_taken'])
    expect(await place.client.listFunctions()).toHaveLength(1)
    expect(await place.client.listRoutes()).toHaveLength(1)
  })

  test('at the same time as others of the same function: one order, and the last generation serves', async () => {
    const results = await Promise.all(
      Array.from({ length: 8 }, (_, index) => deploy('shop', `code ${index}`)),
    )
    const record = await place.client.getFunction('shop')
    const byDeployment = new Map(results.map((result) => [result.deployment.id, result]))
    // Each replaced the one before it: walking back from what serves meets every one of them once.
    const order: string[] = []
    for (let id: string | undefined = record.deployment.id; id !== undefined;) {
      order.push(id)
      id = (await place.registry.getDeployment('shop', id))?.previousId
    }
    expect(order.toSorted()).toEqual([...byDeployment.keys()].toSorted())
  })

  test('that is recorded but not yet in force says so', async () => {
    place.node.whenLive = async () => {
      throw new IsolaError('node_unreachable', 'the router does not answer')
    }
    await expect(deploy('shop', 'one')).rejects.toMatchObject({
      code: 'node_unreachable',
      message: expect.stringMatching(/recorded \(generation 1\).*the router does not answer/) as string,
      details: { generation: 1 },
    })
  })

  test('of an unusable name is refused', async () => {
    for (const name of ['Shop', 'a_b', '-a', 'a'.repeat(64), 'ä', '__proto__']) {
      await expect(deploy(name, 'one')).rejects.toMatchObject({ code: 'invalid_argument' })
    }
    await deploy('constructor', 'one')
    expect((await place.client.getFunction('constructor')).name).toBe('constructor')
  })

  test('of a name that every object of JavaScript has is a deploy as any other', async () => {
    const service = { type: 'service', name: 'IT', functionName: 'constructor' } as const
    await expect(deploy('caller', 'calls', { bindings: [service] })).rejects.toThrow(
      refused('function_not_found', /which is not deployed/),
    )
    for (const code of ['one', 'two'])
      expect(await deploy('constructor', code)).toMatchObject({ functionName: 'constructor' })
    expect(await deploy('caller', 'calls', { bindings: [service] })).toMatchObject({ generation: 3 })
  })

  test('beyond the most functions a fleet may have is refused', async () => {
    const { functions } = place.registry.head
    await deploy('shop', 'one')
    const record = place.registry.head.functions['shop']!
    const many = Object.fromEntries(
      Array.from({ length: CONTROL_LIMITS.functionsMax }, (_, index) => [
        `fn-${index}`,
        { ...record, name: `fn-${index}` },
      ]),
    )
    Object.defineProperty(place.registry.head, 'functions', { value: { ...functions, ...many } })
    await expect(deploy('one-more', 'one')).rejects.toThrow(refused('conflict', /10000 is the most/))
  })

  test('of another kind than before is refused', async () => {
    await deploy('shop', 'one')
    Object.assign(place.registry.head.functions['shop']!, { kind: 'container' })
    await expect(deploy('shop', 'two')).rejects.toThrow(refused('conflict', /is of kind "container"/))
  })
})
