import { createHash } from 'node:crypto'
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readAssetDirectory, readAssetFile } from '../../bundler/asset-directory.ts'
import { compileIgnorePatterns } from '../../bundler/ignore-patterns.ts'
import { ASSET_UPLOAD_LIMITS } from '../../sdk/model/limits.ts'
import { failureOf, temporaryProject, writeFiles } from './temporary-project.ts'

async function pathsOf(files: Readonly<Record<string, string>>): Promise<string[]> {
  return [...(await readAssetDirectory(temporaryProject(files))).files.keys()]
}

describe('the static files of a directory', () => {
  test('are all its files, hidden ones among them, with digest, size and type', async () => {
    const directory = temporaryProject({
      'index.html': '<h1>',
      '.well-known/x': 'x',
      'a b/ü.js': 'export {}',
      'a.unknown-type': '',
      'deep/_headers': 'served',
      'style.css': '',
      'data.json': '{}',
    })
    const { files } = await readAssetDirectory(directory)
    expect([...files].map(([path, { contentType }]) => [path, contentType])).toEqual([
      ['/.well-known/x', undefined],
      ['/a b/ü.js', 'text/javascript; charset=utf-8'],
      ['/a.unknown-type', undefined],
      ['/data.json', 'application/json'],
      ['/deep/_headers', undefined],
      ['/index.html', 'text/html; charset=utf-8'],
      ['/style.css', 'text/css; charset=utf-8'],
    ])
    const sha256 = createHash('sha256').update('<h1>').digest('hex')
    expect(files.get('/index.html')).toMatchObject({
      sha256,
      sizeBytes: 4,
      source: join(directory, 'index.html'),
    })
  })

  test('do not have the files of rules at its top, whose text stands beside them', async () => {
    const directory = temporaryProject({
      _headers: '/*\n  A: b\n',
      _redirects: '/a /b\n',
      '.assetsignore': '',
      'a.txt': '',
    })
    const { files, rules } = await readAssetDirectory(directory)
    expect([...files.keys()]).toEqual(['/a.txt'])
    expect(rules).toEqual({ headers: '/*\n  A: b\n', redirects: '/a /b\n' })
    expect((await readAssetDirectory(temporaryProject({ 'a.txt': '' }))).rules).toEqual({})
  })

  test('do not have what .assetsignore names', async () => {
    const files = {
      '.assetsignore': '*.map\r\n# text\nnode_modules/\n',
      'a.js': '',
      'a.js.map': '',
      'node_modules/x/i.js': '',
      'b/c.MAP': '',
    }
    expect(await pathsOf(files)).toEqual(['/a.js'])
  })

  test('are found through symbolic links, but not in circles', async () => {
    const outside = temporaryProject({ 'deep/file.txt': 'outside' })
    const directory = temporaryProject({ 'a.txt': 'a' })
    symlinkSync(join(directory, 'a.txt'), join(directory, 'link.txt'))
    symlinkSync(join(outside, 'deep'), join(directory, 'linked'))
    expect([...(await readAssetDirectory(directory)).files.keys()]).toEqual([
      '/a.txt',
      '/link.txt',
      '/linked/file.txt',
    ])
    symlinkSync(directory, join(directory, 'linked-self'))
    expect(await failureOf(readAssetDirectory(directory))).toMatchObject({
      code: 'build_failed',
      message: expect.stringContaining('/linked-self is a link to a directory that it is in') as string,
    })
    writeFileSync(join(directory, '.assetsignore'), 'linked-self\n')
    expect([...(await readAssetDirectory(directory)).files.keys()]).toHaveLength(3)
  })

  test('that cannot be served are refused by name', async () => {
    const refused = async (make: (directory: string) => void): Promise<string> => {
      const directory = temporaryProject({ 'a.txt': 'a' })
      make(directory)
      const { code, message } = await failureOf(readAssetDirectory(directory))
      return `${code}: ${message}`
    }
    expect(await refused((directory) => symlinkSync('/nowhere/at/all', join(directory, 'dead')))).toMatch(
      /^build_failed: the static file \/dead cannot be read \(ENOENT\)/,
    )
    expect(await refused((directory) => writeFiles(directory, { 'a\nb': '' }))).toMatch(
      /"\/a\\nb" has a control character/,
    )
    expect(await refused((directory) => writeFiles(directory, { '_worker.js': '' }))).toMatch(
      /_worker\.js would be served/,
    )
    expect(await refused((directory) => writeFiles(directory, { '_worker.js/index.js': '' }))).toMatch(
      /would be served/,
    )
    const large = await refused((directory) => {
      truncateSync(join(directory, 'a.txt'), ASSET_UPLOAD_LIMITS.fileBytesMax + 1)
    })
    expect(large).toMatch(
      /^bundle_too_large: the static file \/a\.txt has 26214401 bytes, more than the 26214400/,
    )
    const rules = 'x'.repeat(ASSET_UPLOAD_LIMITS.rulesFileBytesMax + 1)
    expect(await refused((directory) => writeFiles(directory, { _headers: rules }))).toMatch(
      /_headers has 524289 bytes/,
    )
  })

  test('are at most so many', async () => {
    const directory = temporaryProject({})
    mkdirSync(join(directory, 'd'))
    for (let index = 0; index <= ASSET_UPLOAD_LIMITS.filesMax; index++)
      writeFileSync(join(directory, 'd', `${index}`), '')
    expect(await failureOf(readAssetDirectory(directory))).toMatchObject({
      code: 'bundle_too_large',
      message: expect.stringContaining('more than 20000 files') as string,
    })
  })

  test('need a directory', async () => {
    const directory = temporaryProject({ 'a.txt': '' })
    for (const [name, why] of [
      ['none', 'does not exist'],
      ['a.txt', 'is no directory'],
    ] as const) {
      expect((await failureOf(readAssetDirectory(join(directory, name)))).message).toContain(why)
    }
  })

  test('that change while they are sent are noticed', async () => {
    const directory = temporaryProject({ 'a.txt': 'a' })
    const { files } = await readAssetDirectory(directory)
    const file = files.get('/a.txt')
    if (file === undefined) throw new Error('the file was not found')
    expect(Buffer.from(await readAssetFile('/a.txt', file)).toString()).toBe('a')
    writeFileSync(join(directory, 'a.txt'), 'b')
    expect((await failureOf(readAssetFile('/a.txt', file))).message).toContain(
      '/a.txt changed while it was read',
    )
  })
})

