import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openEmbeddedBucket } from '../../runtime/registry/embedded-bucket.ts'
import { toStorageError } from '../../runtime/registry/storage-error.ts'
import { bucketContract } from '../harness/bucket-contract.ts'
import { openMemoryBucket, type MemoryStore } from '../harness/memory-bucket.ts'
import { withTmpfs } from '../harness/tmpfs.ts'

describe('the embedded bucket', () => {
  bucketContract({
    place() {
      const directory = mkdtempSync(join(tmpdir(), 'isola-bucket-'))
      return {
        open: () => openEmbeddedBucket({ directory }),
        remove: () => rmSync(directory, { recursive: true, force: true }),
      }
    },
  })
})

describe('the memory bucket of the tests', () => {
  bucketContract({
    place() {
      const store: MemoryStore = new Map()
      return { open: () => openMemoryBucket({ store }), remove: () => undefined }
    },
  })
})

describe('the embedded bucket on its disk', () => {
  let directory: string
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'isola-bucket-'))
  })
  afterEach(() => rmSync(directory, { recursive: true, force: true }))
  const open = () => openEmbeddedBucket({ directory })
  const large = new Uint8Array(200_000)

  test('files that no object names are removed when it is opened, and the others stay', async () => {
    const bucket = open()
    await bucket.putIfAbsent('kept', large)
    bucket.close()
    writeFileSync(join(directory, 'objects', 'left-by-a-crash'), 'half')
    const again = open()
    expect(readdirSync(join(directory, 'objects'))).toHaveLength(1)
    expect((await again.get('kept'))?.body).toHaveLength(large.length)
    again.close()
  })

  test('replacing and deleting long bodies leaves no file behind', async () => {
    const bucket = open()
    const first = await bucket.putIfAbsent('doc', large)
    const second = await bucket.putIfMatch('doc', large, first?.etag ?? '')
    expect(readdirSync(join(directory, 'objects'))).toHaveLength(1)
    expect(await bucket.putIfMatch('doc', large, first?.etag ?? '')).toBeUndefined()
    expect(await bucket.putIfAbsent('doc', large)).toBeUndefined()
    expect(readdirSync(join(directory, 'objects'))).toHaveLength(1)
    await bucket.putIfMatch('doc', new Uint8Array(1), second?.etag ?? '')
    expect(readdirSync(join(directory, 'objects'))).toEqual([])
    bucket.close()
  })

  test('a lost file is an error that names it, not an absent object', async () => {
    const bucket = open()
    await bucket.putIfAbsent('doc', large)
    const [name] = readdirSync(join(directory, 'objects'))
    rmSync(join(directory, 'objects', name ?? ''))
    await expect(bucket.get('doc')).rejects.toMatchObject({
      code: 'data_unusable',
      message: expect.stringContaining(name ?? '?') as string,
    })
    bucket.close()
  })

  test.each([
    ['garbage', () => writeFileSync(join(directory, 'index.sqlite'), 'this is no database, '.repeat(500))],
    ['a file cut in half', () => truncateSync(join(directory, 'index.sqlite'), 4096)],
  ])('an index of %s is data_unusable with the way out', async (_what, damage) => {
    const bucket = open()
    for (let index = 0; index < 50; index++) await bucket.putIfAbsent(`key-${index}`, new Uint8Array(4000))
    bucket.close()
    damage()
    const read = async (): Promise<void> => {
      const damaged = open()
      try {
        for (let index = 0; index < 50; index++) await damaged.get(`key-${index}`)
      } finally {
        damaged.close()
      }
    }
    await expect(read()).rejects.toMatchObject({
      code: 'data_unusable',
      message: expect.stringMatching(/index\.sqlite is damaged .*restore the data directory/) as string,
    })
  })

  test('a missing index beside object files is refused, and the files are left alone', async () => {
    const bucket = open()
    await bucket.putIfAbsent('doc', large)
    bucket.close()
    rmSync(join(directory, 'index.sqlite'))
    for (let attempt = 0; attempt < 2; attempt++) {
      expect(() => open()).toThrow(expect.objectContaining({ code: 'data_unusable' }) as Error)
      expect(readdirSync(join(directory, 'objects'))).toHaveLength(1)
    }
  })

  test('a directory of a newer release is refused', () => {
    open().close()
    const database = new DatabaseSync(join(directory, 'index.sqlite'))
    database.exec('PRAGMA user_version = 2')
    database.close()
    expect(() => open()).toThrow(/has format 2 and this release reads format 1/)
  })

  test('a place that cannot be written is data_unusable and names the path', () => {
    const file = join(directory, 'file')
    writeFileSync(file, '')
    for (const path of [file, join(file, 'below')]) {
      expect(() => openEmbeddedBucket({ directory: path })).toThrow(
        expect.objectContaining({
          code: 'data_unusable',
          message: expect.stringContaining(path) as string,
        }) as Error,
      )
    }
    const blocked = join(directory, 'blocked')
    mkdirSync(join(blocked, 'index.sqlite'), { recursive: true })
    expect(() => openEmbeddedBucket({ directory: blocked })).toThrow(/cannot write .*index\.sqlite/)
  })

  test.each([
    ['EROFS', 'data_unusable'],
    ['EACCES', 'data_unusable'],
    ['EIO', 'data_unusable'],
    ['ENOSPC', 'storage_full'],
    ['EDQUOT', 'storage_full'],
  ])('%s becomes %s with the path', (code, expected) => {
    const error = Object.assign(new Error(`${code}: failed`), { code })
    expect(toStorageError(error, '/data/x')).toMatchObject({ code: expected, details: { path: '/data/x' } })
  })

  test('a fault that is not the disk’s passes through', () => {
    const fault = new TypeError('ours')
    expect(toStorageError(fault, '/data/x')).toBe(fault)
  })

  test('a second opener is told who has it; a killed owner leaves it free', async () => {
    const script = `
      const { openEmbeddedBucket } = await import(process.argv[1])
      const bucket = openEmbeddedBucket({ directory: process.argv[2] })
      await bucket.putIfAbsent('doc', new Uint8Array(3))
      console.log('open')
      setInterval(() => undefined, 1000)`
    const driver = new URL('../../runtime/registry/embedded-bucket.ts', import.meta.url).href
    const owner = spawn(process.execPath, ['--input-type=module', '-e', script, driver, directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    try {
      await once(owner.stdout, 'data')
      expect(() => open()).toThrow(
        expect.objectContaining({
          code: 'already_running',
          message: expect.stringContaining(`${directory} is in use by process ${owner.pid}`) as string,
          details: { path: directory, pid: owner.pid },
        }) as Error,
      )
    } finally {
      owner.kill('SIGKILL')
      await once(owner, 'exit')
    }
    const bucket = open()
    expect((await bucket.get('doc'))?.body).toHaveLength(3)
    bucket.close()
  })

  test('two openers in one process are kept apart as well', () => {
    const first = open()
    expect(() => open()).toThrow(expect.objectContaining({ code: 'already_running' }) as Error)
    first.close()
    open().close()
  })
})

