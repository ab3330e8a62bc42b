import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { DeployResult, LimitsView, PolicyView, SettingsView } from '../../sdk/model/control.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../../sdk/model/function-limits.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { DEFAULT_POLICY } from '../../sdk/model/policy.ts'
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
  await deploy('shop')
})
afterEach(() => place.close())

const deploy = (name: string, options = {}): Promise<DeployResult> =>
  place.client.deployBundle(name, bundleOf(`code of ${name}`), { ...DEPLOY_OPTIONS, ...options })

const put = (path: string, body: unknown, headers?: Record<string, string>): Promise<Response> =>
  place.call('PUT', path, body, headers)

async function messageOf(response: Response): Promise<string> {
  const { error } = (await response.json()) as { error: { code: string; message: string } }
  expect([response.status, error.code]).toEqual([400, 'invalid_argument'])
  return error.message
}

describe('the policy of a function', () => {
  test('lies over the fleet’s, which lies over the default, and the view says what is from where', async () => {
    const { client } = place
    await client.setSettings({ policy: { max: 4, concurrency: 10 } })
    const view = await client.setPolicy('shop', { max: 2, idleMs: 'auto', ratePerS: 0.5 })
    expect(view).toMatchObject({
      functionName: 'shop',
      policy: { ...DEFAULT_POLICY, max: 2, concurrency: 10, idleMs: 'auto', ratePerS: 0.5 },
      set: { max: 2, idleMs: 'auto', ratePerS: 0.5 },
      fleet: { max: 4, concurrency: 10 },
    })
    expect(await client.getPolicy('shop')).toEqual(view)
    const again = await client.setPolicy('shop', { max: null, idleMs: null })
    expect([again.policy.max, again.policy.idleMs, again.set]).toEqual([4, 60_000, { ratePerS: 0.5 }])
  })

  test('shows why the function has as many instances as it has, and not those of others', async () => {
    const scaling = {
      functionName: 'shop',
      versionId: '0'.repeat(32),
      desired: 2,
      running: 1,
      paused: 0,
      starting: 1,
      reason: 'two are wanted',
      stableConcurrency: 70,
      panicConcurrency: 80,
      panicking: false,
    }
    place.node.scaling = [{ ...scaling, functionName: 'other' }, scaling]
    expect((await place.client.getPolicy('shop')).scaling).toEqual([scaling])
  })

  test('is in force when the change is answered', async () => {
    const asked: number[] = []
    const inForce = Promise.withResolvers<void>()
    place.node.whenLive = async (generation) => {
      asked.push(generation)
      await inForce.promise
    }
    let isAnswered = false
    const changed = place.client.setPolicy('shop', { min: 1 }).then(() => (isAnswered = true))
    await expect.poll(() => asked).toEqual([2])
    expect(isAnswered).toBe(false)
    inForce.resolve()
    await changed
  })

  test.each([
    [{ min: 3, max: 2 }, /min 3 is above max 2/],
    [{ min: 5 }, /min 5 is above max 4/],
    [{ burst: 10 }, /burst 10 has no rate/],
    [{ ratePerS: 100, burst: 10 }, /burst 10 is below the rate of 100/],
    [{ pauseMs: 60_000 }, /pause 60000 ms is not below idle 60000 ms/],
    [{ prewarm: [{ schedule: '0 8 * * *', min: 9, forMs: 60_000 }] }, /wants 9 instances and max is 4/],
    [
      { prewarm: [{ schedule: '0 25 * * *', min: 1, forMs: 60_000 }] },
      /"0 25 \* \* \*" is no cron expression/,
    ],
    [{ prewarm: [{ schedule: '0 0 30 2 *', min: 1, forMs: 60_000 }] }, /no such time ever comes/],
    [{ prewarm: [null] }, /null is none of/],
    [{ prewarm: [{ schedule: '0 8 * * *', min: 1, forMs: 60_000, zone: 'x' }] }, /no field "zone"/],
    [{ quota: 1, min: 2 }, /quota 1 is below min 2/],
    [{ weight: 0 }, /weight is 0: give a whole number from 1/],
    [{ ratePerS: -0.5 }, /ratePerS is -0.5: give a number from 0/],
    [{ idleMs: 'later' }, /idleMs is "later": give a whole number from 100 to \d+, or "auto"/],
    [{ colour: 1 }, /no field "colour": the fields are min, max/],
  ])('%j is refused with its values, and nothing is written', async (patch, message) => {
    await place.client.setPolicy('shop', { max: 4 })
    const before = place.store.get('head.json')?.etag
    expect(await messageOf(await put('/v1/functions/shop/policy', patch))).toMatch(message)
    expect(place.store.get('head.json')?.etag).toBe(before)
  })

  test.each(['[]', '7', 'null', '"min"'])('a body of %s is refused', async (body) => {
    for (const path of ['/v1/functions/shop/policy', '/v1/functions/shop/limits', '/v1/settings']) {
      expect(await messageOf(await put(path, body))).toMatch(/expected object/)
    }
  })

  test('a field that is named like a part of every object is a wrong field, not a lost one', async () => {
    expect(await messageOf(await put('/v1/functions/shop/policy', '{"__proto__":{"min":1}}'))).toMatch(
      /no field "__proto__"/,
    )
    expect(await messageOf(await put('/v1/functions/shop/limits', '{"constructor":1}'))).toMatch(
      /no field "constructor"/,
    )
  })
})

