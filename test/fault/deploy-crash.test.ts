import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { blobsOf } from '../../sdk/model/function.ts'
import type { Bucket } from '../../runtime/registry/bucket.ts'
import { openEmbeddedBucket } from '../../runtime/registry/embedded-bucket.ts'
import { openRegistry } from '../../runtime/registry/registry-store.ts'
import type { Registry } from '../../runtime/registry/registry.ts'
import { deployModules } from '../harness/deploy-child.ts'

const CHILD = fileURLToPath(new URL('../harness/deploy-child.ts', import.meta.url))
let root: string
/** Function "shop" deployed once, with code "old". */
let before: string
let oldVersionId: string
/** What is left of a deploy of "new" on it that nothing disturbed, after a collection. */
let undisturbedKeys: string[]
let newVersionId: string

async function run(...parameters: readonly string[]): Promise<'killed' | 'done'> {
  const child = spawn(process.execPath, [CHILD, ...parameters], { stdio: ['ignore', 'ignore', 'pipe'] })
  let errors = ''
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()))
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
  if (signal === 'SIGKILL') return 'killed'
  expect({ code, errors }).toEqual({ code: 0, errors: '' })
  return 'done'
}

async function keysOf(bucket: Bucket): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of bucket.list('')) keys.push(key.replace(/^deployments\/.*/, 'deployments/*'))
  return keys
}

const openStore = (bucket: Bucket): Promise<Registry> =>
  openRegistry({ bucket, now: Date.now, newId: () => `test-${Math.random()}` })

async function expectWhole(registry: Registry): Promise<string> {
  const record = registry.head.functions['shop']!
  const [share] = record.deployment.shares
  const version = await registry.getVersion('shop', share!.versionId)
  for (const module of blobsOf(version!.content)) {
    expect((await registry.getBlob(module.sha256)).byteLength).toBe(module.sizeBytes)
  }
  return share!.versionId
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'isola-crash-'))
  before = join(root, 'before')
  const bucket = openEmbeddedBucket({ directory: before })
  oldVersionId = await deployModules(bucket, 'old')
  bucket.close()
  cpSync(before, join(root, 'undisturbed'), { recursive: true })
  const after = openEmbeddedBucket({ directory: join(root, 'undisturbed') })
  newVersionId = await deployModules(after, 'new')
  undisturbedKeys = await keysOf(after)
  after.close()
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

describe('a deploy that is killed', () => {
  test.each([
    ['before', 12],
    ['after', 12],
    ['fsync', 2],
  ] as const)(
    'at any step (%s) leaves the old deployment or the new one, whole, and the retry works',
    async (phase, stepsMin) => {
      const seen: string[] = []
      for (let n = 1; ; n++) {
        const directory = join(root, `${phase}-${n}`)
        cpSync(before, directory, { recursive: true })
        const outcome = await run('deploy', directory, 'new', phase, String(n))
        const bucket = openEmbeddedBucket({ directory })
        const registry = await openStore(bucket)
        const { generation, functions } = registry.head
        const served = await expectWhole(registry)
        expect([served, generation, functions['shop']?.routes[0]?.pattern]).toEqual(
          generation === 1 ? [oldVersionId, 1, 'old.example/*'] : [newVersionId, 2, 'new.example/*'],
        )
        expect(await deployModules(bucket, 'new')).toBe(newVersionId)
        await registry.refresh()
        expect(await expectWhole(registry)).toBe(newVersionId)
        await registry.collect({ graceMs: -60_000 })
        expect(new Set(await keysOf(bucket))).toEqual(new Set(undisturbedKeys))
        bucket.close()
        openEmbeddedBucket({ directory }).close()
        expect(readdirSync(join(directory, 'objects'))).toHaveLength(2)
        rmSync(directory, { recursive: true })
        if (outcome === 'done') break
        seen.push(served)
      }
      expect(seen.length).toBeGreaterThanOrEqual(stepsMin)
      expect(new Set(seen)).toContain(oldVersionId)
      // The swap is the one step that changes what serves: old before it, new after it.
      expect(seen.toSorted((a, b) => Number(a === newVersionId) - Number(b === newVersionId))).toEqual(seen)
    },
  )

  test('in the middle of collecting garbage loses nothing that is live', async () => {
    const garbage = join(root, 'garbage')
    cpSync(before, garbage, { recursive: true })
    const bucket = openEmbeddedBucket({ directory: garbage })
    const registry = await openStore(bucket)
    await deployModules(bucket, 'new')
    await registry.swap(() => ({}))
    await deployModules(bucket, 'third')
    bucket.close()
    let kills = 0
    for (let n = 1; ; n++) {
      const directory = join(root, `collect-${n}`)
      cpSync(garbage, directory, { recursive: true })
      const outcome = await run('collect', directory, '', 'after', String(n))
      const left = openEmbeddedBucket({ directory })
      const store = await openStore(left)
      await expectWhole(store)
      // Whatever version is left can be rolled back to: its blobs are there.
      for (const version of await store.listVersions('shop')) {
        for (const module of blobsOf(version.content)) await store.getBlob(module.sha256)
      }
      await store.collect({ graceMs: -60_000 })
      await expectWhole(store)
      left.close()
      rmSync(directory, { recursive: true })
      if (outcome === 'done') break
      kills++
    }
    expect(kills).toBeGreaterThan(3)
  })
})

describe('a writer that is killed', () => {
  test('loses no write that it was told is done', async () => {
    const directory = join(root, 'acknowledged')
    let acknowledged = -1
    for (let round = 0; round < 6; round++) {
      const child = spawn(process.execPath, [CHILD, 'write', directory, String(acknowledged + 1)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const exited = once(child, 'exit')
      const enough = acknowledged + 15 + round * 7
      for await (const line of createInterface({ input: child.stdout })) {
        acknowledged = Number(line)
        if (acknowledged >= enough) child.kill('SIGKILL')
      }
      expect((await exited)[1]).toBe('SIGKILL')
      const bucket = openEmbeddedBucket({ directory })
      for (let number = 0; number <= acknowledged; number++) {
        const object = await bucket.get(`blobs/${number}`)
        expect(object?.body).toHaveLength(number % 3 === 0 ? 200_000 : 200)
        expect(object?.body.at(-1)).toBe(number % 251)
      }
      const counter = Number(Buffer.from((await bucket.get('counter'))!.body).toString())
      // One more write may have been made without anybody hearing of it.
      expect([acknowledged, acknowledged + 1]).toContain(counter)
      // The next round begins with a number that is new.
      acknowledged =
        (await bucket.head(`blobs/${acknowledged + 1}`)) === undefined ? acknowledged : acknowledged + 1
      bucket.close()
    }
    expect(acknowledged).toBeGreaterThan(100)
  })
})
