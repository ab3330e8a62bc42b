import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { packArchive, readArchive } from '../../bundler/archive.ts'
import { packHandlerDirectory, type HandlerDirectory } from '../../bundler/handler-directory.ts'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { readZip } from './read-zip.ts'
import { failureOf, temporaryProject } from './temporary-project.ts'

const HANDLER = 'export const handler = async () => 1\n'

function options(directory: string, more: Partial<HandlerDirectory> = {}): HandlerDirectory {
  return { directory, runtime: 'nodejs24', handler: 'index.handler', exclude: [], ...more }
}

const namesOf = async (options: HandlerDirectory): Promise<string[]> =>
  (await packHandlerDirectory(options)).files.map(({ name }) => name)

describe('the archive of a handler directory', () => {
  test('has every file, sorted, with its bytes and whether it is executable', async () => {
    const directory = temporaryProject({
      'index.mjs': HANDLER,
      'bin/tool': '#!/bin/sh\n',
      'b/ü ñ.txt': 'text',
      empty: '',
    })
    chmodSync(join(directory, 'bin/tool'), 0o700)
    chmodSync(join(directory, 'index.mjs'), 0o600)
    const archive = await packHandlerDirectory(options(directory))
    expect(await readZip(archive.bytes)).toEqual([
      { name: 'b/ü ñ.txt', mode: 0o100644, text: 'text' },
      { name: 'bin/tool', mode: 0o100755, text: '#!/bin/sh\n' },
      { name: 'empty', mode: 0o100644, text: '' },
      { name: 'index.mjs', mode: 0o100644, text: HANDLER },
    ])
    expect(archive.files.find(({ name }) => name === 'b/ü ñ.txt')?.sizeBytes).toBe(4)
    expect(archive.sha256).toBe(createHash('sha256').update(archive.bytes).digest('hex'))
  })

  test('the same files give the same bytes, wherever they are, whenever made, in whatever zone', async () => {
    const segment = fc.stringMatching(/^[a-z]{1,3}$/)
    const names = fc.uniqueArray(
      fc.array(segment, { minLength: 1, maxLength: 3 }).map((parts) => `d/${parts.join('-')}`),
    )
    const tree = fc.tuple(names, fc.uint8Array({ maxLength: 5_000 }))
    const zone = process.env.TZ
    try {
      await fc.assert(
        fc.asyncProperty(tree, async ([names, body]) => {
          const files = { 'index.js': HANDLER, ...Object.fromEntries(names.map((name) => [name, body])) }
          process.env.TZ = 'UTC'
          const first = await packHandlerDirectory(options(temporaryProject(files)))
          process.env.TZ = 'Pacific/Auckland'
          const other = temporaryProject(Object.fromEntries(Object.entries(files).toReversed()))
          utimesSync(join(other, 'index.js'), 1, 1)
          const second = await packHandlerDirectory(options(other))
          expect(second.sha256).toBe(first.sha256)
        }),
        { numRuns: 15 },
      )
    } finally {
      if (zone === undefined) delete process.env.TZ
      else process.env.TZ = zone
    }
  })

  test('another byte, name or permission is another digest', async () => {
    const pack = async (files: Record<string, string>, mode = 0o644): Promise<string> => {
      const directory = temporaryProject({ 'index.js': HANDLER, ...files })
      for (const name of Object.keys(files)) chmodSync(join(directory, name), mode)
      return (await packHandlerDirectory(options(directory))).sha256
    }
    const digests = [
      await pack({ a: '1' }),
      await pack({ a: '2' }),
      await pack({ b: '1' }),
      await pack({ a: '1' }, 0o755),
    ]
    expect(new Set(digests).size).toBe(digests.length)
  })

  test('version control, environments, caches, secrets and the configuration are left out', async () => {
    const directory = temporaryProject({
      'index.js': HANDLER,
      '.git/config': '',
      '.env': 'SECRET=1',
      '.env.production': '',
      '.npmrc': '//registry.example/:_authToken=x',
      'isola.jsonc': '{}',
      'sub/__pycache__/a.pyc': '',
      'node_modules/a/index.js': '',
      'node_modules/.package-lock.json': '',
      '.hidden': '',
    })
    expect(await namesOf(options(directory))).toEqual(['.hidden', 'index.js', 'node_modules/a/index.js'])
    expect(await namesOf(options(directory, { include: ['index.js', '.env'] }))).toEqual(['.env', 'index.js'])
  })

  test('patterns are anchored, and what names a directory means all in it', async () => {
    const directory = temporaryProject({
      'index.js': HANDLER,
      'a.md': '',
      'sub/a.md': '',
      'sub/deep/b.md': '',
      'sub/deep/b.txt': '',
      'test/a.js': '',
      'test+[x]/a.js': '',
    })
    const left = (...exclude: string[]): Promise<string[]> => namesOf(options(directory, { exclude }))
    expect(await left('*.md', './test/')).toEqual([
      'index.js',
      'sub/a.md',
      'sub/deep/b.md',
      'sub/deep/b.txt',
      'test+[x]/a.js',
    ])
    expect(await left('**/*.{md,txt}', 'test+[x]')).toEqual(['index.js', 'test/a.js'])
    expect(await left('sub/**/b.???', 'tes?')).toEqual([
      'a.md',
      'index.js',
      'sub/a.md',
      'sub/deep/b.md',
      'test+[x]/a.js',
    ])
  })

  test('links inside are followed, so that the archive has none', async () => {
    const directory = temporaryProject({ 'src/index.js': HANDLER, 'package/a.js': 'a' })
    symlinkSync('src/index.js', join(directory, 'index.js'))
    mkdirSync(join(directory, 'node_modules'))
    symlinkSync('../package', join(directory, 'node_modules/a'))
    const { bytes } = await packHandlerDirectory(options(directory))
    expect((await readZip(bytes)).map(({ name, mode }) => [name, mode])).toEqual([
      ['index.js', 0o100644],
      ['node_modules/a/a.js', 0o100644],
      ['package/a.js', 0o100644],
      ['src/index.js', 0o100644],
    ])
  })

  test('links that lead outside, nowhere or in a circle are refused by name', async () => {
    const refused = async (make: (directory: string) => void): Promise<string> => {
      const directory = temporaryProject({ 'index.js': HANDLER, 'sub/a': '' })
      make(directory)
      const error = await failureOf(packHandlerDirectory(options(directory)))
      expect(error.code).toBe('build_failed')
      return error.message
    }
    expect(await refused((at) => symlinkSync('/etc/hostname', join(at, 'sub/host')))).toMatch(
      /^"sub\/host" is a symbolic link to \/etc\/hostname, outside of/,
    )
    expect(await refused((at) => symlinkSync('..', join(at, 'up')))).toContain('"up" is a symbolic link to')
    expect(await refused((at) => symlinkSync('nowhere', join(at, 'gone')))).toContain(
      '"gone" is a symbolic link to nothing',
    )
    expect(await refused((at) => symlinkSync('.', join(at, 'sub/self')))).toContain(
      '"sub/self" is a link to a directory that it is in',
    )
    expect(await refused((at) => symlinkSync('..', join(at, 'sub/top')))).toContain(
      '"sub/top" is a link to a directory',
    )
    expect(await refused((at) => symlinkSync('loop', join(at, 'loop')))).toContain(
      '"loop" cannot be read (ELOOP)',
    )
    // What is not sent may be what it likes.
    const directory = temporaryProject({ 'index.js': HANDLER })
    symlinkSync('/etc/hostname', join(directory, 'host'))
    expect(await namesOf(options(directory, { exclude: ['host'] }))).toEqual(['index.js'])
  })

  test('what is no file, or has a name that no archive should have, is refused by name', async () => {
    const directory = temporaryProject({ 'index.js': HANDLER })
    const server = createServer().listen(join(directory, 'socket'))
    await new Promise((resolve) => server.once('listening', resolve))
    const special = await failureOf(packHandlerDirectory(options(directory)))
    await new Promise((resolve) => server.close(resolve))
    expect(special.message).toContain('"socket" is no file, directory or link')
    writeFileSync(join(directory, 'a\\b'), '')
    const named = await failureOf(packHandlerDirectory(options(directory)))
    expect(named.message).toContain('has a control character or a backslash')
  })

  test('files that unpack to too much are refused with the biggest of them, before they are read', async () => {
    const directory = temporaryProject({ 'index.js': HANDLER, 'big.bin': '', 'small.txt': 'x' })
    truncateSync(join(directory, 'big.bin'), CONTAINER_LIMITS.unpackedBytesMax)
    const error = await failureOf(packHandlerDirectory(options(directory)))
    expect(error.code).toBe('bundle_too_large')
    expect(error.message).toMatch(/The biggest:\n {2}250\.0 MiB big\.bin\n {2}0\.0 MiB index\.js/)
  })

  test('too many files are refused', async () => {
    const directory = temporaryProject({ 'index.js': HANDLER })
    for (let index = 0; index < CONTAINER_LIMITS.archiveFilesMax; index++)
      writeFileSync(join(directory, `f${index}`), '')
    const error = await failureOf(packHandlerDirectory(options(directory)))
    expect(error.code).toBe('bundle_too_large')
    expect(error.message).toContain(`more than the ${CONTAINER_LIMITS.archiveFilesMax} files`)
  })

  test('an archive that is still too long when it is packed is refused', async () => {
    let state = 1
    const noise = Buffer.alloc(CONTAINER_LIMITS.archiveBytesMax + 1_000)
    for (let index = 0; index < noise.length; index += 4) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      noise.writeUInt32LE((state ^ (state >>> 13)) >>> 0, index)
    }
    const error = await failureOf(packArchive([{ name: 'noise.bin', body: noise }]))
    expect(error.code).toBe('bundle_too_large')
    expect(error.message).toContain('the archive has more bytes, and 52428800 (50.0 MiB) is the most')
    expect(error.message).toContain('noise.bin')
  })

  test('a file that changes while it is packed fails the build by name', async () => {
    const directory = temporaryProject({ 'a.txt': 'text' })
    const file = { name: 'a.txt', path: join(directory, 'a.txt'), sizeBytes: 3, isExecutable: false }
    expect((await failureOf(packArchive([file]))).message).toContain('"a.txt" cannot be packed')
    const gone = { ...file, path: join(directory, 'gone') }
    expect((await failureOf(packArchive([gone]))).message).toContain('ENOENT')
  })
})

