import { readFileSync, symlinkSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { IsolaError } from '../../sdk/model/errors.ts'
import {
  BUILD_LIMITS,
  BUNDLE_LIMITS,
  COMPATIBILITY_DATE_MAX,
  CONTROL_LIMITS,
  INSTANCE_LIMITS,
} from '../../sdk/model/limits.ts'
import { loadConfig, type LoadOptions } from '../../wrangler-compat/config/load.ts'
import { failureOf, temporaryProject, writeFiles } from '../bundler/temporary-project.ts'

const BASE = { name: 'shop', main: 'index.ts', compatibility_date: '2026-01-01' }

function failureOfText(
  text: string,
  options: { file?: string; load?: Partial<LoadOptions> } = {},
): Promise<IsolaError> {
  const directory = temporaryProject({ 'index.ts': '', [options.file ?? 'wrangler.jsonc']: text })
  return failureOf(loadConfig({ directory, ...options.load }))
}

function failure(fields: object, load: Partial<LoadOptions> = {}): Promise<IsolaError> {
  return failureOfText(JSON.stringify({ ...BASE, ...fields }, null, 2), { load })
}

describe('files that cannot be read', () => {
  test('no configuration names the directory and the three names', async () => {
    const directory = temporaryProject({})
    const error = await failureOf(loadConfig({ directory }))
    expect(error.code).toBe('config_not_found')
    for (const part of [directory, 'wrangler.jsonc', 'wrangler.json', 'wrangler.toml'])
      expect(error.message).toContain(part)
  })

  test('a directory that is not there is said to be missing, rather than its configuration', async () => {
    const directory = join(temporaryProject({}), 'gone')
    const error = await failureOf(loadConfig({ directory }))
    expect([error.code, error.message]).toEqual([
      'config_not_found',
      `there is no directory or file ${directory}: correct the path`,
    ])
  })

  test('without a file, what is missing is asked for as a flag', async () => {
    const directory = temporaryProject({ 'one.js': '' })
    const { message } = await failureOf(loadConfig({ directory, main: 'one.js' }))
    expect(message).toContain('give --name my-function')
    expect(message).toMatch(/give --compatibility-date \d{4}-\d\d-\d\d/)
  })

  test('a named file that is not there, or is none by its name, is refused with its path', async () => {
    const directory = temporaryProject({ 'wrangler.yaml': '' })
    expect(await failureOf(loadConfig({ directory, file: 'gone.toml' }))).toMatchObject({
      code: 'config_not_found',
    })
    const other = await failureOf(loadConfig({ directory, file: 'wrangler.yaml' }))
    expect(other.code).toBe('config_invalid')
    expect(other.message).toContain('.jsonc, .json or .toml')
  })

  test('a JSON syntax error shows line, column and frame', async () => {
    const error = await failureOfText('{\n  "name": "shop",\n  "main": index.ts\n}')
    expect(error.code).toBe('config_invalid')
    expect(error.message).toContain('wrangler.jsonc:3:11: this is no JSON value')
    expect(error.message).toContain('  3 |   "main": index.ts\n    |           ^')
    expect(error.details?.problems).toMatchObject([{ line: 3, column: 11 }])
  })

  test('JSON that ends too early, holds nothing, or goes on is refused', async () => {
    expect((await failureOfText('{ "name": "a"')).message).toContain('closing brace')
    expect((await failureOfText('')).message).toContain('wrangler.jsonc:1:1')
    expect((await failureOfText('{} {}')).message).toContain('should end here')
    expect((await failureOfText('[1]')).message).toContain('write an object')
    expect((await failureOfText('"text"')).message).toContain('write an object')
  })

  test('a TOML syntax error shows line, column and frame', async () => {
    const error = await failureOfText('name = "shop"\nmain = \n', { file: 'wrangler.toml' })
    expect(error.code).toBe('config_invalid')
    expect(error.message).toMatch(/wrangler\.toml:2:\d+: this is not TOML/)
    expect(error.message).toContain('2 | main =')
  })

  test('a field that is there twice is refused, in JSON as in TOML', async () => {
    const error = await failureOfText('{\n "name": "a",\n "name": "b" }')
    expect(error.message).toContain('wrangler.jsonc:3:2: the field "name" is here twice')
    expect((await failureOfText('name = "a"\nname = "b"', { file: 'wrangler.toml' })).code).toBe(
      'config_invalid',
    )
  })

  test('values that JSON or TOML alone can say are refused with their line', async () => {
    const toml = (line: string) => failureOfText(`name = "a"\n[vars]\n${line}`, { file: 'wrangler.toml' })
    expect((await toml('D = 2026-01-01')).message).toContain('wrangler.toml:3:1: a TOML date')
    expect((await toml('N = nan')).message).toContain('NaN')
    expect((await failureOfText('{ "vars": { "N": 1e999 } }')).message).toContain('Infinity')
    for (const error of [
      await toml('__proto__ = 1'),
      await failureOfText('{ "vars": { "__proto__": 1 } }'),
    ]) {
      expect(error.message).toContain('"__proto__" is not usable')
    }
  })

  test('nesting without end is refused before it is followed', async () => {
    const depth = 100_000
    expect((await failureOfText('['.repeat(depth))).message).toContain(
      `deeper than ${BUILD_LIMITS.configDepthMax}`,
    )
    const keys = await failureOfText(`vars.${'a.'.repeat(depth)}a = 1`, { file: 'wrangler.toml' })
    expect(keys.message).toContain(`deeper than ${BUILD_LIMITS.configDepthMax}`)
    expect((await failureOfText(`a = ${'['.repeat(depth)}`, { file: 'wrangler.toml' })).code).toBe(
      'config_invalid',
    )
  })

  test('a file that is too long, or no UTF-8, is refused', async () => {
    const directory = temporaryProject({ 'wrangler.json': '{}' })
    truncateSync(join(directory, 'wrangler.json'), BUILD_LIMITS.configBytesMax + 1)
    const long = await failureOf(loadConfig({ directory }))
    expect(long.message).toContain(String(BUILD_LIMITS.configBytesMax))
    writeFiles(directory, { 'wrangler.json': Buffer.from([0x7b, 0xff, 0x7d]) })
    expect((await failureOf(loadConfig({ directory }))).message).toContain('not UTF-8')
  })

  test('a file that the system does not let be read is refused', async () => {
    const directory = temporaryProject({})
    // A regular file to look at, an I/O error to read: for root too.
    symlinkSync('/proc/self/mem', join(directory, 'wrangler.json'))
    expect((await failureOf(loadConfig({ directory }))).message).toContain('permissions')
  })
})

describe('fields that are wrong', () => {
  test('an unknown field is refused with the one that was probably meant, at any depth', async () => {
    const cases: [object, string][] = [
      [{ compatability_date: '2026-01-01' }, 'did you mean "compatibility_date"?'],
      [{ 'kv-namespaces': [] }, 'did you mean "kv_namespaces"?'],
      [{ noBundle: true }, 'did you mean "no_bundle"?'],
      [{ limits: { cpums: 5 } }, 'no field of "limits" that isola knows: did you mean "cpu_ms"?'],
      [
        { routes: [{ pattern: 'a.example/*', custom_domian: true }] },
        'no field of "routes[0]" that isola knows: did you mean "custom_domain"?',
      ],
      [{ rules: [{ type: 'Text', glob: ['x'], globs: ['x'] }] }, 'did you mean "globs"?'],
      [{ build: { comand: 'x' } }, 'did you mean "command"?'],
      [{ env: { a: { mian: 'x' } } }, 'no field of "env.a" that isola knows: did you mean "main"?'],
      [{ env: { a: { build: { cmd: 'x' } } } }, '"cmd" is no field of "env.a.build"'],
      [{ limits: { nothing_like_it: 1 } }, 'the fields are cpu_ms, subrequests'],
      [{ xyzzy: 1 }, 'correct or remove it'],
    ]
    for (const [fields, message] of cases) {
      const error = await failure(fields)
      expect(error.code).toBe('config_invalid')
      expect(error.message).toContain(message)
    }
  })

  test('a value of the wrong type is shown with what to give', async () => {
    const cases: [object, string][] = [
      [{ main: 42 }, '"main" is 42: give a string'],
      [{ compatibility_flags: 'nodejs_compat' }, '"compatibility_flags" is "nodejs_compat": give an array'],
      [{ vars: [] }, '"vars" is []: give an object'],
      [{ minify: 'yes' }, '"minify" is "yes": give a boolean'],
      [{ limits: { cpu_ms: 0 } }, '"limits.cpu_ms" is 0: give a number of at least 1'],
      [{ limits: { cpu_ms: 1e9 } }, `at most ${INSTANCE_LIMITS.cpuMsMax}`],
      [{ limits: { cpu_ms: 1.5 } }, '"limits.cpu_ms" is 1.5'],
      [{ rules: [{ type: 'Txt', globs: ['x'] }] }, '"rules[0].type" is "Txt": use one of "ESModule"'],
      [{ rules: [{ type: 'Text', globs: [] }] }, 'at least 1 element'],
      [{ routes: [5] }, '"routes[0]" is 5: give a string or an object with "pattern"'],
      [{ routes: [{ custom_domain: true }] }, '"routes[0].pattern" is missing: give a string'],
      [{ build: { watch_dir: 1 } }, 'give a string or an array of strings'],
      [{ define: { A: 1 } }, '"define.A" is 1: give a string'],
    ]
    for (const [fields, message] of cases) expect((await failure(fields)).message).toContain(message)
  })

  test('several problems come together, each with file, line, column and frame', async () => {
    const text = `{
  "name": "Not A Name",
  "main": "gone.ts",
  "compatibility_date": "yesterday",
  "routes": ["http://a.example/*"],
  "kv_namespaces": [{ "binding": "ONE" }, { "binding": "TWO" }]
}`
    const error = await failureOfText(text)
    expect(error.code).toBe('config_invalid')
    expect(error.message).toContain('wrangler.jsonc has 6 problems')
    expect(error.details?.problems).toEqual([
      expect.objectContaining({ code: 'config_invalid', field: 'name', line: 2, column: 3 }),
      expect.objectContaining({ field: 'main', line: 3 }),
      expect.objectContaining({ field: 'compatibility_date', line: 4 }),
      expect.objectContaining({ field: 'routes[0]', line: 5, column: 14 }),
      expect.objectContaining({ code: 'config_unsupported', field: 'kv_namespaces[0]', line: 6, column: 21 }),
      expect.objectContaining({ code: 'config_unsupported', field: 'kv_namespaces[1]', line: 6 }),
    ])
    expect(error.message).toContain('wrangler.jsonc:3:3: "main" is "gone.ts"')
    expect(error.message).toContain('  3 |   "main": "gone.ts",\n    |   ^')
  })

  test('problems in TOML have their lines too', async () => {
    const text = `name = "shop"
main = "index.ts"
compatibility_date = "2026-01-01"
note = """
main = "not this one"
"""

[[kv_namespaces]]
binding = "ONE"

[[kv_namespaces]]
binding = "TWO"

[env.a.limits]
cpu_ms = "x"
`
    const shape = await failureOfText(text, { file: 'wrangler.toml' })
    expect(shape.details?.problems).toEqual([
      expect.objectContaining({ field: 'note', line: 4 }),
      expect.objectContaining({ field: 'env.a.limits.cpu_ms', line: 15, column: 1 }),
    ])
    const fixed = text.replace('"x"', '5').replace(/note[^]*?"""\n[^]*?"""/, '\n\n')
    const support = await failureOfText(fixed, { file: 'wrangler.toml' })
    expect(support.details?.problems).toMatchObject([
      { field: 'kv_namespaces[0]', line: 8 },
      { field: 'kv_namespaces[1]', line: 11 },
    ])
  })

  test('a missing name, main or date says the line to add', async () => {
    const error = await failureOfText('{}')
    expect(error.message).toContain('add "name": "my-function"')
    expect(error.message).toContain('add "main": "src/index.ts"')
    expect(error.message).toContain(`add "compatibility_date": "${COMPATIBILITY_DATE_MAX}"`)
  })

  test('a line to add is written as the file is', async () => {
    const error = await failureOfText('', { file: 'wrangler.toml' })
    expect(error.message).toContain('add name = "my-function"')
    expect(error.message).toContain(`add compatibility_date = "${COMPATIBILITY_DATE_MAX}"`)
  })

  test('a date that is none, or too new, says the newest that works', async () => {
    for (const date of ['2026-02-30', '2026-1-1', 'today', '2026-13-01', '', '2099-01-01']) {
      const error = await failure({ compatibility_date: date })
      expect(error.message).toContain(`"compatibility_date" is "${date}"`)
      expect(error.message).toContain(COMPATIBILITY_DATE_MAX)
    }
  })

  test('the newest date is that of the installed workerd and a week', () => {
    const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
    const [, year, month, day] =
      /^1\.(\d{4})(\d\d)(\d\d)\./.exec(manifest.optionalDependencies['@cloudflare/workerd-linux-64']) ?? []
    const newest = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day) + 7))
    expect(COMPATIBILITY_DATE_MAX).toBe(newest.toISOString().slice(0, 10))
  })

  test('main is not looked for where a build command makes it', async () => {
    const directory = temporaryProject({
      'wrangler.json': JSON.stringify({ ...BASE, main: 'gone.js', build: { command: 'make' } }),
    })
    expect((await loadConfig({ directory })).build.main).toBe('gone.js')
  })

  test('an unknown environment lists those that exist', async () => {
    const error = await failure({ env: { production: {}, staging: {} } }, { environment: 'prodution' })
    expect(error.code).toBe('config_invalid')
    expect(error.message).toContain('no environment "prodution"')
    expect(error.message).toContain('"production", "staging"; did you mean "production"?')
    expect((await failure({}, { environment: 'x' })).message).toContain('the file has no "env"')
    expect((await failure({ env: {} }, { environment: 'constructor' })).message).toContain('no environment')
  })

  test('routes that cannot be are refused', async () => {
    expect((await failure({ route: 'a.example/*', routes: [] })).message).toContain(
      'both "route" and "routes"',
    )
    expect((await failure({ routes: ['a.example/*/b'] })).message).toContain('only the end may be one')
    expect((await failure({ routes: [{ pattern: 'a.example/*', custom_domain: true }] })).message).toContain(
      'write the host alone',
    )
    const many = Array.from(
      { length: CONTROL_LIMITS.routesPerFunctionMax + 1 },
      (_, index) => `h${index}.example/*`,
    )
    expect((await failure({ routes: many })).message).toContain('101 routes, more than 100')
  })

  test('variables beyond their bounds are refused', async () => {
    const long = 'x'.repeat(BUNDLE_LIMITS.varBytesMax + 1)
    expect((await failure({ vars: { LONG: long } })).message).toContain(
      `"vars.LONG" has ${long.length} bytes`,
    )
    expect((await failure({ vars: { '': 'x' } })).message).toContain('empty name')
    const many = Object.fromEntries(
      Array.from({ length: BUNDLE_LIMITS.bindingsCountMax + 1 }, (_, index) => [`V${index}`, '']),
    )
    expect((await failure({ vars: many })).message).toContain('257 variables, more than 256')
  })

  test('a problem of the options, without a file, has no place and is still said', async () => {
    const directory = temporaryProject({ 'a.ts': '' })
    const error = await failureOf(loadConfig({ directory, main: 'a.ts' }))
    expect(error.message).toContain('"name" is missing')
  })
})
