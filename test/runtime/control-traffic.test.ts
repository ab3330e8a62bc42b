import { afterEach, beforeEach, describe, expect, test } from 'vitest'
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

describe('versions', () => {
  test('are listed newest first with traffic and preview address', async () => {
    const one = versionOf(await deploy('shop', 'one'))
    const two = versionOf(await deploy('shop', 'two', { message: 'second' }))
    const versions = await place.client.listVersions('shop')
    expect(versions.map(({ id, percent }) => ({ id, percent }))).toEqual(
      expect.arrayContaining([
        { id: two, percent: 100 },
        { id: one, percent: 0 },
      ]),
    )
    expect(versions.find((version) => version.id === two)).toMatchObject({
      message: 'second',
      previewUrl: `http://${two.slice(0, 8)}-shop.localhost:8080/`,
    })
    await deploy('shop', 'two', { previewHosts: false })
    expect((await place.client.listVersions('shop'))[0]?.previewUrl).toBeUndefined()
  })

  test('a version too old for the recent ones, or with too long a name, has no preview address', async () => {
    const first = versionOf(await deploy('shop', 'first'))
    for (let index = 0; index < CONTROL_LIMITS.recentVersionsMax; index++)
      await deploy('shop', `code ${index}`)
    const { recentVersionIds } = await place.client.getFunction('shop')
    expect(recentVersionIds).toHaveLength(CONTROL_LIMITS.recentVersionsMax)
    const versions = await place.client.listVersions('shop')
    expect(versions.find((version) => version.id === first)).not.toHaveProperty('previewUrl')
    const longName = 'n'.repeat(60)
    await deploy(longName, 'one')
    expect((await place.client.listVersions(longName))[0]).not.toHaveProperty('previewUrl')
  })

  test('a version is created without traffic and answers on its preview host', async () => {
    const one = versionOf(await deploy('shop', 'one'))
    const bundle = bundleOf('two')
    const modules = await place.client.uploadBlobs(bundle.modules)
    const { kind, bindings, compatibilityDate, compatibilityFlags } = DEPLOY_OPTIONS
    const request = { kind, bindings, compatibilityDate, compatibilityFlags, mainModule: 'index.js', modules }
    const version = await place.client.createVersion('shop', request)
    const record = await place.client.getFunction('shop')
    expect(record.deployment.shares).toEqual([{ versionId: one, percent: 100 }])
    expect(record.recentVersionIds).toEqual([version.id, one])
    expect(place.started.at(-1)?.id).toBe(version.id)
    await expect(place.client.createVersion('nothing', request)).rejects.toMatchObject({
      code: 'function_not_found',
    })
  })
})

