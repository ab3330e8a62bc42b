import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { findModules } from '../../bundler/additional-modules.ts'
import type { BuildOptions } from '../../bundler/build-options.ts'
import { bundle } from '../../bundler/bundle.ts'
import { codeFrame } from '../../bundler/code-frame.ts'
import { compileRules } from '../../bundler/module-rules.ts'
import type { IsolaError } from '../../sdk/model/errors.ts'
import { BUILD_LIMITS, BUNDLE_LIMITS } from '../../sdk/model/limits.ts'
import { buildOptions, failureOf, temporaryProject } from './temporary-project.ts'

const FUNCTION = 'export default { fetch: () => new Response("ok") }\n'

function failure(files: Record<string, string>, more: Partial<BuildOptions> = {}): Promise<IsolaError> {
  return failureOf(bundle(buildOptions(temporaryProject(files), more)))
}

describe('errors in the sources', () => {
  test('a syntax error shows file, line, column, text and the code with a caret', async () => {
    const error = await failure(
      { 'src/index.ts': 'const a = 1\n\nexport default { fetch( }\n' },
      { main: 'src/index.ts' },
    )
    expect(error.code).toBe('build_failed')
    expect(error.message).toContain('1 error')
    expect(error.message).toContain('src/index.ts:3:25: Expected identifier but found "}"')
    expect(error.message).toContain('  3 | export default { fetch( }\n    |                         ^')
    expect(error.details?.diagnostics).toEqual([
      expect.objectContaining({
        file: 'src/index.ts',
        line: 3,
        column: 25,
        text: 'Expected identifier but found "}"',
      }),
    ])
  })

  test('columns count characters, not bytes', async () => {
    const error = await failure({ 'index.ts': 'const ö = "äöü日本"; const = 1' })
    expect(error.details?.diagnostics).toMatchObject([{ line: 1, column: 26 }])
  })

  test('errors of several files come together, the first ten with frames and the rest counted', async () => {
    const names = Array.from({ length: 13 }, (_, index) => `bad${index}.ts`)
    const files = Object.fromEntries(names.map((name) => [name, 'let = ;']))
    const main = names.map((name) => `import './${name}'`).join('\n')
    const error = await failure({ ...files, 'index.ts': `${main}\n${FUNCTION}` })
    expect(error.message).toContain('13 errors')
    expect(error.message).toContain('and 3 more errors')
    expect(error.details).toMatchObject({ errorsCount: 13 })
    expect(error.details?.diagnostics).toHaveLength(BUILD_LIMITS.diagnosticsCountMax)
  })

  test('an import that is not there is shown where it is written', async () => {
    const error = await failure({ 'index.ts': `import x from './missing'\n${FUNCTION}console.log(x)` })
    expect(error.message).toContain('index.ts:1:15: Could not resolve "./missing"')
  })

  test('a package that is not there is one to install, and nothing can be left external', async () => {
    for (const [specifier, name] of [
      ['no-such', 'no-such'],
      ['@some/no-such/part', '@some/no-such'],
    ]) {
      const error = await failure({ 'index.ts': `import x from '${specifier}'\n${FUNCTION}console.log(x)` })
      expect(error.message).toContain(`npm install ${name}`)
      expect(error.message).not.toContain('external')
    }
    const own = await failure({ 'index.ts': `import x from './missing'\n${FUNCTION}console.log(x)` })
    expect(own.message).not.toContain('npm install')
  })

  test('an error in a text module import shows its place too', async () => {
    const error = await failure({ 'index.ts': `import x from './missing.txt'\n${FUNCTION}console.log(x)` })
    expect(error.message).toContain('index.ts:1:15: Could not resolve "./missing.txt"')
  })

  test('a Node.js module without its flag is refused with the flag to add', async () => {
    for (const name of ['node:fs', 'fs', 'node:anything']) {
      const error = await failure({ 'index.ts': `import fs from '${name}'\n${FUNCTION}console.log(fs)` })
      expect(error.message).toContain(`Could not resolve "${name}"`)
      expect(error.message).toContain('add "nodejs_compat" to compatibility_flags')
      expect(error.message).not.toContain('platform')
    }
    const error = await failure({ 'index.ts': `import 'async_hooks'\n${FUNCTION}` })
    expect(error.message).toContain('nodejs_als')
  })

  test('a file type that nothing loads is refused with the rule to add', async () => {
    const error = await failure({
      'index.ts': `import x from './a.png'\n${FUNCTION}console.log(x)`,
      'a.png': 'x',
    })
    expect(error.message).toContain('"globs": ["**/*.png"]')
  })

  test('a file whose rule an earlier rule has ended is refused, not lost', async () => {
    const error = await failure(
      { 'index.ts': `import x from './a.txt'\n${FUNCTION}console.log(x)`, 'a.txt': 'x' },
      { rules: [{ type: 'Text', globs: ['**/*.md'] }] },
    )
    expect(error.message).toContain('index.ts:1:15')
    expect(error.message).toContain('"fallthrough": true')
  })

  test('an alias that leads nowhere is named', async () => {
    const error = await failure(
      { 'index.ts': `import x from 'a'\n${FUNCTION}console.log(x)` },
      { alias: { a: './gone.ts' } },
    )
    expect(error.message).toContain('alias "a" leads to "./gone.ts"')
  })

  test('a define that is no expression is refused', async () => {
    const error = await failure({ 'index.ts': FUNCTION }, { define: { A: 'not an expression' } })
    expect(error.code).toBe('build_failed')
    expect(error.message).toContain('not an expression')
  })

  test('a broken tsconfig and one that is not there are named', async () => {
    const missing = await failure({ 'index.ts': FUNCTION }, { tsconfig: 'other.json' })
    expect(missing.message).toContain('other.json')
    const files = { 'index.ts': `import a from 'a'\n${FUNCTION}`, 'tsconfig.json': '{ "extends": ' }
    expect((await failure(files)).message).toContain('tsconfig.json')
  })

  test('without bundling, syntax errors of every script are shown with their frames', async () => {
    const files = {
      'index.js': `import './b.js'\n${FUNCTION}`,
      'b.js': 'let x: number = 1\n',
      'c.cjs': 'return }',
    }
    const error = await failure(files, { main: 'index.js', noBundle: true })
    expect(error.message).toContain('b.js:1:6: Expected ";" but found ":"')
    expect(error.message).toContain('c.cjs:1:8')
  })

  test('a syntax error in an additional module is shown as one of the build', async () => {
    const files = { 'index.ts': FUNCTION, 'parts/a.mjs': 'let = 1' }
    const rules = [{ type: 'ESModule', globs: ['**/*.mjs'] }] as const
    const error = await failure(files, { findAdditionalModules: true, rules })
    expect(error.message).toContain('parts/a.mjs:1:')
  })
})

