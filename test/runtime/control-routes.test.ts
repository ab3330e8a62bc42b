import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { DeployResult } from '../../sdk/model/control.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { DEFAULT_POLICY } from '../../sdk/model/policy.ts'
import {
  bundleOf,
  DEPLOY_OPTIONS,
  openControlPlace,
  refused,
  type ControlPlace,
} from '../harness/control-place.ts'

let place: ControlPlace
beforeEach(async () => {
  place = await openControlPlace()
})
afterEach(() => place.close())

const deploy = (name: string, code: string, options = {}): Promise<DeployResult> =>
  place.client.deployBundle(name, bundleOf(code), { ...DEPLOY_OPTIONS, ...options })

describe('routes, policy and deletion', () => {
  test('an operator route is added, given an origin, listed and removed', async () => {
    await deploy('shop', 'one')
    await place.client.addRoute('shop', { pattern: 'Site.example' })
    await place.client.addRoute('shop', { pattern: 'site.example/*', origin: 'https://Origin.example:443' })
    expect(await place.client.listRoutes()).toEqual([
      {
        functionName: 'shop',
        pattern: 'site.example/*',
        source: 'operator',
        origin: 'https://origin.example',
      },
    ])
    await place.client.removeRoute('shop', { pattern: 'SITE.example' })
    expect(await place.client.listRoutes()).toEqual([])
    await expect(place.client.removeRoute('shop', { pattern: 'site.example' })).rejects.toThrow(
      refused('not_found', /it has none/),
    )
  })

  test('a bad pattern, origin or function is refused, and so are too many routes', async () => {
    const routes = Array.from({ length: CONTROL_LIMITS.routesPerFunctionMax }, (_, index) => ({
      pattern: `r${index}.example/*`,
    }))
    await deploy('shop', 'one', { routes })
    await deploy('other', 'one')
    const add = (name: string, route: { pattern: string; origin?: string }): Promise<unknown> =>
      place.client.addRoute(name, route)
    await expect(add('shop', { pattern: 'http://a.example/' })).rejects.toThrow(
      refused('invalid_argument', /scheme/),
    )
    await expect(add('shop', { pattern: 'a.example', origin: 'ftp://a' })).rejects.toMatchObject({
      code: 'invalid_argument',
    })
    await expect(add('nothing', { pattern: 'a.example' })).rejects.toMatchObject({
      code: 'function_not_found',
    })
    await expect(add('other', { pattern: 'r0.example' })).rejects.toMatchObject({
      code: 'route_taken',
      details: { pattern: 'r0.example/*', functionName: 'shop' },
    })
    await expect(add('shop', { pattern: 'more.example' })).rejects.toThrow(
      refused('invalid_argument', /101 routes and 100 is the most/),
    )
  })

  test('the function’s own host name is no clash for an explicit route', async () => {
    await deploy('shop', 'one')
    await deploy('front', 'two')
    expect(await place.client.addRoute('front', { pattern: 'shop.localhost/*' })).toEqual({ generation: 3 })
  })

  test('a policy is changed field by field, and an impossible one changes nothing', async () => {
    await deploy('shop', 'one')
    expect((await place.client.setPolicy('shop', { min: 1, max: 2 })).policy).toEqual({
      ...DEFAULT_POLICY,
      min: 1,
      max: 2,
    })
    for (const patch of [{ min: 5 }, { max: -1 }, { queue: 1.5 }, { sizes: 3 }]) {
      await expect(place.client.setPolicy('shop', patch)).rejects.toMatchObject({ code: 'invalid_argument' })
    }
    expect((await place.client.getFunction('shop')).policy).toMatchObject({ min: 1, max: 2 })
  })

  test('a deleted function is gone with its routes, and its name is free', async () => {
    await deploy('shop', 'one', { routes: [{ pattern: 'shop.example/*' }] })
    expect(await place.client.deleteFunction('shop')).toEqual({ generation: 2 })
    expect(await place.client.listRoutes()).toEqual([])
    await expect(place.client.getFunction('shop')).rejects.toThrow(
      refused('function_not_found', /nothing is deployed/),
    )
    await expect(place.client.deleteFunction('shop')).rejects.toMatchObject({ code: 'function_not_found' })
    await deploy('other', 'one', { routes: [{ pattern: 'shop.example/*' }] })
    await expect(place.client.getFunction('shop')).rejects.toThrow(/deployed are other/)
    expect(await place.registry.collect({ graceMs: -1 })).toMatchObject({ versions: 1 })
  })

  test('URLs leave out a port of 80 and a router that is down', async () => {
    for (const port of [80, 0]) {
      place.node.httpPort = port
      expect((await deploy('shop', 'one')).urls).toEqual(['http://shop.localhost/'])
    }
  })
})
