import { expect, test } from 'vitest'
import { bytes, createRegistryPlace, deployVersion, sha256 } from '../harness/registry-fixture.ts'

const HASH = 'a'.repeat(32)

test('a digest of wrangler’s stands for a file as long as its bytes are stored, and is forgotten with them', async () => {
  const place = createRegistryPlace()
  const registry = await place.open()
  const body = bytes('a file')
  const file = { sha256: sha256(body), sizeBytes: body.byteLength, contentType: 'text/plain' }
  expect(await registry.getAsset(HASH)).toBeUndefined()
  await registry.putAsset(HASH, file)
  // The bytes are not there yet.
  expect(await registry.getAsset(HASH)).toBeUndefined()
  await registry.putBlob(file.sha256, body)
  expect(await registry.getAsset(HASH)).toEqual(file)

  await deployVersion(registry, 'kept', 'code')
  place.nowMs += 10_000
  expect(await registry.collect({ graceMs: 1_000 })).toMatchObject({ blobs: 1 })
  expect(await registry.getAsset(HASH)).toBeUndefined()
  expect([...place.store.keys()].filter((key) => key.includes(HASH))).toEqual([])
  registry.close()
})

test('what was said last of a file is what is known, and equal words write nothing', async () => {
  const place = createRegistryPlace()
  const registry = await place.open()
  const body = bytes('a file')
  const file = { sha256: sha256(body), sizeBytes: body.byteLength }
  await registry.putBlob(file.sha256, body)
  await registry.putAsset(HASH, file)
  await registry.putAsset(HASH, { ...file, contentType: 'text/html' })
  expect(await registry.getAsset(HASH)).toEqual({ ...file, contentType: 'text/html' })
  const [key = ''] = [...place.store.keys()].filter((each) => each.includes(HASH))
  const etag = place.store.get(key)?.etag
  await registry.putAsset(HASH, { ...file, contentType: 'text/html' })
  expect(place.store.get(key)?.etag).toBe(etag)
  place.store.set(key, { body: bytes('{"sha256":1}'), etag: 'x', modifiedAtMs: 0 })
  await expect(registry.getAsset(HASH)).rejects.toMatchObject({ code: 'data_unusable' })
  registry.close()
})
