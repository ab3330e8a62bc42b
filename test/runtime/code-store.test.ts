import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ZipFile } from 'yazl'
import { openCodeStore } from '../../runtime/container/code-store.ts'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { handMadeZip, type HandMadeEntry } from '../harness/hand-made-zip.ts'
import { withTmpfs } from '../harness/tmpfs.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'isola-code-'))
})
afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

const storeDirectory = (): string => join(directory, 'store')
const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const archiveOf = (bytes: Uint8Array) => ({ sha256: digestOf(bytes), load: () => Promise.resolve(bytes) })
const goodZip = async (
  files: Readonly<Record<string, string | Buffer>>,
  mode = 0o100644,
): Promise<Buffer> => {
  const zip = new ZipFile()
  for (const [name, body] of Object.entries(files)) zip.addBuffer(Buffer.from(body), name, { mode })
  zip.end()
  return buffer(zip.outputStream)
}
const prepare = async (bytes: Uint8Array): Promise<string> => {
  const store = await openCodeStore({ directory: storeDirectory() })
  return store.prepare(archiveOf(bytes))
}
/** Paths with their bodies, sorted; folders end in `/`. */
const treeOf = (root: string, folder = ''): Record<string, string> => {
  const found: Record<string, string> = {}
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) Object.assign(found, { [`${path}/`]: '' }, treeOf(root, path))
    else found[path] = readFileSync(join(root, path), 'latin1')
  }
  return found
}
const leftovers = (): string[] => readdirSync(storeDirectory()).filter((name) => name !== 'boot-id')

describe('unpacking', () => {
  test('gives the files of the archive, in a directory of its digest', async () => {
    const zip = await goodZip({ 'index.js': 'code', 'lib/deep/a.txt': 'a', 'empty.txt': '' })
    const path = await prepare(zip)
    expect(path).toBe(join(storeDirectory(), digestOf(zip)))
    expect(treeOf(path)).toEqual({
      'index.js': 'code',
      'empty.txt': '',
      'lib/': '',
      'lib/deep/': '',
      'lib/deep/a.txt': 'a',
    })
  })

  test('modes and times are the same whoever packed it, and any user may read', async () => {
    const umask = process.umask(0o077)
    try {
      const path = await prepare(
        handMadeZip([
          { name: 'run', mode: 0o104711 },
          { name: 'read', mode: 0o100600 },
          { name: 'dir/', mode: 0o040700 },
        ]),
      )
      const modeOf = (name: string): number => statSync(join(path, name)).mode & 0o7777
      expect([modeOf('run'), modeOf('read'), modeOf('dir'), modeOf('.')]).toEqual([
        0o755, 0o644, 0o755, 0o755,
      ])
      expect(statSync(join(path, 'run')).mtime.toISOString()).toBe('1980-01-01T00:00:00.000Z')
      expect(statSync(join(path, 'dir')).mtime.toISOString()).toBe('1980-01-01T00:00:00.000Z')
    } finally {
      process.umask(umask)
    }
  })

  test('any names and bytes come out as they went in', async () => {
    const segment = fc
      .string({ minLength: 1, maxLength: 12, unit: 'grapheme' })
      .filter(
        (text) =>
          !/[/\\\0]/.test(text) &&
          text !== '.' &&
          text !== '..' &&
          !text.includes('\u{fffd}') &&
          text.isWellFormed(),
      )
    const trees = fc.dictionary(segment, fc.uint8Array({ maxLength: 300 }), {
      maxKeys: 12,
      noNullPrototype: true,
    })
    await fc.assert(
      fc.asyncProperty(trees, fc.boolean(), async (tree, compressed) => {
        const entries = Object.entries(tree).map(([name, body]) => ({ name: `d/${name}`, body, compressed }))
        const path = await prepare(handMadeZip([{ name: 'd/', mode: 0o040755 }, ...entries]))
        expect(readdirSync(join(path, 'd')).sort()).toEqual(Object.keys(tree).sort())
        for (const [name, body] of Object.entries(tree)) {
          expect([...readFileSync(join(path, 'd', name))]).toEqual([...body])
        }
      }),
      { numRuns: 40 },
    )
  })

  test('the same archive is unpacked once, however many ask', async () => {
    const zip = await goodZip({ a: 'a' })
    const store = await openCodeStore({ directory: storeDirectory() })
    let loads = 0
    const archive = { sha256: digestOf(zip), load: () => Promise.resolve((loads++, zip)) }
    const paths = await Promise.all([store.prepare(archive), store.prepare(archive)])
    await store.prepare(archive)
    expect(new Set(paths).size).toBe(1)
    expect(loads).toBe(1)
  })
})

