import * as fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import type { Bucket } from '../../runtime/registry/bucket.ts'
import type { Registry } from '../../runtime/registry/registry.ts'
import { canonicalJson, versionId } from '../../runtime/registry/version-id.ts'
import type { Head, Version, VersionContent } from '../../sdk/model/function.ts'
import { REGISTRY_LIMITS } from '../../sdk/model/limits.ts'
import {
  bytes,
  contentOf,
  createRegistryPlace,
  deployVersion,
  recordOf,
  sha256,
  storeVersion,
  type RegistryPlace,
} from '../harness/registry-fixture.ts'

let place: RegistryPlace
beforeEach(() => {
  place = createRegistryPlace()
})
const open = (bucket?: Bucket): Promise<Registry> => place.open(bucket)

/** A bucket whose operations a test can replace. */
function altered(bucket: Bucket, changes: Partial<Bucket>): Bucket {
  return {
    get: (key) => bucket.get(key),
    head: (key) => bucket.head(key),
    putIfAbsent: (key, body) => bucket.putIfAbsent(key, body),
    putIfMatch: (key, body, etag) => bucket.putIfMatch(key, body, etag),
    delete: (key) => bucket.delete(key),
    list: (prefix) => bucket.list(prefix),
    close: () => bucket.close(),
    ...changes,
  }
}

describe('version ids', () => {
  test('equal content has an equal id, whatever the order of its keys', () => {
    const content = contentOf('a')
    const reordered = Object.fromEntries(Object.entries(content).reverse()) as unknown as VersionContent
    expect(versionId('shop', reordered)).toBe(versionId('shop', content))
    expect(versionId('shop', content)).toMatch(/^[0-9a-f]{32}$/)
  })

  test('name and content both decide it', () => {
    const ids = [
      versionId('a', contentOf('x')),
      versionId('b', contentOf('x')),
      versionId('a', contentOf('y')),
    ]
    expect(new Set(ids).size).toBe(3)
  })

  test('canonical JSON means the same as JSON', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)))
      }),
    )
  })

  test('a key named __proto__ is part of it', () => {
    expect(
      canonicalJson(JSON.parse('{"b":1,"__proto__":2,"a":[undefined]}'.replace('undefined', 'null'))),
    ).toBe('{"__proto__":2,"a":[null],"b":1}')
  })
})

describe('blobs and versions', () => {
  test('a blob comes back as it was stored, and storing it twice is no error', async () => {
    const registry = await open()
    const body = bytes('code')
    await registry.putBlob(sha256(body), body)
    await registry.putBlob(sha256(body), body)
    expect(await registry.hasBlob(sha256(body))).toBe(true)
    expect(await registry.blobSizeBytes(sha256(body))).toBe(4)
    expect(await registry.getBlob(sha256(body))).toEqual(body)
  })

  test('bytes of another digest are refused and not stored', async () => {
    const registry = await open()
    const claimed = sha256(bytes('code'))
    await expect(registry.putBlob(claimed, bytes('other'))).rejects.toMatchObject({ code: 'digest_mismatch' })
    expect(await registry.hasBlob(claimed)).toBe(false)
    await expect(registry.getBlob(claimed)).rejects.toMatchObject({ code: 'blob_missing' })
  })

  test('a blob that changed on the disk is not handed out', async () => {
    const registry = await open()
    const digest = sha256(bytes('code'))
    await registry.putBlob(digest, bytes('code'))
    const key = `blobs/${digest}`
    place.store.set(key, { ...place.store.get(key)!, body: bytes('evil') })
    await expect(registry.getBlob(digest)).rejects.toMatchObject({ code: 'data_unusable' })
  })

  test('a version whose blobs are not all there is refused with their digests', async () => {
    const registry = await open()
    const content = contentOf('never uploaded')
    const id = versionId('shop', content)
    const version = { id, functionName: 'shop', content, createdAt: '', message: '' }
    await expect(registry.putVersion(version)).rejects.toMatchObject({
      code: 'blob_missing',
      details: { missing: [content.modules[0]?.sha256] },
    })
    expect(await registry.getVersion('shop', id)).toBeUndefined()
  })

  test('a version is stored once: the first creation stays', async () => {
    const registry = await open()
    const version = await storeVersion(registry, 'shop', 'a')
    await registry.putVersion({ ...version, message: 'again', createdAt: '2030-01-01T00:00:00.000Z' })
    expect(await registry.getVersion('shop', version.id)).toEqual(version)
  })

  test('an id that is not of the content is our own bug', async () => {
    const registry = await open()
    const version = await storeVersion(registry, 'shop', 'a')
    await expect(registry.putVersion({ ...version, id: '0'.repeat(32) })).rejects.toThrow(
      /made from its content/,
    )
  })

  test('versions are listed newest first, of one function only', async () => {
    const registry = await open()
    const names: string[] = []
    for (const code of ['one', 'two', 'three']) {
      place.nowMs += 1_000
      names.unshift((await storeVersion(registry, 'shop', code, place.nowMs)).id)
      await storeVersion(registry, 'shop-2', code)
    }
    expect((await registry.listVersions('shop')).map((version) => version.id)).toEqual(names)
    expect([...(await registry.listVersionIds('shop'))].sort()).toEqual([...names].sort())
    expect(await registry.listVersions('sho')).toEqual([])
  })
})

