/** What the agent does for static files: on the disk before the snapshot, kept as long as a version names them. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { encodeAssetManifest } from '../../sdk/model/asset-manifest.ts'
import type { AssetsConfig, Head, WorkerContent, WorkerVersion } from '../../sdk/model/function.ts'
import { AssetFiles } from '../../runtime/node/asset-files.ts'
import { Publisher } from '../../runtime/node/publisher.ts'
import { HeadVersions } from '../../runtime/node/supervisor-versions.ts'
import { snapshotOf } from '../../runtime/node/snapshot.ts'
import { assetFilePath, assetSitePath, type AssetSite } from '../../runtime/pool/asset-site.ts'
import type { Registry } from '../../runtime/registry/registry.ts'
import { versionId } from '../../runtime/registry/version-id.ts'
import {
  bytes,
  contentOf,
  createRegistryPlace,
  deployVersion,
  recordOf,
  sha256,
  without,
  type RegistryPlace,
} from '../harness/registry-fixture.ts'

let place: RegistryPlace
let registry: Registry
let directory: string
let assets: AssetFiles
const told: string[] = []

const open = (): AssetFiles =>
  new AssetFiles({ directory, registry, onEvent: (line) => void told.push(line) })

beforeEach(async () => {
  place = createRegistryPlace()
  registry = await place.open()
  directory = mkdtempSync(join(tmpdir(), 'isola-assets-'))
  told.length = 0
  assets = open()
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

async function versionWith(
  name: string,
  files: Readonly<Record<string, string>>,
  more: { readonly config?: AssetsConfig; readonly compatibilityDate?: string } = {},
): Promise<WorkerVersion> {
  for (const body of Object.values(files)) await registry.putBlob(sha256(bytes(body)), bytes(body))
  const manifest = encodeAssetManifest(
    Object.fromEntries(
      Object.entries(files).map(([path, body]) => [
        path,
        { sha256: sha256(bytes(body)), sizeBytes: bytes(body).byteLength },
      ]),
    ),
  )
  const ref = { sha256: sha256(manifest), sizeBytes: manifest.byteLength }
  await registry.putBlob(ref.sha256, manifest)
  const content: WorkerContent = {
    ...contentOf(''),
    mainModule: '',
    modules: [],
    compatibilityDate: more.compatibilityDate ?? '2026-11-01',
    assets: { manifest: ref, config: more.config ?? {} },
  }
  const id = versionId(name, content)
  return { id, functionName: name, content, createdAt: new Date(0).toISOString(), message: '' }
}

async function deploy(version: WorkerVersion): Promise<Head> {
  await registry.putVersion(version)
  const { functionName } = version
  return registry.swap((head) => ({
    ...head.functions,
    [functionName]: recordOf(functionName, [version.id], head.functions[functionName]),
  }))
}

const filesOnDisk = (): string[] => readdirSync(join(directory, 'files')).sort()
const read = (body: string): string => readFileSync(assetFilePath(directory, sha256(bytes(body))), 'utf8')

describe('files of live versions', () => {
  test('are on the disk under their digests when the head is ready, and the snapshot names the version', async () => {
    const version = await versionWith('site', { '/a.txt': 'A', '/b.txt': 'B', '/copy.txt': 'A' })
    await deployVersion(registry, 'plain', 'code')
    const head = await deploy(version)
    expect(assets.isReady(head)).toBe(false)
    expect(await assets.ready(head)).toBe(true)
    expect(assets.isReady(head)).toBe(true)
    expect([read('A'), read('B'), filesOnDisk().length]).toEqual(['A', 'B', 2])
    const { functions, assetsDirectory } = snapshotOf(head, 'localhost', assets)
    expect(assetsDirectory).toBe(directory)
    expect(functions.find(({ name }) => name === 'site')?.assetVersionIds).toEqual([version.id])
    expect(functions.find(({ name }) => name === 'plain')?.assetVersionIds).toBeUndefined()
  })

  test('their site says whether there is code, and whether navigations are theirs, by date', async () => {
    const siteOf = async (compatibilityDate: string): Promise<AssetSite> => {
      const version = await versionWith(
        'site',
        { '/a': 'A' },
        { compatibilityDate, config: { htmlHandling: 'none' } },
      )
      await assets.ready(await deploy(version))
      return JSON.parse(readFileSync(assetSitePath(directory, version.id), 'utf8')) as AssetSite
    }
    expect(await siteOf('2025-03-31')).toMatchObject({
      hasCode: false,
      navigationsAreFiles: false,
      config: { htmlHandling: 'none' },
    })
    expect((await siteOf('2025-04-01')).navigationsAreFiles).toBe(true)
  })

  test('are put back by the next agent where the machine lost or cut one', async () => {
    const head = await deploy(await versionWith('site', { '/a': 'AAAA', '/b': 'BBBB' }))
    await assets.ready(head)
    rmSync(assetFilePath(directory, sha256(bytes('AAAA'))))
    writeFileSync(assetFilePath(directory, sha256(bytes('BBBB'))), 'B')
    expect(await open().ready(head)).toBe(true)
    expect([read('AAAA'), read('BBBB')]).toEqual(['AAAA', 'BBBB'])
  })

  test('that cannot be had are told to the operator, and the version is named all the same, so that nothing else answers for it', async () => {
    const version = await versionWith('site', { '/a': 'A' })
    const head = await deploy(version)
    place.store.delete(`blobs/${sha256(bytes('A'))}`)
    expect(await assets.ready(head)).toBe(false)
    expect(told.join()).toContain(version.id)
    expect(readdirSync(join(directory, 'sites'))).toEqual([])
    expect(snapshotOf(head, 'localhost', assets).functions[0]?.assetVersionIds).toEqual([version.id])
  })

  test('leave the disk when no version names them any more, but for those that are being deployed', async () => {
    await assets.ready(await deploy(await versionWith('old', { '/a': 'A', '/b': 'shared' })))
    await assets.ready(await deploy(await versionWith('kept', { '/b': 'shared' })))
    const coming = await versionWith('coming', { '/c': 'C' })
    await assets.prepare(coming)
    const head = await registry.swap((head) => without(head, 'old'))
    await assets.collect(head)
    const digests = (bodies: readonly string[]): string[] => bodies.map((body) => sha256(bytes(body))).sort()
    expect(filesOnDisk()).toEqual(digests(['shared', 'C']))
    expect(readdirSync(join(directory, 'sites'))).toHaveLength(2)
    // It was never deployed.
    await assets.collect(head)
    await assets.collect(head)
    expect(filesOnDisk()).toEqual(digests(['shared']))
    // And comes back after all.
    expect(await assets.ready(await deploy(coming))).toBe(true)
    expect(read('C')).toBe('C')
  })
})

describe('the publisher', () => {
  const headOf = (generation: number): Head => ({ formatVersion: 1, generation, writeId: '', functions: {} })

  test('puts a head out at once where nothing is missing', async () => {
    const out: number[] = []
    const publisher = new Publisher({
      assets: { isReady: () => true, ready: () => Promise.reject(new Error('not asked')) },
      publish: ({ generation }) => void out.push(generation),
    })
    void publisher.put(headOf(1))
    expect(out).toEqual([1])
  })

  test('waits for files, never puts an older head out behind a newer one, and leaves out those between', async () => {
    const out: number[] = []
    const gates = [Promise.withResolvers<boolean>(), Promise.withResolvers<boolean>()]
    let asked = 0
    const publisher = new Publisher({
      assets: { isReady: ({ generation }) => generation > 3, ready: () => gates[asked++]!.promise },
      publish: ({ generation }) => void out.push(generation),
    })
    const done = [1, 2, 3, 4].map((generation) => publisher.put(headOf(generation)))
    expect(out).toEqual([])
    gates[0]!.resolve(true)
    gates[1]!.resolve(true)
    await Promise.all(done)
    expect(out).toEqual([1, 4])
  })

  test('does not hold a head back for what cannot be had, tries again, and puts it out once more when all is there', async () => {
    const out: number[] = []
    const outcomes = [false, false, true]
    const twice = Promise.withResolvers<void>()
    const publisher = new Publisher({
      assets: { isReady: () => false, ready: () => Promise.resolve(outcomes.shift() ?? true) },
      publish: ({ generation }) => {
        out.push(generation)
        if (out.length === 2) twice.resolve()
      },
      retryMs: 1,
    })
    await publisher.put(headOf(1))
    expect(out).toEqual([1])
    await twice.promise
    expect([out, outcomes]).toEqual([[1, 1], []])
    publisher.close()
  })
})

test('of versions without code no instance is planned, whatever the minimum', async () => {
  const version = await versionWith('site', { '/a': 'A' })
  await deploy(version)
  await deployVersion(registry, 'coded', 'code')
  const read = Promise.withResolvers<void>()
  const versions = new HeadVersions({
    getVersion: async (name, id) => (await registry.getVersion(name, id))!,
    foresee: () => ({ expectedMib: 1 }) as never,
    onChange: read.resolve,
    onEvent: (line) => void told.push(line),
  })
  versions.apply(registry.head, new Set())
  await read.promise
  expect(versions.specs().map(({ functionName }) => functionName)).toEqual(['coded'])
})

describe('the registry', () => {
  const HOUR_MS = 3_600_000

  test('keeps the files of versions that are kept, and collects those of others', async () => {
    await deploy(await versionWith('site', { '/a': 'A', '/b': 'B' }))
    await deploy(await versionWith('gone', { '/c': 'C' }))
    await registry.swap((head) => without(head, 'gone'))
    place.nowMs += HOUR_MS + 1
    // The version of "gone", its manifest and its file.
    expect(await registry.collect({ graceMs: HOUR_MS })).toEqual({ versions: 1, blobs: 2 })
    expect(await registry.hasBlob(sha256(bytes('A')))).toBe(true)
    expect(await registry.hasBlob(sha256(bytes('B')))).toBe(true)
    expect(await registry.hasBlob(sha256(bytes('C')))).toBe(false)
  })

  test('takes no version of whose manifest a file is missing, and collects nothing while a manifest is', async () => {
    const version = await versionWith('site', { '/a': 'A' })
    place.store.delete(`blobs/${sha256(bytes('A'))}`)
    await expect(registry.putVersion(version)).rejects.toMatchObject({
      code: 'blob_missing',
      details: { missing: [sha256(bytes('A'))] },
    })
    await registry.putBlob(sha256(bytes('A')), bytes('A'))
    await deploy(version)
    place.nowMs += HOUR_MS + 1
    place.store.delete(`blobs/${version.content.assets!.manifest.sha256}`)
    await expect(registry.collect({ graceMs: HOUR_MS })).rejects.toMatchObject({ code: 'blob_missing' })
    expect(await registry.hasBlob(sha256(bytes('A')))).toBe(true)
  })
})