describe('the file of the handler', () => {
  test.each<[string, string, Partial<HandlerDirectory>]>([
    ['index.js', 'index.handler', {}],
    ['src/index.cjs', 'src/index.handler', {}],
    ['index.mjs', 'index.nested.handler', {}],
    ['app/index.js', 'app.handler', {}],
    ['main.py', 'main.handler', { runtime: 'python3' }],
    ['a/b.py', 'a.b.handler', { runtime: 'python3' }],
    ['a/__init__.py', 'a.handler', { runtime: 'python3' }],
  ])('%s serves %s', async (file, handler, more) => {
    expect(await namesOf(options(temporaryProject({ [file]: '' }), { handler, ...more }))).toEqual([file])
  })

  test('that is not there is refused with the names that would do', async () => {
    const directory = temporaryProject({ 'main.js': '' })
    const node = await failureOf(packHandlerDirectory(options(directory)))
    expect(node.message).toContain(
      'handler "index.handler" needs index.js or index.mjs or index.cjs or index.ts',
    )
    const python = await failureOf(packHandlerDirectory(options(directory, { runtime: 'python3' })))
    expect(python.message).toContain('needs index.py or index/__init__.py')
    const none = await failureOf(packHandlerDirectory(options(directory, { include: ['nothing'] })))
    expect(none.message).toContain('nor any other file that is sent')
  })

  test('in TypeScript it is bundled with what it imports, and runs', async () => {
    const directory = temporaryProject({
      'src/index.ts': `import { greet } from 'greeter'
        import { name } from './name.ts'
        export const handler = async (): Promise<string> => greet(name as string)`,
      'src/name.ts': 'export const name: string = "ü"',
      'node_modules/greeter/index.js':
        'const { EOL } = require("node:os"); exports.greet = (name) => "hello " + name + EOL',
      'data.json': '{}',
    })
    const given = options(directory, { handler: 'src/index.handler' })
    const archive = await packHandlerDirectory(given)
    const entries = await readZip(archive.bytes)
    expect(entries.map(({ name }) => name)).toEqual(['data.json', 'src/index.mjs'])
    const made = temporaryProject({ 'index.mjs': entries[1]?.text ?? '' })
    const { handler } = (await import(pathToFileURL(join(made, 'index.mjs')).href)) as {
      handler(): Promise<string>
    }
    expect(await handler()).toBe('hello ü\n')
    expect(entries[1]?.text).toContain('//# sourceMappingURL=data:application/json;base64,')
    const copy = temporaryProject({})
    execFileSync('cp', ['-r', `${directory}/.`, copy])
    expect((await packHandlerDirectory({ ...given, directory: copy })).sha256).toBe(archive.sha256)
  })

  test('in TypeScript with an error it fails with the place and the code', async () => {
    const directory = temporaryProject({
      'index.ts': 'import { x } from "./gone.ts"\nexport const handler = x',
    })
    const error = await failureOf(packHandlerDirectory(options(directory)))
    expect(error.code).toBe('build_failed')
    expect(error.message).toContain('index.ts:1:19: Could not resolve "./gone.ts"')
  })
})