describe('the embedded bucket on a full disk', () => {
  test('a write that does not fit is storage_full, changes nothing, and works once there is space', async (context) => {
    const ran = await withTmpfs({ sizeBytes: 2_000_000 }, async (directory) => {
      const bucket = openEmbeddedBucket({ directory: join(directory, 'data') })
      const doc = await bucket.putIfAbsent('doc', new Uint8Array(10))
      const full = {
        code: 'storage_full',
        message: expect.stringContaining(join(directory, 'data')) as string,
      }
      await expect(bucket.putIfAbsent('blobs/large', new Uint8Array(3_000_000))).rejects.toMatchObject(full)
      expect(readdirSync(join(directory, 'data', 'objects'))).toEqual([])
      const fill = async (): Promise<void> => {
        for (let index = 0; ; index++) await bucket.putIfAbsent(`fill/${index}`, new Uint8Array(50_000))
      }
      await expect(fill()).rejects.toMatchObject(full)
      await expect(bucket.putIfMatch('doc', new Uint8Array(60_000), doc?.etag ?? '')).rejects.toMatchObject(
        full,
      )
      expect((await bucket.get('doc'))?.body).toHaveLength(10)
      bucket.close()
      const again = openEmbeddedBucket({ directory: join(directory, 'data') })
      expect((await again.get('fill/0'))?.body).toHaveLength(50_000)
      again.close()
    })
    if (!ran) context.skip('this machine does not let the tests mount a tmpfs')
  })

  test('a read-only disk is data_unusable', async (context) => {
    const ran = await withTmpfs({ sizeBytes: 2_000_000 }, async (directory, { makeReadOnly }) => {
      openEmbeddedBucket({ directory }).close()
      makeReadOnly()
      expect(() => openEmbeddedBucket({ directory })).toThrow(
        expect.objectContaining({ code: 'data_unusable' }) as Error,
      )
    })
    if (!ran) context.skip('this machine does not let the tests mount a tmpfs')
  })
})