describe('changes', () => {
  test('are recorded with who, when and what, newest first', async () => {
    await put('/v1/functions/shop/policy', { min: 1, max: 4 }, { 'isola-actor': 'anna@laptop' })
    await put('/v1/functions/shop/limits', { memoryMib: 256 })
    const response = await put(
      '/v1/functions/shop/policy',
      { min: null, max: 8 },
      { 'isola-actor': 'ci run 7' },
    )
    const { changes } = (await response.json()) as PolicyView
    expect(changes).toEqual([
      {
        at: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) as string,
        by: 'ci run 7',
        what: 'policy',
        before: { min: 1, max: 4 },
        after: { min: null, max: 8 },
      },
      expect.objectContaining({
        by: 'anna@laptop',
        before: { min: null, max: null },
        after: { min: 1, max: 4 },
      }),
    ])
    const limits = await place.client.getLimits('shop')
    expect(limits.changes).toEqual([expect.objectContaining({ by: 'token', what: 'limits' })])
    expect((await place.client.getFunction('shop')).changes?.map(({ what }) => what)).toEqual([
      'policy',
      'limits',
      'policy',
    ])
  })

  test('what changes nothing is neither written nor recorded', async () => {
    const prewarm = [{ schedule: '0 8 * * mon-fri', min: 1, forMs: 3_600_000 }]
    await place.client.setPolicy('shop', { min: 1, prewarm })
    await place.client.setLimits('shop', { egress: ['api.example'] })
    await place.client.setSettings({ policy: { max: 8 }, ceiling: { cpuMs: 1_000 } })
    const before = place.store.get('head.json')?.etag
    await place.client.setPolicy('shop', { min: 1, prewarm, max: null })
    await place.client.setPolicy('shop', {})
    await place.client.setLimits('shop', { egress: ['API.example'], cpuMs: null })
    await place.client.setSettings({ policy: { max: 8, min: null }, limits: {}, ceiling: { cpuMs: 1_000 } })
    expect(place.store.get('head.json')?.etag).toBe(before)
    expect((await place.client.getPolicy('shop')).changes).toHaveLength(1)
  })

  test('are kept up to a bound', async () => {
    for (let min = 1; min <= CONTROL_LIMITS.settingChangesMax + 3; min++) {
      await place.client.setPolicy('shop', { min })
    }
    const { changes } = await place.client.getPolicy('shop')
    expect(changes).toHaveLength(CONTROL_LIMITS.settingChangesMax)
    expect(changes[0]?.after).toEqual({ min: CONTROL_LIMITS.settingChangesMax + 3 })
  })

  test('made at the same time are all recorded', async () => {
    const fields = ['min', 'queue', 'quota', 'weight', 'concurrency'] as const
    await Promise.all(fields.map((field) => place.client.setPolicy('shop', { [field]: 7 })))
    const { set, changes } = await place.client.getPolicy('shop')
    expect(set).toEqual({ min: 7, queue: 7, quota: 7, weight: 7, concurrency: 7 })
    expect(changes.flatMap(({ after }) => Object.keys(after)).sort()).toEqual([...fields].sort())
  })

  test('outlive a redeploy, with what is set', async () => {
    await place.client.setPolicy('shop', { min: 1 })
    await place.client.setLimits('shop', { memoryMib: 256 })
    const before = await place.client.getFunction('shop')
    await deploy('shop', { message: 'again' })
    const { policy, limits, changes } = await place.client.getFunction('shop')
    expect({ policy, limits, changes }).toEqual({
      policy: { min: 1 },
      limits: { memoryMib: 256 },
      changes: before.changes,
    })
  })

  test.each([
    ['too long', 'x'.repeat(CONTROL_LIMITS.actorCharsMax + 1)],
    ['empty', ''],
    ['not printable', 'a\tb'],
    ['not ASCII', 'jürgen'],
  ])('by somebody whose name is %s are refused', async (_what, actor) => {
    for (const path of ['/v1/functions/shop/policy', '/v1/functions/shop/limits', '/v1/settings']) {
      expect(await messageOf(await put(path, {}, { 'isola-actor': actor }))).toMatch(/isola-actor is/)
    }
  })
})

