import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import type { Bucket } from '../../runtime/registry/bucket.ts'
import { openRegistry } from '../../runtime/registry/registry-store.ts'
import type { Registry } from '../../runtime/registry/registry.ts'
import { canonicalJson, versionId } from '../../runtime/registry/version-id.ts'
import type { FunctionRecord, Head, Version, VersionContent } from '../../sdk/model/function.ts'
import { CONTROL_LIMITS, REGISTRY_LIMITS } from '../../sdk/model/limits.ts'
import { DEFAULT_POLICY } from '../../sdk/model/policy.ts'
import { openMemoryBucket, type MemoryStore } from '../harness/memory-bucket.ts'

const sha256 = (body: Uint8Array): string => createHash('sha256').update(body).digest('hex')
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const HOUR_MS = 3_600_000

let store: MemoryStore
let nowMs: number
let ids: number
beforeEach(() => {
  store = new Map()
  nowMs = 1_800_000_000_000
  ids = 0
})
const memory = (): Bucket => openMemoryBucket({ store, now: () => nowMs })
const open = (bucket: Bucket = memory()): Promise<Registry> =>
  openRegistry({ bucket, now: () => nowMs, newId: () => `id-${++ids}` })

function contentOf(code: string): VersionContent {
  const body = bytes(code)
  return {
    kind: 'worker',
    mainModule: 'index.js',
    modules: [{ name: 'index.js', kind: 'esm', sha256: sha256(body), sizeBytes: body.byteLength }],
    bindings: [],
    compatibilityDate: '2026-11-01',
    compatibilityFlags: [],
    limits: { cpuMs: 10_000, memoryMib: 128 },
  }
}

async function storeVersion(registry: Registry, functionName: string, code: string): Promise<Version> {
  await registry.putBlob(sha256(bytes(code)), bytes(code))
  const content = contentOf(code)
  const version: Version = {
    id: versionId(functionName, content),
    functionName,
    content,
    createdAt: new Date(nowMs).toISOString(),
    message: code,
  }
  await registry.putVersion(version)
  return version
}

function recordOf(name: string, versionIds: readonly string[], previous?: FunctionRecord): FunctionRecord {
  return {
    name,
    kind: 'worker',
    deployment: {
      id: `deployment-${++ids}`,
      shares: versionIds.map((versionId) => ({ versionId, percent: 100 / versionIds.length })),
      createdAt: new Date(nowMs).toISOString(),
      message: '',
      ...(previous && { previousId: previous.deployment.id }),
    },
    recentVersionIds: [],
    routes: [],
    baseDomainHost: true,
    previewHosts: true,
    policy: DEFAULT_POLICY,
  }
}

async function deploy(registry: Registry, name: string, code: string): Promise<Version> {
  const version = await storeVersion(registry, name, code)
  await registry.swap((head) => ({
    ...head.functions,
    [name]: recordOf(name, [version.id], head.functions[name]),
  }))
  return version
}

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
    store.set(key, { ...store.get(key)!, body: bytes('evil') })
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
      nowMs += 1_000
      names.unshift((await storeVersion(registry, 'shop', code)).id)
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
    const version = await deploy(registry, 'shop', 'a')
    expect(heard).toEqual([1])
    stop()
    await deploy(registry, 'shop', 'b')
    expect(heard).toEqual([1])
    const again = await open()
    expect(again.head).toEqual(registry.head)
    expect(again.head.generation).toBe(2)
    expect(await again.getVersion('shop', version.id)).toEqual(version)
  })

  test('a change that returns what it got writes nothing', async () => {
    const registry = await open()
    const before = store.get('head.json')?.etag
    expect((await registry.swap((head) => head.functions)).generation).toBe(0)
    expect(store.get('head.json')?.etag).toBe(before)
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
    const first = await deploy(registry, 'shop', 'a')
    await deploy(registry, 'shop', 'b')
    const { previousId } = registry.head.functions['shop']!.deployment
    const previous = await registry.getDeployment('shop', previousId!)
    expect(previous?.shares).toEqual([{ versionId: first.id, percent: 100 }])
    expect(await registry.getDeployment('shop', 'nothing')).toBeUndefined()
  })

  test('a function may be called "constructor", and is not there before it is', async () => {
    const registry = await open()
    expect(registry.head.functions['constructor']).toBeUndefined()
    await deploy(registry, 'constructor', 'a')
    await deploy(registry, 'shop', 'a')
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
          store = new Map()
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
    const bucket = memory()
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
    const bucket = memory()
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
    const bucket = memory()
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
      altered(memory(), {
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
    const bucket = memory()
    const reader = await open(
      altered(bucket, {
        get(key) {
          reads++
          return bucket.get(key)
        },
      }),
    )
    const writer = await open()
    await deploy(writer, 'shop', 'a')
    reads = 0
    expect(await reader.refresh()).toEqual(writer.head)
    await reader.refresh()
    await reader.refresh()
    expect(reads).toBe(1)
  })

  test('a head that went back is refused, and the newer one stays in force', async () => {
    const registry = await open()
    await deploy(registry, 'shop', 'a')
    const older = store.get('head.json')!
    await deploy(registry, 'shop', 'b')
    store.set('head.json', { ...older, etag: 'restored' })
    await expect(registry.refresh()).rejects.toMatchObject({ code: 'data_unusable' })
    expect(registry.head.generation).toBe(2)
  })

  test('a head that was deleted is an error, not an empty registry', async () => {
    const registry = await open()
    await deploy(registry, 'shop', 'a')
    store.delete('head.json')
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
    store.set('head.json', { body, etag: 'e', modifiedAtMs: nowMs })
    await expect(open()).rejects.toMatchObject({
      code: 'data_unusable',
      message: expect.stringMatching(message) as string,
    })
  })

  test('a damaged version document is refused with its key', async () => {
    const registry = await open()
    const { id } = await deploy(registry, 'shop', 'a')
    const key = `versions/shop/${id}.json`
    store.set(key, { ...store.get(key)!, body: bytes('{"id":1}') })
    await expect(registry.getVersion('shop', id)).rejects.toThrow(new RegExp(key))
  })

  test('fields of a newer release are kept through a swap', async () => {
    const registry = await open()
    await deploy(registry, 'shop', 'a')
    const stored = store.get('head.json')!
    const document = JSON.parse(Buffer.from(stored.body).toString()) as { functions: { shop: object } }
    Object.assign(document, { fleet: 'new' })
    Object.assign(document.functions.shop, { colour: 'blue' })
    store.set('head.json', { ...stored, body: bytes(JSON.stringify(document)) })
    const again = await open()
    await deploy(again, 'other', 'b')
    const after = JSON.parse(Buffer.from(store.get('head.json')!.body).toString()) as object
    expect(after).toMatchObject({ fleet: 'new', functions: { shop: { colour: 'blue' }, other: {} } })
  })
})

