import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { extract } from 'tar-stream'
import { describe, expect, test } from 'vitest'
import { findDockerfileContext, packDockerfileContext } from '../../bundler/dockerfile-context.ts'
import { BUILD_LIMITS, CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { failureOf, temporaryProject } from './temporary-project.ts'

interface TarEntry {
  readonly name: string
  readonly type: string
  readonly mode: number
  readonly text: string
  readonly link: string | null
}

async function readTar(tar: Readable): Promise<TarEntry[]> {
  const entries: TarEntry[] = []
  const reader = extract()
  tar.on('error', (error) => reader.destroy(error))
  tar.pipe(reader)
  for await (const entry of reader) {
    const chunks: Uint8Array[] = []
    for await (const chunk of entry) chunks.push(chunk as Uint8Array)
    const { name, type, mode, linkname } = entry.header
    entries.push({ name, type, mode, text: Buffer.concat(chunks).toString(), link: linkname })
  }
  return entries
}

const find = (directory: string, dockerfile = 'Dockerfile') =>
  findDockerfileContext({ directory, path: join(directory, dockerfile) })

const namesOf = async (directory: string, dockerfile?: string): Promise<string[]> =>
  (await find(directory, dockerfile)).entries.map(({ name }) => name)

describe('the context of a Dockerfile', () => {
  test('is all of its directory, with permissions and links as they are', async () => {
    const directory = temporaryProject({
      Dockerfile: 'FROM a',
      'sub/tool': 'run',
      'sub/long': 'x'.repeat(300_000),
      zero: '',
    })
    chmodSync(join(directory, 'sub/tool'), 0o755)
    mkdirSync(join(directory, 'empty'))
    symlinkSync('/usr/bin/python3', join(directory, 'python'))
    const context = await find(directory)
    expect(context).toMatchObject({ dockerfile: 'Dockerfile', totalBytes: 300_009 })
    const entries = await readTar(packDockerfileContext(context))
    expect(entries.map(({ name, type }) => `${type} ${name}`)).toEqual([
      'file Dockerfile',
      'directory empty/',
      'symlink python',
      'directory sub/',
      'file sub/long',
      'file sub/tool',
      'file zero',
    ])
    expect(entries.find(({ name }) => name === 'python')?.link).toBe('/usr/bin/python3')
    expect(entries.find(({ name }) => name === 'sub/tool')).toMatchObject({ mode: 0o755, text: 'run' })
    expect(entries.find(({ name }) => name === 'sub/long')?.text).toHaveLength(300_000)
  })

  test('is without what .dockerignore names, but for what it makes an exception of', async () => {
    const directory = temporaryProject({
      '.dockerignore': '# comment\nnode_modules\n!node_modules/kept\n*.log\n/docs\n**/*.tmp\n',
      Dockerfile: '',
      'node_modules/a/index.js': '',
      'node_modules/kept/index.js': '',
      'a.log': '',
      'sub/b.log': '',
      'sub/c.tmp': '',
      'docs/d': '',
    })
    expect(await namesOf(directory)).toEqual([
      '.dockerignore',
      'Dockerfile',
      'node_modules/kept',
      'node_modules/kept/index.js',
      'sub',
      'sub/b.log',
    ])
  })

  test('has the Dockerfile and its own ignore file whatever they say', async () => {
    const directory = temporaryProject({
      '.dockerignore': 'a',
      'docker/app': 'FROM a',
      'docker/app.dockerignore': '**\n!b',
      a: '',
      b: '',
    })
    expect(await namesOf(directory, 'docker/app')).toEqual([
      '.dockerignore',
      'b',
      'docker',
      'docker/app',
      'docker/app.dockerignore',
    ])
    expect((await find(directory, 'docker/app')).dockerfile).toBe('docker/app')
  })

  test('with a socket in it is refused by name, unless it is ignored', async () => {
    const directory = mkdtempSync('/tmp/isola-c-')
    writeFileSync(join(directory, 'Dockerfile'), '')
    const server = createServer().listen(join(directory, 's'))
    await new Promise((resolve) => server.once('listening', resolve))
    try {
      expect((await failureOf(find(directory))).message).toContain('"s" is no file, directory or link')
      writeFileSync(join(directory, '.dockerignore'), 's\n!x')
      expect(await namesOf(directory)).toEqual(['.dockerignore', 'Dockerfile'])
    } finally {
      await new Promise((resolve) => server.close(resolve))
      rmSync(directory, { recursive: true })
    }
  })

  test('that is larger than an image may be is refused before it is sent', async () => {
    const directory = temporaryProject({ Dockerfile: '', big: '' })
    truncateSync(join(directory, 'big'), CONTAINER_LIMITS.imageBytesMax + 1)
    const error = await failureOf(find(directory))
    expect(error.code).toBe('bundle_too_large')
    expect(error.message).toContain('.dockerignore')
  })

  test('with too many files is refused', async () => {
    const directory = temporaryProject({ Dockerfile: '' })
    for (let index = 0; index < BUILD_LIMITS.filesScannedMax; index++)
      writeFileSync(join(directory, `f${index}`), '')
    expect((await failureOf(find(directory))).message).toContain(
      `more than ${BUILD_LIMITS.filesScannedMax} files`,
    )
  })

  test('fails by the name of a file that is shorter, or gone, when it is sent', async () => {
    const directory = temporaryProject({ Dockerfile: '', a: 'text', b: 'text' })
    const context = await find(directory)
    writeFileSync(join(directory, 'a'), '')
    const shorter = await failureOf(readTar(packDockerfileContext(context)))
    expect([shorter.code, shorter.message]).toEqual([
      'build_failed',
      expect.stringContaining('"a" cannot be sent'),
    ])
    rmSync(join(directory, 'a'))
    expect((await failureOf(readTar(packDockerfileContext(context)))).message).toContain('ENOENT')
  })

  test('stops reading when nobody takes it any more', async () => {
    const directory = temporaryProject({ Dockerfile: '', big: 'x'.repeat(3_000_000) })
    const tar = packDockerfileContext(await find(directory))
    for await (const chunk of tar) {
      expect((chunk as Buffer).length).toBeGreaterThan(0)
      break
    }
    expect(tar.destroyed).toBe(true)
  })
})