describe('the limits of a function', () => {
  test('lie over those of its version, which lie over the fleet’s', async () => {
    const { client } = place
    const result = await deploy('shop', { limits: { cpuMs: 700, memoryMib: 64 } })
    await client.setSettings({ limits: { cpuMs: 5_000, wallMs: 30_000 } })
    const view = await client.setLimits('shop', { memoryMib: 256, egress: 'none' })
    expect(view).toEqual({
      functionName: 'shop',
      limits: { ...DEFAULT_FUNCTION_LIMITS, cpuMs: 700, wallMs: 30_000, memoryMib: 256, egress: 'none' },
      set: { memoryMib: 256, egress: 'none' },
      versions: [{ versionId: versionOf(result), limits: { cpuMs: 700, memoryMib: 64 } }],
      fleet: { cpuMs: 5_000, wallMs: 30_000 },
      ceiling: {},
      changes: [expect.objectContaining({ after: { memoryMib: 256, egress: 'none' } })],
    })
    expect((await client.setLimits('shop', { memoryMib: null })).limits.memoryMib).toBe(64)
  })

  test.each([
    [{ cpuMs: 5 }, /cpuMs is 5: give a whole number from 10 to 3600000/],
    [{ memoryMib: 1e9 }, /memoryMib is 1000000000/],
    [{ wallMs: '30s' }, /wallMs is "30s"/],
    [{ colour: 1 }, /no field "colour": the fields are cpuMs/],
    [{ egress: 'https://api.example' }, /egress has "https:\/\/api.example"/],
    [{ egress: ['api.example:443'] }, /egress has "api.example:443"/],
    [{ egress: ['public', 'api.example'] }, /egress has "public"/],
    [{ egress: ['*.*.example'] }, /egress has/],
    [{ egress: [7] }, /egress has 7/],
    [
      { egress: Array.from({ length: 101 }, (_, index) => `h${index}.example`) },
      /names 101 hosts: give at most 100/,
    ],
  ])('%j is refused with its values', async (patch, message) => {
    expect(await messageOf(await put('/v1/functions/shop/limits', patch))).toMatch(message)
  })

  test('above the ceiling are refused with both values', async () => {
    await place.client.setSettings({ ceiling: { memoryMib: 256 } })
    expect(await messageOf(await put('/v1/functions/shop/limits', { memoryMib: 257 }))).toMatch(
      /memoryMib is 257 and the fleet's ceiling is 256/,
    )
    expect((await place.client.setLimits('shop', { memoryMib: 256 })).ceiling).toEqual({ memoryMib: 256 })
  })
})