describe('the collection', () => {
  test('removes what nothing names once it is old, and leaves what is live, recent or previous', async () => {
    const registry = await open()
    const orphanBlob = bytes('never used')
    await registry.putBlob(sha256(orphanBlob), orphanBlob)
    const deleted = await deploy(registry, 'deleted', 'deleted code')
    const previous = await deploy(registry, 'shop', 'previous code')
    const current = await deploy(registry, 'shop', 'current code')
    await registry.swap(({ functions: { deleted: _, ...rest } }) => rest)
    expect(await registry.collect({ graceMs: HOUR_MS })).toEqual({ versions: 0, blobs: 0 })

    nowMs += HOUR_MS + 1
    const young = bytes('just uploaded')
    await registry.putBlob(sha256(young), young)
    expect(await registry.collect({ graceMs: HOUR_MS })).toEqual({ versions: 1, blobs: 2 })
    expect(await registry.getVersion('deleted', deleted.id)).toBeUndefined()
    expect(await registry.hasBlob(sha256(orphanBlob))).toBe(false)
    expect(await registry.hasBlob(sha256(young))).toBe(true)
    for (const version of [previous, current]) {
      expect(await registry.getVersion('shop', version.id)).toEqual(version)
      expect(await registry.hasBlob(version.content.modules[0]!.sha256)).toBe(true)
    }
    expect(await registry.collect({ graceMs: HOUR_MS })).toEqual({ versions: 0, blobs: 0 })
  })

  test('keeps the newest versions of each function, and the live one however old', async () => {
    const registry = await open()
    const live = await deploy(registry, 'shop', 'live')
    for (let index = 0; index < CONTROL_LIMITS.keptVersionsMax + 5; index++) {
      nowMs += 1_000
      await storeVersion(registry, 'shop', `code ${index}`)
    }
    nowMs += HOUR_MS
    expect(await registry.collect({ graceMs: 10 })).toEqual({ versions: 5, blobs: 5 })
    expect(await registry.getVersion('shop', live.id)).toBeDefined()
    expect(await registry.listVersionIds('shop')).toHaveLength(CONTROL_LIMITS.keptVersionsMax + 1)
  })

  test('storing an old version again makes it young', async () => {
    const registry = await open()
    await storeVersion(registry, 'gone', 'a')
    nowMs += 2 * HOUR_MS
    await storeVersion(registry, 'gone', 'a')
    expect(await registry.collect({ graceMs: HOUR_MS })).toEqual({ versions: 0, blobs: 0 })
  })

  test('a blob that two functions use stays while one of them is left', async () => {
    const registry = await open()
    await deploy(registry, 'one', 'same code')
    const two = await deploy(registry, 'two', 'same code')
    await registry.swap(({ functions: { one: _, ...rest } }) => rest)
    nowMs += HOUR_MS
    expect(await registry.collect({ graceMs: 10 })).toEqual({ versions: 1, blobs: 0 })
    expect(await registry.getBlob(two.content.modules[0]!.sha256)).toBeDefined()
  })

  test('stops before the blobs where a version cannot be read', async () => {
    const registry = await open()
    const { id } = await deploy(registry, 'shop', 'a')
    store.set(`versions/shop/${id}.json`, { body: bytes('{'), etag: 'e', modifiedAtMs: nowMs })
    nowMs += HOUR_MS
    await expect(registry.collect({ graceMs: 10 })).rejects.toMatchObject({ code: 'data_unusable' })
    expect(await registry.hasBlob(sha256(bytes('a')))).toBe(true)
  })

  test('swaps and collections together never leave a head that names what is gone', async () => {
    const registry = await open()
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 8 }), async (codes) => {
        nowMs += HOUR_MS
        await Promise.all([
          ...codes.map((code) => deploy(registry, 'shop', `code ${code}`)),
          registry.collect({ graceMs: 10 }),
          registry.collect({ graceMs: 10 }),
        ])
        for (const record of Object.values(registry.head.functions)) {
          for (const { versionId } of record.deployment.shares) {
            const version = await registry.getVersion(record.name, versionId)
            await registry.getBlob(version!.content.modules[0]!.sha256)
          }
        }
      }),
      { numRuns: 30 },
    )
  })
})