describe('the head', () => {
  test('is made once, empty, at generation 0, also when many open at the same time', async () => {
    const registries = await Promise.all(Array.from({ length: 10 }, () => open()))
    expect(new Set(registries.map((registry) => registry.head.writeId)).size).toBe(1)
    expect(registries[0]?.head).toMatchObject({ generation: 0, formatVersion: 1 })
    expect(Object.keys(registries[0]?.head.functions ?? {})).toEqual([])
  })

  test('a swap is seen by the next opener, and listeners hear of it once', async () => {
    const registry = await open()
    const heard: number[] = []
    const stop = registry.onChange((head) => heard.push(head.generation))
    const version = await deployVersion(registry, 'shop', 'a')
    expect(heard).toEqual([1])
    stop()
    await deployVersion(registry, 'shop', 'b')
    expect(heard).toEqual([1])
    const again = await open()
    expect(again.head).toEqual(registry.head)
    expect(again.head.generation).toBe(2)
    expect(await again.getVersion('shop', version.id)).toEqual(version)
  })

  test('a change that returns what it got writes nothing', async () => {
    const registry = await open()
    const before = place.store.get('head.json')?.etag
    expect((await registry.swap((head) => head.functions)).generation).toBe(0)
    expect(place.store.get('head.json')?.etag).toBe(before)
  })

  test('what a change throws passes through, writes nothing, and spoils no other swap', async () => {
    const registry = await open()
    const a = await storeVersion(registry, 'a', 'a')
    const b = await storeVersion(registry, 'b', 'b')
    const results = await Promise.allSettled([
      registry.swap((head) => ({ ...head.functions, a: recordOf('a', [a.id]) })),
      registry.swap(() => {
        throw new RangeError('not this one')
      }),
      registry.swap((head) => ({ ...head.functions, b: recordOf('b', [b.id]) })),
    ])
    expect(results.map((result) => result.status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(results[1]).toMatchObject({ reason: new RangeError('not this one') })
    expect(Object.keys(registry.head.functions).sort()).toEqual(['a', 'b'])
  })

  test('a version that is not stored cannot be named', async () => {
    const registry = await open()
    const named = registry.swap(() => ({ shop: recordOf('shop', ['0'.repeat(32)]) }))
    await expect(named).rejects.toMatchObject({ code: 'version_not_found' })
    expect(registry.head.generation).toBe(0)
  })

  test('the deployment before is kept for a rollback', async () => {
    const registry = await open()
    const first = await deployVersion(registry, 'shop', 'a')
    await deployVersion(registry, 'shop', 'b')
    const { previousId } = registry.head.functions['shop']!.deployment
    const previous = await registry.getDeployment('shop', previousId!)
    expect(previous?.shares).toEqual([{ versionId: first.id, percent: 100 }])
    expect(await registry.getDeployment('shop', 'nothing')).toBeUndefined()
  })

  test('a function may be called "constructor", and is not there before it is', async () => {
    const registry = await open()
    expect(registry.head.functions['constructor']).toBeUndefined()
    await deployVersion(registry, 'constructor', 'a')
    await deployVersion(registry, 'shop', 'a')
    expect(registry.head.functions['constructor']?.name).toBe('constructor')
    const again = await open()
    expect(again.head.functions['constructor']?.name).toBe('constructor')
    await again.swap(() => ({}))
    expect(again.head.functions['constructor']).toBeUndefined()
  })

  test('many writers at once: every change is in, each generation is one write', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 5 }), { minLength: 1, maxLength: 5 }),
        async (writers) => {
          place = createRegistryPlace()
          const registries = await Promise.all(writers.map(() => open()))
          const versions = new Map<number, Version>()
          for (const index of [0, 1, 2, 3, 4]) {
            versions.set(index, await storeVersion(registries[0]!, `fn-${index}`, 'a'))
          }
          const generations = new Map<number, string>()
          for (const registry of registries) {
            registry.onChange((head) => {
              const seen = generations.get(head.generation) ?? head.writeId
              expect(head.writeId).toBe(seen)
              generations.set(head.generation, head.writeId)
            })
          }
          await Promise.all(
            writers.map((targets, writer) =>
              Promise.all(
                targets.map((target) =>
                  registries[writer]!.swap((head) => {
                    const name = `fn-${target}`
                    const before = head.functions[name]
                    const record = recordOf(name, [versions.get(target)!.id], before)
                    // Counts the changes of this function in a field that survives: the minimum of instances.
                    const policy = { ...record.policy, min: (before?.policy.min ?? 0) + 1 }
                    return { ...head.functions, [name]: { ...record, policy } }
                  }),
                ),
              ),
            ),
          )
          const heads = await Promise.all(registries.map((registry) => registry.refresh()))
          for (const head of heads) expect(head).toEqual(heads[0])
          for (const index of [0, 1, 2, 3, 4]) {
            const wanted = writers.flat().filter((target) => target === index).length
            expect(heads[0]?.functions[`fn-${index}`]?.policy.min ?? 0).toBe(wanted)
          }
          expect(heads[0]?.generation).toBeLessThanOrEqual(writers.flat().length)
        },
      ),
      { numRuns: 30 },
    )
  })

  test('a writer that always loses gives up with a conflict', async () => {
    let attempts = 0
    const bucket = place.bucket
    const registry = await open(
      altered(bucket, {
        async putIfMatch() {
          attempts++
          return undefined
        },
      }),
    )
    await storeVersionIn(registry)
    await expect(
      registry.swap((head) => ({ ...head.functions, shop: recordOf('shop', [shopVersionId]) })),
    ).rejects.toMatchObject({ code: 'conflict' })
    expect(attempts).toBe(REGISTRY_LIMITS.swapAttemptsMax)
  })

  const shopVersionId = versionId('shop', contentOf('shop code'))
  const storeVersionIn = (registry: Registry): Promise<Version> => storeVersion(registry, 'shop', 'shop code')
  const deployShop = (head: Head): Head['functions'] => ({
    ...head.functions,
    shop: recordOf('shop', [shopVersionId]),
  })

  test('a write whose answer was lost but that was made counts as made', async () => {
    const bucket = place.bucket
    const registry = await open(
      altered(bucket, {
        async putIfMatch(key, body, etag) {
          await bucket.putIfMatch(key, body, etag)
          throw new Error('connection reset')
        },
      }),
    )
    await storeVersionIn(registry)
    expect((await registry.swap(deployShop)).generation).toBe(1)
    expect(registry.head.functions['shop']).toBeDefined()
  })

  test('a write that a client below repeats, and so sees refused, counts as made', async () => {
    const bucket = place.bucket
    const registry = await open(
      altered(bucket, {
        async putIfMatch(key, body, etag) {
          await bucket.putIfMatch(key, body, etag)
          return bucket.putIfMatch(key, body, etag)
        },
      }),
    )
    await storeVersionIn(registry)
    expect((await registry.swap(deployShop)).generation).toBe(1)
    expect((await open()).head.generation).toBe(1)
  })

  test('a write that failed and was not made fails with the bucket’s error', async () => {
    const registry = await open(
      altered(place.bucket, {
        async putIfMatch() {
          throw new Error('connection reset')
        },
      }),
    )
    await storeVersionIn(registry)
    await expect(registry.swap(deployShop)).rejects.toThrow('connection reset')
    expect(registry.head.generation).toBe(0)
  })

  test('refresh sees what another wrote, and reads the document only when it changed', async () => {
    let reads = 0
    const bucket = place.bucket
    const reader = await open(
      altered(bucket, {
        get(key) {
          reads++
          return bucket.get(key)
        },
      }),
    )
    const writer = await open()
    await deployVersion(writer, 'shop', 'a')
    reads = 0
    expect(await reader.refresh()).toEqual(writer.head)
    await reader.refresh()
    await reader.refresh()
    expect(reads).toBe(1)
  })

  test('a head that went back is refused, and the newer one stays in force', async () => {
    const registry = await open()
    await deployVersion(registry, 'shop', 'a')
    const older = place.store.get('head.json')!
    await deployVersion(registry, 'shop', 'b')
    place.store.set('head.json', { ...older, etag: 'restored' })
    await expect(registry.refresh()).rejects.toMatchObject({ code: 'data_unusable' })
    expect(registry.head.generation).toBe(2)
  })

  test('a head that was deleted is an error, not an empty registry', async () => {
    const registry = await open()
    await deployVersion(registry, 'shop', 'a')
    place.store.delete('head.json')
    await expect(registry.refresh()).rejects.toThrow(/"head\.json" is gone/)
    await expect(registry.swap(() => ({}))).rejects.toMatchObject({ code: 'data_unusable' })
    expect(registry.head.functions['shop']).toBeDefined()
  })

  test.each([
    ['no JSON', '{"formatVersion":1,', /damaged .*JSON/],
    ['bytes that are not UTF-8', new Uint8Array([0xff, 0xfe]), /damaged/],
    ['no object', 'null', /damaged/],
    ['a missing field', '{"formatVersion":1,"generation":3,"functions":{}}', /damaged \(writeId: /],
    [
      'a wrong record',
      '{"formatVersion":1,"generation":3,"writeId":"x","functions":{"shop":{"name":"shop"}}}',
      /damaged \(functions\.shop\./,
    ],
    ['a newer format', '{"formatVersion":2}', /has format 2 and this release reads format 1/],
  ])('a head document of %s is refused with what is wrong', async (_what, document, message) => {
    const body = typeof document === 'string' ? bytes(document) : document
    place.store.set('head.json', { body, etag: 'e', modifiedAtMs: place.nowMs })
    await expect(open()).rejects.toMatchObject({
      code: 'data_unusable',
      message: expect.stringMatching(message) as string,
    })
  })

  test('a damaged version document is refused with its key', async () => {
    const registry = await open()
    const { id } = await deployVersion(registry, 'shop', 'a')
    const key = `versions/shop/${id}.json`
    place.store.set(key, { ...place.store.get(key)!, body: bytes('{"id":1}') })
    await expect(registry.getVersion('shop', id)).rejects.toThrow(new RegExp(key))
  })

  test('fields of a newer release are kept through a swap', async () => {
    const registry = await open()
    await deployVersion(registry, 'shop', 'a')
    const stored = place.store.get('head.json')!
    const document = JSON.parse(Buffer.from(stored.body).toString()) as { functions: { shop: object } }
    Object.assign(document, { fleet: 'new' })
    Object.assign(document.functions.shop, { colour: 'blue' })
    place.store.set('head.json', { ...stored, body: bytes(JSON.stringify(document)) })
    const again = await open()
    await deployVersion(again, 'other', 'b')
    const after = JSON.parse(Buffer.from(place.store.get('head.json')!.body).toString()) as object
    expect(after).toMatchObject({ fleet: 'new', functions: { shop: { colour: 'blue' }, other: {} } })
  })
})