describe('the ceiling', () => {
  test('when lowered holds down what is above it, and says what that is', async () => {
    const { client } = place
    const result = await deploy('asks', { limits: { cpuMs: 20_000 } })
    await deploy('overruled', { limits: { cpuMs: 20_000 } })
    await client.setLimits('overruled', { cpuMs: 1_000 })
    await client.setLimits('shop', { memoryMib: 512, wallMs: 1_000 })
    await client.setSettings({ limits: { memoryMib: 300 } })
    const view = await client.setSettings({ ceiling: { memoryMib: 256, cpuMs: 5_000, wallMs: 2_000 } })
    expect(view.held).toEqual([
      { field: 'memoryMib', wanted: 300, ceiling: 256 },
      { functionName: 'shop', field: 'memoryMib', wanted: 512, ceiling: 256 },
      { functionName: 'asks', versionId: versionOf(result), field: 'cpuMs', wanted: 20_000, ceiling: 5_000 },
    ])
    expect(await client.getSettings()).toEqual(view)
    const { limits, set } = await client.getLimits('shop')
    expect([limits.memoryMib, limits.wallMs, set.memoryMib]).toEqual([256, 1_000, 512])
    // The default is above it too, but nobody asked for that.
    expect((await client.getLimits('asks')).limits).toMatchObject({ cpuMs: 5_000, wallMs: 2_000 })
    const raised = await client.setSettings({ ceiling: { memoryMib: null, cpuMs: null } })
    expect(raised.held).toEqual([])
    expect((await client.getLimits('shop')).limits.memoryMib).toBe(512)
  })

  test('refuses a new version that asks for more, before it is started', async () => {
    await place.client.setSettings({ ceiling: { cpuMs: 5_000 } })
    const started = place.started.length
    const wrong = refused('invalid_argument', /cpuMs is 6000 and the fleet's ceiling is 5000/)
    await expect(deploy('greedy', { limits: { cpuMs: 6_000 } })).rejects.toThrow(wrong)
    const modules = await place.client.uploadBlobs(bundleOf('other').modules)
    const request = { ...DEPLOY_OPTIONS, mainModule: 'index.js', modules, limits: { cpuMs: 6_000 } }
    const { routes: _r, baseDomainHost: _b, previewHosts: _p, ...version } = request
    await expect(place.client.createVersion('shop', version)).rejects.toThrow(wrong)
    expect(place.started).toHaveLength(started)
    await deploy('modest', { limits: { cpuMs: 5_000 } })
  })

  test('counts for the fleet’s limits of the same change', async () => {
    expect(
      await messageOf(await put('/v1/settings', { ceiling: { cpuMs: 100 }, limits: { cpuMs: 200 } })),
    ).toMatch(/cpuMs is 200 and the fleet's ceiling is 100/)
    expect((await place.client.getSettings()).ceiling).toEqual({})
  })

  test('has no egress', async () => {
    expect(await messageOf(await put('/v1/settings', { ceiling: { egress: 'none' } }))).toMatch(
      /egress has none/,
    )
  })
})

describe('the settings of the fleet', () => {
  test('are none until something is set, then all three with their changes', async () => {
    expect(await place.client.getSettings()).toEqual({
      policy: {},
      limits: {},
      ceiling: {},
      changes: [],
      held: [],
    })
    const response = await put(
      '/v1/settings',
      { policy: { max: 4 }, limits: { wallMs: 30_000 }, ceiling: { memoryMib: 512 } },
      { 'isola-actor': 'anna@laptop' },
    )
    const view = (await response.json()) as SettingsView
    expect(view).toMatchObject({
      policy: { max: 4 },
      limits: { wallMs: 30_000 },
      ceiling: { memoryMib: 512 },
    })
    expect(new Map(view.changes.map(({ what, by }) => [what, by]))).toEqual(
      new Map([
        ['ceiling', 'anna@laptop'],
        ['limits', 'anna@laptop'],
        ['policy', 'anna@laptop'],
      ]),
    )
    expect((await place.registry.refresh()).generation).toBe(2)
    expect((await place.client.getPolicy('shop')).policy.max).toBe(4)
    const limits: LimitsView = await place.client.getLimits('shop')
    expect([limits.limits.wallMs, limits.ceiling]).toEqual([30_000, { memoryMib: 512 }])
  })

  test('that would make a function’s policy impossible are refused by its name, and nothing is written', async () => {
    await place.client.setPolicy('shop', { min: 5 })
    const before = place.store.get('head.json')?.etag
    expect(
      await messageOf(await put('/v1/settings', { policy: { max: 4 }, limits: { wallMs: 1_000 } })),
    ).toMatch(/function "shop" could not keep its policy .*: policy min 5 is above max 4/)
    expect(await messageOf(await put('/v1/settings', { policy: { min: 3, max: 2 } }))).toMatch(
      /^policy min 3 is above max 2/,
    )
    expect(place.store.get('head.json')?.etag).toBe(before)
    await place.client.setPolicy('shop', { max: 6 })
    expect((await place.client.setSettings({ policy: { max: 4 } })).policy).toEqual({ max: 4 })
  })

  test('of unknown parts are refused', async () => {
    expect(await messageOf(await put('/v1/settings', { polcy: {} }))).toMatch(/Unrecognized key: "polcy"/)
  })
})

describe('usage and metrics', () => {
  test('usage is asked for since a time, of one function or all', async () => {
    const queries: unknown[] = []
    place.node.usage = async (query) => {
      queries.push(query)
      return { hours: [], lagS: 10 }
    }
    for (const query of [
      'since=2026-11-21T14:30:00Z',
      'since=2026-11-21T15:30:00%2B01:00&function=shop',
      'since=2026-11-21',
      'since=1795271400',
      'since=1795271400000',
    ]) {
      const response = await place.call('GET', `/v1/usage?${query}`)
      expect(await response.json()).toEqual({ hours: [], lagS: 10 })
    }
    const sinceMs = Date.UTC(2026, 10, 21, 14, 30)
    expect(queries).toEqual([
      { sinceMs },
      { sinceMs, functionName: 'shop' },
      { sinceMs: Date.UTC(2026, 10, 21) },
      { sinceMs },
      { sinceMs },
    ])
    const nowMs = Date.now()
    await place.client.usage()
    const { sinceMs: byDefault } = queries.at(-1) as { sinceMs: number }
    const agoMs = nowMs - byDefault
    expect(agoMs).toBeLessThanOrEqual(CONTROL_LIMITS.usageSinceMsDefault)
    expect(agoMs).toBeGreaterThan(CONTROL_LIMITS.usageSinceMsDefault - 60_000)
  })

  test.each([
    ['since=yesterday', /since is "yesterday"/],
    ['since=', /since is ""/],
    ['since=2026-02-31', /since is "2026-02-31"/],
    ['since=2026-13-01', /since is "2026-13-01"/],
    ['since=2026-11-21T14:00:00', /since is "2026-11-21T14:00:00"/],
    ['since=-5', /since is "-5"/],
    ['function=Sh_op', /function name "Sh_op"/],
    ['sinse=1', /no parameter "sinse"/],
  ])('a query of %s is refused with the value', async (query, message) => {
    expect(await messageOf(await place.call('GET', `/v1/usage?${query}`))).toMatch(message)
  })

  test('metrics have the content type of the port, for a bearer of the token only', async () => {
    const response = await place.call('GET', '/metrics')
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4')
    expect(await response.text()).toBe('isola_up 1\n')
    expect((await fetch(`${place.url}/metrics`)).status).toBe(401)
    expect((await place.call('POST', '/metrics')).status).toBe(405)
    expect(await place.client.metrics()).toBe('isola_up 1\n')
  })
})
