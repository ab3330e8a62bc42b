import * as fc from 'fast-check'
import { blobsOf } from '../../sdk/model/function.ts'
import { beforeEach, describe, expect, test } from 'vitest'
import type { Registry } from '../../runtime/registry/registry.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import {
  bytes,
  createRegistryPlace,
  deployVersion,
  sha256,
  storeVersion,
  without,
  type RegistryPlace,
} from '../harness/registry-fixture.ts'

const HOUR_MS = 3_600_000
let place: RegistryPlace
beforeEach(() => {
  place = createRegistryPlace()
})
const open = (): Promise<Registry> => place.open()

describe('the collection', () => {
  test('removes what nothing names once it is old, and leaves what is live, recent or previous', async () => {
    const registry = await open()
    const orphanBlob = bytes('never used')
    await registry.putBlob(sha256(orphanBlob), orphanBlob)
    const deleted = await deployVersion(registry, 'deleted', 'deleted code')
    const previous = await deployVersion(registry, 'shop', 'previous code')
    const current = await deployVersion(registry, 'shop', 'current code')
    await registry.swap((head) => without(head, 'deleted'))
    expect(await registry.collect({ graceMs: HOUR_MS })).toEqual({ versions: 0, blobs: 0 })

    place.nowMs += HOUR_MS + 1
    const young = bytes('just uploaded')
    await registry.putBlob(sha256(young), young)
    expect(await registry.collect({ graceMs: HOUR_MS })).toEqual({ versions: 1, blobs: 2 })
    expect(await registry.getVersion('deleted', deleted.id)).toBeUndefined()
    expect(await registry.hasBlob(sha256(orphanBlob))).toBe(false)
    expect(await registry.hasBlob(sha256(young))).toBe(true)
    for (const version of [previous, current]) {
      expect(await registry.getVersion('shop', version.id)).toEqual(version)
      expect(await registry.hasBlob(blobsOf(version.content)[0]!.sha256)).toBe(true)
    }
    expect(await registry.collect({ graceMs: HOUR_MS })).toEqual({ versions: 0, blobs: 0 })
  })

  test('keeps the newest versions of each function, and the live one however old', async () => {
    const registry = await open()
    const live = await deployVersion(registry, 'shop', 'live')
    for (let index = 0; index < CONTROL_LIMITS.keptVersionsMax + 5; index++) {
      place.nowMs += 1_000
      await storeVersion(registry, 'shop', `code ${index}`)
    }
    place.nowMs += HOUR_MS
    expect(await registry.collect({ graceMs: 10 })).toEqual({ versions: 5, blobs: 5 })
    expect(await registry.getVersion('shop', live.id)).toBeDefined()
    expect(await registry.listVersionIds('shop')).toHaveLength(CONTROL_LIMITS.keptVersionsMax + 1)
  })

  test('storing an old version again makes it young', async () => {
    const registry = await open()
    await storeVersion(registry, 'gone', 'a')
    place.nowMs += 2 * HOUR_MS
    await storeVersion(registry, 'gone', 'a')
    expect(await registry.collect({ graceMs: HOUR_MS })).toEqual({ versions: 0, blobs: 0 })
  })

  test('a blob that two functions use stays while one of them is left', async () => {
    const registry = await open()
    await deployVersion(registry, 'one', 'same code')
    const two = await deployVersion(registry, 'two', 'same code')
    await registry.swap((head) => without(head, 'one'))
    place.nowMs += HOUR_MS
    expect(await registry.collect({ graceMs: 10 })).toEqual({ versions: 1, blobs: 0 })
    expect(await registry.getBlob(blobsOf(two.content)[0]!.sha256)).toBeDefined()
  })

  test('stops before the blobs where a version cannot be read', async () => {
    const registry = await open()
    const { id } = await deployVersion(registry, 'shop', 'a')
    place.store.set(`versions/shop/${id}.json`, { body: bytes('{'), etag: 'e', modifiedAtMs: place.nowMs })
    place.nowMs += HOUR_MS
    await expect(registry.collect({ graceMs: 10 })).rejects.toMatchObject({ code: 'data_unusable' })
    expect(await registry.hasBlob(sha256(bytes('a')))).toBe(true)
  })

  test('swaps and collections together never leave a head that names what is gone', async () => {
    const registry = await open()
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 8 }), async (codes) => {
        place.nowMs += HOUR_MS
        await Promise.all([
          ...codes.map((code) => deployVersion(registry, 'shop', `code ${code}`)),
          registry.collect({ graceMs: 10 }),
          registry.collect({ graceMs: 10 }),
        ])
        for (const record of Object.values(registry.head.functions)) {
          for (const { versionId } of record.deployment.shares) {
            const version = await registry.getVersion(record.name, versionId)
            await registry.getBlob(blobsOf(version!.content)[0]!.sha256)
          }
        }
      }),
      { numRuns: 30 },
    )
  })
})