describe('a line of .assetsignore', () => {
  const ignored = (lines: string, ...paths: string[]): string[] => {
    const { isFileIgnored } = compileIgnorePatterns(lines.split('\n'))
    return paths.filter(isFileIgnored)
  }

  test.each([
    ['*.map', ['a.map', 'x/a.map'], ['a.mapx', 'map']],
    ['/a', ['a', 'a/b'], ['x/a']],
    ['a/', ['a/b', 'x/a/b'], ['a', 'x/a']],
    ['a/b', ['a/b', 'a/b/c'], ['x/a/b']],
    ['**/b', ['b', 'x/b', 'x/y/b/z'], ['xb']],
    ['a/**', ['a/b', 'a/b/c'], ['a']],
    ['a/**/c', ['a/c', 'a/b/c', 'a/b/b/c'], ['a/cc', 'x/a/c']],
    ['a/*/c', ['a/b/c'], ['a/c', 'a/b/b/c']],
    ['*\n!*.html', ['a.js'], ['index.html']],
    ['dir/*\n!dir/keep', ['dir/other'], ['dir/keep']],
    ['dir\n!dir/keep', ['dir/keep'], ['x']],
    ['[ab].txt', ['a.txt'], ['c.txt']],
    ['[!ab].txt', ['c.txt'], ['a.txt']],
    ['[z-a]', [], ['a', 'z']],
    ['a?c', ['abc'], ['a/c', 'ac']],
    ['\\#x\n#y', ['#x'], ['y', '#y']],
    ['\\!x', ['!x'], ['x']],
    ['x\\ \ny  ', ['x ', 'y'], ['x']],
    ['README', ['readme'], ['readme.md']],
    ['a.b', ['a.b'], ['axb']],
    ['!a\n\n/\n\\', [], ['a', 'b']],
  ])('%j', (lines, isIgnored, isNot) => {
    expect(ignored(lines, ...isIgnored, ...isNot)).toEqual(isIgnored)
  })
})
