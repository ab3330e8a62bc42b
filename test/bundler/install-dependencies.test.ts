import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { packArchive } from '../../bundler/archive.ts'
import { packHandlerDirectory, type HandlerDirectory } from '../../bundler/handler-directory.ts'
import { runTool } from '../../bundler/run-tool.ts'
import { failureOf, temporaryProject, writeFiles } from './temporary-project.ts'

const HANDLER = 'export const handler = async () => 1\n'

function options(directory: string, more: Partial<HandlerDirectory> = {}): HandlerDirectory {
  return { directory, runtime: 'nodejs24', handler: 'index.handler', exclude: [], ...more }
}

const namesOf = async (options: HandlerDirectory): Promise<string[]> =>
  (await packHandlerDirectory(options)).files.map(({ name }) => name)

describe('packages', () => {
  const leftovers = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith('isola-install-'))

  test('of package.json are installed in a copy, and the directory stays as it was', async () => {
    const directory = temporaryProject({
      'index.js': HANDLER,
      'greeter/package.json': '{"name":"greeter","version":"1.0.0"}',
    })
    writeFiles(join(directory, 'greeter'), { 'index.js': 'exports.hello = 1' })
    execFileSync('npm', ['pack', './greeter', '--silent'], { cwd: directory })
    writeFiles(directory, { 'package.json': '{"dependencies":{"greeter":"file:greeter-1.0.0.tgz"}}' })
    const lines: string[] = []
    const before = leftovers()
    const given = options(directory, { exclude: ['greeter/**'], onProgress: (line) => lines.push(line) })
    expect(await namesOf(given)).toEqual([
      'greeter-1.0.0.tgz',
      'index.js',
      'node_modules/greeter/index.js',
      'node_modules/greeter/package.json',
      'package.json',
    ])
    expect(lines[0]).toBe('installing the 1 package of package.json')
    expect(lines.join('\n')).toContain('added 1 package')
    expect(existsSync(join(directory, 'node_modules'))).toBe(false)
    expect(leftovers()).toEqual(before)
  })

  test('are looked for where .npmrc says, which is not in the archive', async () => {
    const directory = temporaryProject({
      'index.js': HANDLER,
      // Nobody listens there.
      '.npmrc': 'registry=http://127.0.0.1:1/\nfetch-retries=0\n',
      'package.json': '{"dependencies":{"greeter":"1.0.0"}}',
    })
    const error = await failureOf(packHandlerDirectory(options(directory)))
    expect(error.message).toContain('ECONNREFUSED 127.0.0.1:1')
    writeFiles(directory, { 'package.json': '{}' })
    expect(await namesOf(options(directory))).toEqual(['index.js', 'package.json'])
  })

  test('that npm cannot install fail the build with its words, and the copy is gone', async () => {
    const directory = temporaryProject({
      'index.js': HANDLER,
      'package.json': '{"dependencies":{"gone":"file:gone.tgz"}}',
    })
    const before = leftovers()
    const error = await failureOf(packHandlerDirectory(options(directory)))
    expect(error.code).toBe('build_failed')
    expect(error.message).toMatch(
      /installing the 1 package of package\.json failed: npm ended with exit code \d+/,
    )
    expect(error.message).toMatch(/It wrote:\n\n[^]*gone\.tgz/)
    expect(leftovers()).toEqual(before)
  })

  test('with a lock file that does not fit are refused by npm ci', async () => {
    const directory = temporaryProject({
      'index.js': HANDLER,
      'package.json': '{"name":"a","dependencies":{"b":"1.0.0"}}',
      'package-lock.json': '{"name":"a","lockfileVersion":3,"packages":{"":{"name":"a"}}}',
    })
    const error = await failureOf(packHandlerDirectory(options(directory)))
    expect(error.message).toContain('npm ci')
  })

  test('that are vendored are taken as they are, and nothing is run without any', async () => {
    const files = { 'index.js': HANDLER, 'package.json': '{"dependencies":{"gone":"file:gone.tgz"}}' }
    const vendored = temporaryProject({ ...files, 'node_modules/other/index.js': '' })
    expect(await namesOf(options(vendored))).toContain('node_modules/other/index.js')
    const none = temporaryProject({
      ...files,
      'package.json': '{"devDependencies":{"gone":"file:gone.tgz"}}',
    })
    expect(await namesOf(options(none))).toEqual(['index.js', 'package.json'])
    const broken = temporaryProject({ ...files, 'package.json': '{' })
    expect((await failureOf(packHandlerDirectory(options(broken)))).message).toContain(
      'package.json is not JSON',
    )
  })

  const python = { runtime: 'python3', handler: 'main.handler' } as const

  test('of requirements.txt that lie beside the handler are taken as they are', async () => {
    const directory = temporaryProject({
      'main.py': '',
      'requirements.txt': '# what it needs\nRequests_Toolbelt[all]>=2 ; python_version > "3"\n\nsix  # old\n',
      'requests_toolbelt/__init__.py': '',
      'requests_toolbelt-2.1.0.dist-info/METADATA': '',
      'six.py': '',
      'six-1.16.0.dist-info/METADATA': '',
    })
    expect(await namesOf(options(directory, python))).toContain('six.py')
  })

  test('of requirements.txt that are missing are installed by pip', async () => {
    const wheel = await packArchive(
      Object.entries({
        'greeter.py': 'hello = 1\n',
        'greeter-1.0.dist-info/METADATA': 'Metadata-Version: 2.1\nName: greeter\nVersion: 1.0\n',
        'greeter-1.0.dist-info/WHEEL':
          'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
        'greeter-1.0.dist-info/RECORD': '',
      }).map(([name, text]) => ({ name, body: Buffer.from(text) })),
    )
    const directory = temporaryProject({
      'main.py': '',
      'requirements.txt': './greeter-1.0-py3-none-any.whl\n',
      'greeter-1.0-py3-none-any.whl': wheel.bytes,
    })
    const names = await namesOf(options(directory, python))
    expect(names).toContain('greeter.py')
    expect(names).toContain('main.py')
    expect(names.filter((name) => name.includes('__pycache__'))).toEqual([])
    expect(readdirSync(directory)).not.toContain('greeter.py')
  })

  test('of requirements.txt that pip cannot install fail the build with its words', async () => {
    const directory = temporaryProject({ 'main.py': '', 'requirements.txt': './gone.whl\n' })
    const error = await failureOf(packHandlerDirectory(options(directory, python)))
    expect(error.message).toMatch(/installing the packages of requirements\.txt failed[^]*gone\.whl/)
    expect(error.message).toContain('pip install -r requirements.txt -t .')
  })

  test('are left alone by a tool that is not there, does not end, or is killed', async () => {
    const run = { purpose: 'installing', args: [], directory: tmpdir(), wayOut: 'Do it yourself' }
    const gone = await failureOf(runTool({ ...run, command: 'isola-no-such-tool' }))
    expect(gone.message).toBe('installing failed: isola-no-such-tool is not installed here. Do it yourself')
    const endless = await failureOf(runTool({ ...run, command: 'sleep', args: ['60'], timeoutMs: 50 }))
    expect(endless.message).toContain('sleep did not end within 50 ms')
    const killed = await failureOf(runTool({ ...run, command: 'sh', args: ['-c', 'kill -9 $$'] }))
    expect(killed.message).toContain('was ended by SIGKILL')
  })
})