describe('what is no function', () => {
  test('a missing default export names what is exported instead', async () => {
    expect((await failure({ 'index.ts': 'export const fetch = () => {}' })).message).toContain(
      'exports only fetch',
    )
    expect((await failure({ 'index.ts': 'console.log(1)' })).message).toContain('exports nothing')
  })

  test('a default export that comes from another file or from CommonJS is one', async () => {
    const again = { 'index.ts': `export { default } from './real.ts'`, 'real.ts': FUNCTION }
    const old = {
      'index.ts': `import f from './f.cjs'\nexport default f`,
      'f.cjs': 'module.exports = { fetch() {} }',
    }
    for (const files of [again, old]) {
      await expect(bundle(buildOptions(temporaryProject(files)))).resolves.toHaveProperty(
        'bundle.mainModule',
        'index.js',
      )
    }
  })

  test('main that is not there, a directory, or Python is refused with the path', async () => {
    expect((await failure({}, { main: 'gone.ts' })).message).toMatch(
      /main .*gone\.ts does not exist: correct "main"/,
    )
    expect((await failure({ 'a/b.ts': '' }, { main: 'a' })).message).toContain('is not a file')
    expect((await failure({ 'm.py': '' }, { main: 'm.py' })).message).toContain('Python')
    const nowhere = await failureOf(bundle(buildOptions('/nowhere/at/all')))
    expect(nowhere.message).toContain('/nowhere/at/all')
  })

  test('main outside of base_dir is refused without bundling', async () => {
    const files = { 'index.js': FUNCTION, 'sub/a.js': '' }
    const error = await failure(files, { main: 'index.js', noBundle: true, baseDirectory: 'sub' })
    expect(error.message).toContain('base_dir')
    const gone = await failure(files, { main: 'index.js', noBundle: true, baseDirectory: 'nowhere' })
    expect(gone.code).toBe('build_failed')
  })

  test('a base_dir that is not there is named', async () => {
    const error = await failure(
      { 'index.ts': FUNCTION },
      { findAdditionalModules: true, baseDirectory: 'nowhere' },
    )
    expect(error.code).toBe('build_failed')
    expect(error.message).toMatch(/nowhere cannot be read.*base_dir/)
  })
})

