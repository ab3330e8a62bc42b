import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isAlive, ISOLA_BIN, startTestNode } from '../harness/node.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const HELLO = join(ROOT, 'examples/hello')

let directory: string

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'isola-bin-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** A Node older than the one that isola brings, if this machine has one. */
function olderNode(): string | undefined {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .map((path) => join(path, 'node'))
    .filter((path) => existsSync(path))
    .find((path) => Number(/^v(\d+)/.exec(execFileSync(path, ['--version'], { encoding: 'utf8' }))?.[1]) < 24)
}

const older = olderNode()

describe('the bin', () => {
  test('the process that a user starts is the command itself', async () => {
    const child = spawn(ISOLA_BIN, ['dev', HELLO, '--port', '0', '--json'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const line = await firstLine(child.stdout)
    expect(line).toContain('"ready"')
    expect(readFileSync(`/proc/${child.pid}/cmdline`, 'utf8')).toContain('sdk/cli/main.ts\0dev')
    child.kill('SIGTERM')
    expect(await new Promise((resolve) => child.on('exit', resolve))).toBe(0)
  })

  test('a reader may be slow: what is written goes out before the command ends', async () => {
    const message = 'x'.repeat(500)
    const line = {
      time: '2026-01-01T00:00:00.000Z',
      source: 'console',
      level: 'log',
      functionName: 'f',
      versionId: 'v',
      message,
    }
    const control = createServer((_request, response) =>
      response.end(`${JSON.stringify(line)}\n`.repeat(1_000)),
    )
    await new Promise<void>((resolve) => control.listen(0, '127.0.0.1', resolve))
    try {
      const url = `http://127.0.0.1:${(control.address() as AddressInfo).port}`
      const child = spawn(ISOLA_BIN, ['logs', 'f', '--json', '--control', url, '--token', 'token'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      // Long enough for a command that does not wait to be gone.
      await setTimeout(1_500)
      expect((await text(child.stdout)).trim().split('\n')).toHaveLength(1_000)
    } finally {
      control.close()
    }
  })

  test('below npm it ends with its parent: npm tells only the shell between, which tells nobody', async () => {
    const words = ['dev', HELLO, '--port', '0', '--json']
    const shell = spawn('sh', ['-c', '"$0" "$@"; exit', ISOLA_BIN, ...words], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, npm_lifecycle_event: 'npx' },
    })
    expect(await firstLine(shell.stdout)).toContain('"ready"')
    const pid = Number(readFileSync(`/proc/${shell.pid}/task/${shell.pid}/children`, 'utf8'))
    shell.kill('SIGTERM')
    try {
      await expect.poll(() => isAlive(pid), { timeout: 20_000 }).toBe(false)
    } finally {
      if (isAlive(pid)) process.kill(pid, 'SIGKILL')
    }
  })

  test('where no Node 24 is found, it says what to do', () => {
    const lonely = join(directory, 'lonely/sdk/cli')
    mkdirSync(lonely, { recursive: true })
    execFileSync('cp', [ISOLA_BIN, join(lonely, 'bin.js')])
    const run = (): string =>
      execFileSync('/bin/sh', [join(lonely, 'bin.js'), '--version'], {
        env: { PATH: '/nowhere' },
        stdio: 'pipe',
        encoding: 'utf8',
      })
    // readlink is not there either, so the path is taken as it was given.
    expect(run).toThrow(/isola needs Node\.js 24 and found none: run "npm install"/)
  })

  test.skipIf(older === undefined)(
    '"node bin.js" under an older Node works, and passes on code and signals',
    async () => {
      const node = older ?? ''
      expect(execFileSync(node, [ISOLA_BIN, '--version'], { encoding: 'utf8' })).toMatch(/^\d+\.\d+\.\d+\n$/)
      expect(() => execFileSync(node, [ISOLA_BIN, 'nonsense'], { stdio: 'pipe' })).toThrow(
        expect.objectContaining({ status: 2 }),
      )
      for (const [signal, code] of [
        ['SIGTERM', 0],
        ['SIGKILL', null],
      ] as const) {
        const launcher = spawn(node, [ISOLA_BIN, 'dev', HELLO, '--port', '0', '--json'], {
          stdio: ['ignore', 'pipe', 'inherit'],
        })
        expect(await firstLine(launcher.stdout)).toContain('"ready"')
        const exited = new Promise((resolve) => launcher.on('exit', resolve))
        // The pipe ends when the last process that holds it is gone: the launched one too.
        const allGone = new Promise((resolve) => launcher.stdout.on('close', resolve))
        launcher.kill(signal)
        expect(await exited).toBe(code)
        await allGone
      }
    },
  )
})

describe('the package', () => {
  test('packed and unpacked below node_modules, it runs without its sources', async () => {
    const [packed] = JSON.parse(
      execFileSync('npm', ['pack', '--json', '--pack-destination', directory], {
        cwd: ROOT,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      }).replace(/^[^[]*(?=\[\n)/, ''),
    ) as [{ filename: string; files: { path: string }[] }]
    const paths = packed.files.map(({ path }) => path)
    expect(paths).toEqual(
      expect.arrayContaining([
        'LICENSE',
        'README.md',
        'package.json',
        'sdk/cli/bin.js',
        'dist/sdk/cli/main.js',
      ]),
    )
    expect(paths.filter((path) => path.endsWith('.ts') || path.startsWith('test/'))).toEqual([])

    const installed = join(directory, 'project/node_modules/isola')
    mkdirSync(installed, { recursive: true })
    execFileSync('tar', ['-xzf', join(directory, packed.filename), '-C', installed, '--strip-components=1'])
    symlinkSync(join(ROOT, 'node_modules'), join(installed, 'node_modules'))
    const bin = join(directory, 'project/node_modules/.bin/isola')
    mkdirSync(join(directory, 'project/node_modules/.bin'))
    symlinkSync('../isola/sdk/cli/bin.js', bin)
    const isola = (...words: string[]): string =>
      execFileSync(bin, words, { encoding: 'utf8', cwd: join(directory, 'project') })
    expect(isola('--version')).toMatch(/^\d+\.\d+\.\d+\n$/)
    expect(isola('doctor', '--http', '127.0.0.1:0', '--control', '127.0.0.1:0')).toMatch(/^workerd +ok/m)
    await using node = await startTestNode({ bin })
    expect((await node.isola('deploy', HELLO)).code).toBe(0)
    expect((await node.fetch('hello.localhost')).text()).toContain('Hello from isola!')
    expect(await node.stop()).toEqual({ exitCode: 0, leftBehind: [] })
  })
})

function firstLine(stream: NodeJS.ReadableStream): Promise<string> {
  return new Promise((resolve, reject) => {
    const lines = createInterface({ input: stream })
    lines.once('line', resolve)
    lines.once('close', () => reject(new Error('it ended without a line')))
  })
}
