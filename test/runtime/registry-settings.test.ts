import { beforeEach, expect, test } from 'vitest'
import type { Head } from '../../sdk/model/function.ts'
import { NO_SETTINGS } from '../../sdk/model/settings.ts'
import {
  bytes,
  createRegistryPlace,
  deployVersion,
  recordOf,
  storeVersion,
  type RegistryPlace,
} from '../harness/registry-fixture.ts'

let place: RegistryPlace
beforeEach(() => {
  place = createRegistryPlace()
})

/** The head that is read once the stored one has been changed by somebody else. */
async function withShop(change: (record: Record<string, unknown>, head: object) => void): Promise<Head> {
  const registry = await place.open()
  await deployVersion(registry, 'shop', 'a')
  const stored = place.store.get('head.json')!
  const document = JSON.parse(Buffer.from(stored.body).toString()) as {
    functions: { shop: Record<string, unknown> }
  }
  change(document.functions.shop, document)
  place.store.set('head.json', { ...stored, etag: 'changed', body: bytes(JSON.stringify(document)) })
  return (await place.open()).head
}

test('settings of the fleet are swapped beside functions, and neither loses the other', async () => {
  const registry = await place.open()
  const { id } = await storeVersion(registry, 'shop', 'a')
  const settings = { ...NO_SETTINGS, policy: { max: 4 } }
  await Promise.all([
    registry.swap((head) => ({ ...head.functions, shop: recordOf('shop', [id]) })),
    registry.swapSettings(() => settings),
    registry.swapSettings((head) => head.settings),
  ])
  const { head } = await place.open()
  expect(head).toMatchObject({ settings, functions: { shop: {} }, generation: 1 })
  const before = place.store.get('head.json')?.etag
  await registry.swapSettings(() => undefined)
  await registry.swapSettings((head) => head.settings)
  expect(place.store.get('head.json')?.etag).toBe(before)
  await registry.swap(() => ({}))
  expect(registry.head.settings).toEqual(settings)
})

test('of a whole policy, as older releases wrote it, only what was chosen counts as set', async () => {
  const whole = { min: 0, max: 3, concurrency: 50, queue: 1_000, queueTimeoutMs: 10_000, idleMs: 60_000 }
  const older = await withShop((record) => (record['policy'] = whole))
  expect(older.functions['shop']?.policy).toEqual({ max: 3 })
  const chosen = { at: '', by: 'anna', what: 'policy', before: {}, after: {} }
  const newer = await withShop((record) => Object.assign(record, { policy: whole, changes: [chosen] }))
  expect(newer.functions['shop']?.policy).toEqual(whole)
})

test.each([
  ['a policy', { policy: { min: 'two' } }],
  ['an idle time', { policy: { idleMs: 'later' } }],
  ['a prewarm', { policy: { prewarm: [{ schedule: 7 }] } }],
  ['a limit', { limits: { cpuMs: -1 } }],
  ['an egress rule', { limits: { egress: 'everywhere' } }],
  ['a change', { changes: [{ by: 'anna' }] }],
])('%s of the wrong type is a damaged head', async (_what, wrong) => {
  await expect(withShop((record) => Object.assign(record, wrong))).rejects.toThrow(
    /damaged \(functions\.shop\./,
  )
})

test('what a newer release has in the settings is kept; settings of the wrong type are a damaged head', async () => {
  const settings = { policy: { colour: 1 }, limits: {}, ceiling: { colours: 2 }, changes: [], more: 3 }
  expect((await withShop((_, head) => Object.assign(head, { settings }))).settings).toEqual(settings)
  await expect(
    withShop((_, head) => Object.assign(head, { settings: { policy: { max: 'x' } } })),
  ).rejects.toThrow(/damaged \(settings\.policy\.max/)
})