describe('bounds', () => {
  test('more bytes than a bundle may have are refused with the biggest modules, before they are read', async () => {
    const directory = temporaryProject({ 'index.js': FUNCTION, 'small.bin': 'x' })
    writeFileSync(join(directory, 'big.bin'), '')
    truncateSync(join(directory, 'big.bin'), BUNDLE_LIMITS.modulesBytesMax)
    const error = await failureOf(bundle(buildOptions(directory, { main: 'index.js', noBundle: true })))
    expect(error.code).toBe('bundle_too_large')
    expect(error.message).toContain(`more than ${BUNDLE_LIMITS.modulesBytesMax}`)
    expect(error.message).toContain('64.0 MiB big.bin')
    expect(error.details).toMatchObject({ modulesBytesMax: BUNDLE_LIMITS.modulesBytesMax })
  })

  test('modules that fit alone and not together are refused', async () => {
    const half = BUNDLE_LIMITS.modulesBytesMax / 2
    const directory = temporaryProject({
      'index.ts': `import a from './a.bin'\nimport b from './b.bin'\n${FUNCTION}console.log(a, b)`,
    })
    for (const [name, byte] of [
      ['a.bin', 1],
      ['b.bin', 2],
    ] as const)
      writeFileSync(join(directory, name), Buffer.alloc(half, byte))
    const error = await failureOf(bundle(buildOptions(directory)))
    expect(error.code).toBe('bundle_too_large')
    expect(error.message).toMatch(/32\.0 MiB [0-9a-f]{40}-a\.bin/)
  })

  test('one imported file that is too large is shown where it is imported', async () => {
    const directory = temporaryProject({
      'index.ts': `import a from './a.bin'\n${FUNCTION}console.log(a)`,
      'a.bin': '',
    })
    truncateSync(join(directory, 'a.bin'), BUNDLE_LIMITS.modulesBytesMax + 1)
    const error = await failureOf(bundle(buildOptions(directory)))
    expect(error.message).toContain('index.ts:1:15')
    expect(error.message).toContain(String(BUNDLE_LIMITS.modulesBytesMax + 1))
  })

  test('more modules than a bundle may have are refused with their number', async () => {
    const files = Object.fromEntries(
      Array.from({ length: BUNDLE_LIMITS.modulesCountMax + 1 }, (_, index) => [`${index}.txt`, '']),
    )
    const error = await failure({ ...files, 'index.js': FUNCTION }, { main: 'index.js', noBundle: true })
    expect(error.code).toBe('bundle_too_large')
    expect(error.message).toContain('10001 modules, more than 10000')
  })

  test('a module name that is too long is refused', async () => {
    const long = `${'d'.repeat(200)}/${'e'.repeat(200)}/${'f'.repeat(200)}.txt`
    const error = await failure({ [long]: '', 'index.js': FUNCTION }, { main: 'index.js', noBundle: true })
    expect(error.code).toBe('bundle_too_large')
    expect(error.message).toContain('606 bytes, more than 512')
  })

  test('two modules of one name are refused', async () => {
    const files = { 'src/index.ts': FUNCTION, 'src/index.js': 'export {}' }
    const rules = [{ type: 'ESModule', globs: ['**/*.js'] }] as const
    const error = await failure(files, { main: 'src/index.ts', findAdditionalModules: true, rules })
    expect(error.message).toContain('two modules are named "index.js"')
  })

  test('a search for modules ends at its bound', async () => {
    const directory = temporaryProject({ a: '', b: '', c: '' })
    const rules = compileRules([], { javascript: true })
    const search = { directory, rules, except: new Set<string>() }
    await expect(findModules({ ...search, filesScannedMax: 3 })).resolves.toEqual([])
    const error = await failureOf(findModules({ ...search, filesScannedMax: 2 }))
    expect(error).toMatchObject({ code: 'bundle_too_large', message: expect.stringContaining('base_dir') })
  })
})