describe('traffic', () => {
  test('is divided over versions named by a few digits', async () => {
    const one = versionOf(await deploy('shop', 'one'))
    const two = versionOf(await deploy('shop', 'two'))
    const result = await place.client.setTraffic('shop', {
      shares: [
        { versionId: one.slice(0, 8), percent: 90 },
        { versionId: two.toUpperCase(), percent: 10 },
      ],
      message: 'canary',
    })
    expect(result.deployment).toMatchObject({
      message: 'canary',
      shares: [
        { versionId: one, percent: 90 },
        { versionId: two, percent: 10 },
      ],
    })
    expect(result).not.toHaveProperty('trialMs')
  })

  test('thirds are taken as everything', async () => {
    const ids = [await deploy('shop', 'a'), await deploy('shop', 'b'), await deploy('shop', 'c')].map(
      versionOf,
    )
    const shares = ids.map((versionId) => ({ versionId, percent: 33.33 }))
    expect((await place.client.setTraffic('shop', { shares })).deployment.shares).toEqual(shares)
  })

  test('that is impossible is refused and changes nothing', async () => {
    const one = versionOf(await deploy('shop', 'one'))
    const two = versionOf(await deploy('shop', 'two'))
    const { generation } = place.registry.head
    const cases: [readonly { versionId: string; percent: number }[], string, RegExp][] = [
      [[], 'invalid_argument', /over 0 versions/],
      [[{ versionId: one, percent: 50 }], 'invalid_argument', /sum to 50 percent/],
      [[{ versionId: one, percent: 0 }], 'invalid_argument', /0 percent/],
      [[{ versionId: one, percent: -1 }], 'invalid_argument', /-1 percent/],
      [[{ versionId: one, percent: 101 }], 'invalid_argument', /101 percent/],
      [[{ versionId: one.slice(0, 7), percent: 100 }], 'invalid_argument', /is no version id/],
      [[{ versionId: '../../head', percent: 100 }], 'invalid_argument', /is no version id/],
      [[{ versionId: '0'.repeat(32), percent: 100 }], 'version_not_found', /has no version 0000/],
      [
        [
          { versionId: one, percent: 50 },
          { versionId: one.slice(0, 10), percent: 50 },
        ],
        'invalid_argument',
        /there twice/,
      ],
      [
        Array.from({ length: CONTROL_LIMITS.trafficSharesMax + 1 }, () => ({ versionId: two, percent: 9 })),
        'invalid_argument',
        /over 11 versions/,
      ],
    ]
    for (const [shares, code, message] of cases) {
      await expect(place.client.setTraffic('shop', { shares })).rejects.toThrow(refused(code, message))
    }
    expect(place.registry.head.generation).toBe(generation)
  })

  test('a short id that two versions begin with is refused with both', async () => {
    const id = versionOf(await deploy('shop', 'one'))
    const twin = `${id.slice(0, 12)}${'0'.repeat(20)}`
    place.store.set(`versions/shop/${twin}.json`, place.store.get(`versions/shop/${id}.json`)!)
    const shares = [{ versionId: id.slice(0, 12), percent: 100 }]
    await expect(place.client.setTraffic('shop', { shares })).rejects.toThrow(
      refused('invalid_argument', /short for 2 versions .*give more digits/),
    )
  })
})

describe('rollback', () => {
  test('goes back to the deployment before, with its shares, and keeps routes', async () => {
    const one = versionOf(await deploy('shop', 'one'))
    const two = versionOf(await deploy('shop', 'two'))
    const shares = [
      { versionId: one, percent: 25 },
      { versionId: two, percent: 75 },
    ]
    await place.client.setTraffic('shop', { shares })
    await deploy('shop', 'three', { routes: [{ pattern: 'new.example/*' }] })
    const back = await place.client.rollback('shop')
    expect(back.deployment.shares).toEqual(shares)
    expect((await place.client.getFunction('shop')).routes).toHaveLength(1)
    const forth = await place.client.rollback('shop')
    expect(forth.deployment.shares).toHaveLength(1)
  })

  test('goes to a named version with all the traffic', async () => {
    const one = versionOf(await deploy('shop', 'one'))
    await deploy('shop', 'two')
    await deploy('shop', 'three')
    const result = await place.client.rollback('shop', { versionId: one.slice(0, 8) })
    expect(result.deployment.shares).toEqual([{ versionId: one, percent: 100 }])
    await expect(place.client.rollback('shop', { versionId: 'f'.repeat(32) })).rejects.toMatchObject({
      code: 'version_not_found',
    })
  })

  test('of what was deployed once, or not at all, is refused', async () => {
    await deploy('shop', 'one')
    await expect(place.client.rollback('shop')).rejects.toThrow(refused('conflict', /no earlier deployment/))
    await expect(place.client.rollback('nothing')).rejects.toMatchObject({ code: 'function_not_found' })
  })

  test('is refused when somebody deploys at the same moment', async () => {
    await deploy('shop', 'one')
    await deploy('shop', 'two')
    const getDeployment = place.registry.getDeployment.bind(place.registry)
    Object.assign(place.registry, {
      async getDeployment(functionName: string, id: string) {
        await deploy('shop', 'three')
        return getDeployment(functionName, id)
      },
    })
    await expect(place.client.rollback('shop')).rejects.toThrow(refused('conflict', /someone else/))
  })
})