describe('an archive that is ready', () => {
  test('is sent as it is', async () => {
    const { bytes } = await packArchive([{ name: 'index.js', body: Buffer.from(HANDLER) }])
    const directory = temporaryProject({ 'ready.zip': bytes })
    expect(Buffer.from((await readArchive(join(directory, 'ready.zip'))).bytes).equals(bytes)).toBe(true)
  })

  test.each([
    ['empty', '', 'is empty'],
    ['text', 'hello', 'is no zip archive'],
    ['without files', 'PK\u0005\u0006' + '\0'.repeat(18), 'or one without files'],
  ])('that is %s is refused', async (_what, text, message) => {
    const directory = temporaryProject({ 'a.zip': text })
    const error = await failureOf(readArchive(join(directory, 'a.zip')))
    expect(error.code).toBe('build_failed')
    expect(error.message).toContain(message)
  })

  test('that is gone is refused', async () => {
    const error = await failureOf(readArchive(join(temporaryProject({}), 'gone.zip')))
    expect([error.code, error.message]).toEqual([
      'build_failed',
      expect.stringContaining('(ENOENT): check the path'),
    ])
  })

  test('that is too long is refused before it is read', async () => {
    const directory = temporaryProject({ 'a.zip': 'PK' })
    truncateSync(join(directory, 'a.zip'), CONTAINER_LIMITS.archiveBytesMax + 1)
    expect((await failureOf(readArchive(join(directory, 'a.zip')))).code).toBe('bundle_too_large')
  })
})