describe('an archive that is broken or dangerous is refused and leaves nothing', () => {
  const refused = async (bytes: Uint8Array, why: string | RegExp): Promise<void> => {
    const error = await prepare(bytes).then(
      () => undefined,
      (reason: unknown) => reason as Error,
    )
    expect(error).toMatchObject({ code: 'version_refused' })
    expect(error!.message).toMatch(why)
    expect(leftovers()).toEqual([])
    expect(readdirSync(directory)).toEqual(['store'])
  }
  const entries = (...list: HandMadeEntry[]): Buffer => handMadeZip(list)

  test.each([
    ['0 bytes', Buffer.alloc(0), '0 bytes'],
    ['no zip', Buffer.from('#!/bin/sh\n'.repeat(100)), 'End of central directory'],
    ['a gzip', Buffer.from('1f8b0800000000000003', 'hex'), 'cannot be unpacked'],
    ['.. in front', entries({ name: '../a' }), '"\\.\\."|\\.\\.'],
    ['.. inside', entries({ name: 'a/../../b' }), '\\.\\.'],
    ['.. at the end', entries({ name: 'a/..', mode: 0o040755 }), '\\.\\.|no plain file'],
    ['an absolute path', entries({ name: '/etc/passwd' }), 'absolute'],
    ['a backslash', entries({ name: '..\\a' }), 'backslash|invalid characters'],
    ['a NUL', entries({ name: 'a\0b' }), 'NUL'],
    [
      'a symbolic link',
      entries({ name: 'a', body: '/etc/passwd', mode: 0o120777 }),
      'links and special files',
    ],
    ['a device', entries({ name: 'a', mode: 0o020666 }), 'links and special files'],
    ['a pipe', entries({ name: 'a', mode: 0o010666 }), 'links and special files'],
    ['a directory by its mode only', entries({ name: 'a', mode: 0o040755 }), 'no plain file'],
    ['a link by its mode only', entries({ name: 'a/', mode: 0o120777 }), 'no plain file'],
    ['a name twice', entries({ name: 'a' }, { name: 'a' }), 'there twice'],
    ['a name in two spellings', entries({ name: 'x/a' }, { name: './x//a' }), 'there twice'],
    ['a file as a directory', entries({ name: 'a' }, { name: 'a/b' }), 'file and a directory'],
    ['a directory as a file', entries({ name: 'a/b' }, { name: 'a' }), 'file and a directory'],
    ['no name', entries({ name: './', mode: 0o100644 }), 'no plain file|names no file'],
    ['a name of 256 bytes', entries({ name: 'ä'.repeat(128) }), 'longer than 255 bytes'],
    ['a long path', entries({ name: 'a/'.repeat(512) + 'b' }), 'longer than 1024 bytes'],
    ['encryption', entries({ name: 'a', body: 'x', flags: 1, compressed: true }), 'encrypted'],
    ['another compression', entries({ name: 'a', body: 'x', method: 14 }), 'method 14'],
    ['a wrong checksum', entries({ name: 'a', body: 'x', crc: 1 }), 'checksum'],
    ['broken compression', entries({ name: 'a', body: '\xff\xff\xff', method: 8, sizeBytes: 9 }), 'broken'],
    [
      'a size too small',
      entries({ name: 'a', body: 'x'.repeat(99), compressed: true, sizeBytes: 5 }),
      'broken',
    ],
    ['a size too large', entries({ name: 'a', body: 'xyz', compressed: true, sizeBytes: 5 }), 'claims 5'],
    [
      'bytes beyond the end',
      entries({ name: 'a', body: 'x', packedBytes: 5000, sizeBytes: 5000 }),
      'cannot be unpacked',
    ],
    ['more entries than there are', handMadeZip([{ name: 'a' }], { count: 3 }), 'cannot be unpacked'],
  ])('%s', async (_, bytes, why) => {
    await refused(bytes, new RegExp(why))
  })

  test('cut anywhere', async () => {
    const zip = handMadeZip([
      { name: 'a', body: 'hello'.repeat(20), compressed: true },
      { name: 'b', body: 'x' },
    ])
    for (let length = 1; length < zip.length; length += 7) {
      await refused(zip.subarray(0, length), 'cannot be unpacked')
    }
  })

  test('damaged anywhere it is refused or comes out as it was', async () => {
    const zip = handMadeZip([{ name: 'a', body: 'hello'.repeat(20), compressed: true }])
    await fc.assert(
      fc.asyncProperty(fc.nat(zip.length - 1), fc.integer({ min: 1, max: 255 }), async (index, change) => {
        const bytes = Buffer.from(zip)
        bytes[index]! ^= change
        const store = await openCodeStore({ directory: storeDirectory() })
        const path = await store.prepare(archiveOf(bytes)).catch((error: { readonly code?: string }) => {
          expect(error.code).toBe('version_refused')
          return undefined
        })
        if (path !== undefined) expect(Object.values(treeOf(path)).join('')).toMatch(/^$|^(?:hello){20}$/)
        expect(readdirSync(directory)).toEqual(['store'])
      }),
      { numRuns: 150 },
    )
  })

  test('more than may be unpacked, though every entry lies about nothing', async () => {
    const mib = 1024 * 1024
    const body = Buffer.alloc(25 * mib)
    const shared = Array.from({ length: 10 }, (_, index) => ({
      name: `b${index}`,
      body,
      compressed: true,
      sameAs: 0,
    }))
    await refused(entries({ name: 'a', body, compressed: true }, ...shared), /more than 262144000 bytes/)
  })

  test('a bomb that claims to be small', async () => {
    const body = Buffer.alloc(64 * 1024 * 1024)
    await refused(entries({ name: 'a', body, compressed: true, sizeBytes: 1000 }), 'broken')
  })

  test('more files than may be, folders that nobody named included', async () => {
    const { archiveFilesMax } = CONTAINER_LIMITS
    const deep = Array.from({ length: 101 }, (_, index) => ({ name: `${index}/${'a/'.repeat(495)}b` }))
    expect(deep.length * 497).toBeGreaterThan(archiveFilesMax)
    await refused(handMadeZip(deep), /more than 50000 files/)
  })

  test('more bytes than an archive may have', async () => {
    const body = Buffer.alloc(CONTAINER_LIMITS.archiveBytesMax)
    await refused(entries({ name: 'a', body }), /at most 52428800/)
  })

  test('names that would write to a terminal are shown as what they are', async () => {
    await refused(entries({ name: '/\x1b[31mred' }), /\\u\{1b\}\[31mred/)
  })

  test('a blob that is not what its digest says', async () => {
    const store = await openCodeStore({ directory: storeDirectory() })
    const zip = await goodZip({ a: 'a' })
    await expect(
      store.prepare({ sha256: digestOf(Buffer.from('other')), load: () => Promise.resolve(zip) }),
    ).rejects.toMatchObject({ code: 'digest_mismatch' })
    expect(leftovers()).toEqual([])
  })
})

describe('placing', () => {
  test('links files, so that they take no room twice, with their folders', async () => {
    const zip = await goodZip({ 'index.js': 'code', 'lib/a.txt': 'a' })
    const store = await openCodeStore({ directory: storeDirectory() })
    const path = await store.prepare(archiveOf(zip))
    const target = join(directory, 'task')
    mkdirSync(target)
    await store.place(digestOf(zip), target)
    expect(treeOf(target)).toEqual(treeOf(path))
    expect(statSync(join(target, 'lib/a.txt')).ino).toBe(statSync(join(path, 'lib/a.txt')).ino)
    expect(statSync(join(target, 'lib')).mode & 0o777).toBe(0o755)
    await expect(store.place(digestOf(zip), target)).rejects.toThrow('EEXIST')
  })

  test('thousands of files are placed without holding up the process', async () => {
    const files = Array.from({ length: 1_500 }, (_, index) => ({
      name: `d${index % 50}/f${index}`,
      body: 'x',
    }))
    const zip = handMadeZip(files)
    const store = await openCodeStore({ directory: storeDirectory() })
    await store.prepare(archiveOf(zip))
    const target = join(directory, 'task')
    mkdirSync(target)
    let turns = 0
    const turn = setInterval(() => turns++, 0)
    await store.place(digestOf(zip), target)
    clearInterval(turn)
    expect(turns).toBeGreaterThan(2)
    expect(Object.keys(treeOf(target))).toHaveLength(1_550)
  })

  test('across file systems files are copied, mode and time with them', async ({ skip }) => {
    const zip = handMadeZip([{ name: 'run', body: 'code', mode: 0o100755 }])
    const store = await openCodeStore({ directory: storeDirectory() })
    await store.prepare(archiveOf(zip))
    const mounted = await withTmpfs({ sizeBytes: 1024 * 1024 }, async (target) => {
      await store.place(digestOf(zip), target)
      expect(readFileSync(join(target, 'run'), 'utf8')).toBe('code')
      expect(statSync(join(target, 'run')).mode & 0o777).toBe(0o755)
      expect(statSync(join(target, 'run')).mtime.getUTCFullYear()).toBe(1980)
    })
    skip(!mounted, 'this machine lets nobody mount')
  })
})

describe('what is left on the disk', () => {
  test('a full disk is told as such, and leaves nothing half unpacked', async ({ skip }) => {
    const zip = handMadeZip([{ name: 'a', body: Buffer.alloc(2 * 1024 * 1024), compressed: true }])
    const mounted = await withTmpfs({ sizeBytes: 1024 * 1024 }, async (small) => {
      const store = await openCodeStore({ directory: small })
      await expect(store.prepare(archiveOf(zip))).rejects.toMatchObject({ code: 'storage_full' })
      expect(readdirSync(small)).toEqual(['boot-id'])
    })
    skip(!mounted, 'this machine lets nobody mount')
  })

  test('a process killed while it unpacks leaves nothing that the next takes for whole', async () => {
    const files = Array.from({ length: 1_000 }, (_, index) => ({ name: `f${index}`, body: 'x' }))
    const zip = handMadeZip(files)
    writeFileSync(join(directory, 'zip'), zip)
    const module = fileURLToPath(new URL('../../runtime/container/code-store.ts', import.meta.url))
    const program = `
      import { readFileSync } from 'node:fs'
      import { openCodeStore } from ${JSON.stringify(module)}
      const store = await openCodeStore({ directory: ${JSON.stringify(storeDirectory())} })
      console.log('begun')
      await store.prepare({ sha256: '${digestOf(zip)}', load: async () => readFileSync(${JSON.stringify(join(directory, 'zip'))}) })`
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    const partsOf = (): string[] => leftovers().flatMap((name) => readdirSync(join(storeDirectory(), name)))
    while (partsOf().length < 50) await new Promise((resolve) => setImmediate(resolve))
    child.kill('SIGKILL')
    await once(child, 'close')
    expect(leftovers()).toHaveLength(1)
    expect(partsOf().length).toBeLessThan(files.length)
    const path = await prepare(zip)
    expect(leftovers()).toEqual([digestOf(zip)])
    expect(readdirSync(path)).toHaveLength(files.length)
  })

  test('what was unpacked before the machine started anew is not believed', async () => {
    const zip = await goodZip({ a: 'whole' })
    const path = await prepare(zip)
    expect(await prepare(zip)).toBe(path)
    writeFileSync(join(path, 'a'), '')
    await prepare(zip)
    expect(readFileSync(join(path, 'a'), 'utf8')).toBe('')
    writeFileSync(join(storeDirectory(), 'boot-id'), 'another')
    await prepare(zip)
    expect(readFileSync(join(path, 'a'), 'utf8')).toBe('whole')
  })

  test('collecting keeps what is named and what was used a moment ago', async () => {
    let nowMs = 1_000_000
    const store = await openCodeStore({ directory: storeDirectory(), nowMs: () => nowMs })
    const zips = await Promise.all(['kept', 'old', 'young'].map((body) => goodZip({ a: body })))
    const [kept, old, young] = await Promise.all(zips.map((zip) => store.prepare(archiveOf(zip))))
    nowMs += CONTAINER_LIMITS.codeGraceMs
    await store.prepare(archiveOf(zips[2]!))
    await store.collect(new Set([digestOf(zips[0]!)]))
    expect([kept, old, young].map((path) => existsSync(path!))).toEqual([true, false, true])
    expect(await store.prepare(archiveOf(zips[1]!))).toBe(old)
    expect(leftovers().filter((name) => name.endsWith('.part'))).toEqual([])
  })
})