describe('the build command', () => {
  test('makes main before it is looked for, in its directory', async () => {
    const directory = temporaryProject({ 'tools/template': FUNCTION })
    const customBuild = {
      command: 'mkdir -p ../out && cp template ../out/index.js',
      cwd: 'tools',
      watchDirectories: [],
    }
    const built = await bundle(buildOptions(directory, { main: 'out/index.js', customBuild }))
    expect(built.bundle.mainModule).toBe('index.js')
  })

  test('that fails is shown with its exit code and what it wrote', async () => {
    const customBuild = { command: 'echo to stdout; echo to stderr >&2; exit 3', watchDirectories: [] }
    const error = await failure({ 'index.ts': FUNCTION }, { customBuild })
    expect(error.code).toBe('build_failed')
    expect(error.message).toContain('exit code 3')
    expect(error.message).toContain('to stdout')
    expect(error.message).toContain('to stderr')
  })

  test('that makes no main is named as the cause', async () => {
    const error = await failure({}, { customBuild: { command: 'true', watchDirectories: [] } })
    expect(error.message).toContain('build.command "true" should have made it')
  })

  test('that does not end is killed with all it started', async () => {
    const directory = temporaryProject({ 'index.ts': FUNCTION })
    const customBuild = { command: 'sleep 1000 & echo child $!; wait', watchDirectories: [], timeoutMs: 200 }
    const error = await failureOf(bundle(buildOptions(directory, { customBuild })))
    expect(error.message).toContain('did not end within 200 ms')
    const pid = Number(/child (\d+)/.exec(error.message)?.[1])
    expect(pid).toBeGreaterThan(0)
    await expect.poll(() => isRunning(pid)).toBe(false)
  })

  test('that leaves a process in the background does not keep it, nor wait for it', async () => {
    const directory = temporaryProject({ 'index.ts': FUNCTION })
    const customBuild = { command: 'sleep 1000 & echo child $!; exit 1', watchDirectories: [] }
    const error = await failureOf(bundle(buildOptions(directory, { customBuild })))
    const pid = Number(/child (\d+)/.exec(error.message)?.[1])
    await expect.poll(() => isRunning(pid)).toBe(false)
  })

  test('that writes without end is remembered by its last words', async () => {
    const command = `head -c ${BUILD_LIMITS.commandOutputBytesMax * 2} /dev/zero | tr '\\0' x; echo the end; exit 1`
    const error = await failure({ 'index.ts': FUNCTION }, { customBuild: { command, watchDirectories: [] } })
    expect(error.message).toContain('the end')
    expect(error.message.length).toBeLessThan(BUILD_LIMITS.commandOutputBytesMax + 1_000)
  })

  test('with a NUL character is refused, as no command can hold one', async () => {
    const error = await failure(
      { 'index.ts': FUNCTION },
      { customBuild: { command: 'a\0b', watchDirectories: [] } },
    )
    expect(error).toMatchObject({ code: 'build_failed', message: expect.stringContaining('NUL') })
  })

  test('that cannot be started is shown with its directory', async () => {
    const customBuild = { command: 'true', cwd: 'nowhere', watchDirectories: [] }
    const error = await failure({ 'index.ts': FUNCTION }, { customBuild })
    expect(error.message).toContain('nowhere')
  })
})

describe('code frames', () => {
  test('a long line is cut around the place, and the caret stands under it', () => {
    const text = `${'a'.repeat(5_000)}!${'b'.repeat(5_000)}`
    const [source = '', caret = ''] = codeFrame({ text, line: 1, column: 5_001 }).split('\n')
    expect(source.length).toBeLessThan(120)
    expect(source[caret.indexOf('^')]).toBe('!')
    expect(source).toMatch(/^ {2}1 \| …a+!b+…$/)
  })

  test('a line that fits is shown from its start', () => {
    const text = `${'a'.repeat(60)}!`
    expect(codeFrame({ text, line: 1, column: 61 }).split('\n')[0]).toBe(`  1 | ${text}`)
  })

  test('control characters and tabs become blanks, so that the caret stays in place', () => {
    const [source = '', caret = ''] = codeFrame({ text: '\t\u001b[31m!', line: 1, column: 7 }).split('\n')
    expect(source).not.toContain('\u001b')
    expect(source[caret.indexOf('^')]).toBe('!')
  })

  test('a line that the text does not have gives no frame', () => {
    expect(codeFrame({ text: 'one', line: 2, column: 1 })).toBe('')
  })
})

/** A killed process that nobody has waited for yet is still listed, as a zombie. */
function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
