import { mkdirSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { bundle } from '../../bundler/bundle.ts'
import { loadConfig, type LoadedConfig, type LoadOptions } from '../../wrangler-compat/config/load.ts'
import { temporaryProject } from '../bundler/temporary-project.ts'

const FUNCTION = 'export default { fetch: () => new Response("ok") }\n'
const BASE = { name: 'shop', main: 'src/index.ts', compatibility_date: '2026-01-01' }

function load(fields: object, options: Partial<LoadOptions> = {}): Promise<LoadedConfig> {
  const directory = temporaryProject({
    'src/index.ts': FUNCTION,
    'wrangler.jsonc': JSON.stringify({ ...BASE, ...fields }),
  })
  return loadConfig({ directory, ...options })
}

describe('what a configuration says', () => {
  test('the least that is needed gives the defaults', async () => {
    const config = await load({})
    expect(config).toEqual({
      file: join(config.projectDirectory, 'wrangler.jsonc'),
      projectDirectory: config.projectDirectory,
      functionName: 'shop',
      build: {
        projectDirectory: config.projectDirectory,
        main: 'src/index.ts',
        compatibilityDate: '2026-01-01',
        compatibilityFlags: [],
      },
      bindings: [],
      compatibilityDate: '2026-01-01',
      compatibilityFlags: [],
      limits: {},
      routes: [],
      baseDomainHost: true,
      previewHosts: true,
      warnings: [],
    })
  })

  test('every field of the build reaches the bundler', async () => {
    const { build, warnings } = await load({
      compatibility_flags: ['nodejs_compat'],
      find_additional_modules: true,
      base_dir: 'src',
      preserve_file_names: true,
      rules: [{ type: 'Text', globs: ['**/*.md'], fallthrough: true }],
      define: { A: '1' },
      alias: { a: './b' },
      minify: true,
      keep_names: false,
      tsconfig: 'tsconfig.build.json',
      jsx_factory: 'h',
      jsx_fragment: 'Fragment',
      upload_source_maps: false,
      build: { command: 'make', cwd: 'tools', watch_dir: ['src', 'tools'] },
    })
    expect(warnings).toEqual([])
    expect(build).toMatchObject({
      compatibilityFlags: ['nodejs_compat'],
      findAdditionalModules: true,
      baseDirectory: 'src',
      preserveFileNames: true,
      rules: [{ type: 'Text', globs: ['**/*.md'], fallthrough: true }],
      define: { A: '1' },
      alias: { a: './b' },
      minify: true,
      keepNames: false,
      tsconfig: 'tsconfig.build.json',
      jsxFactory: 'h',
      jsxFragment: 'Fragment',
      sourceMaps: false,
      customBuild: { command: 'make', cwd: 'tools', watchDirectories: ['src', 'tools'] },
    })
  })

  test('a loaded configuration builds', async () => {
    const { build } = await load({ no_bundle: false })
    expect((await bundle(build)).bundle.mainModule).toBe('index.js')
  })

  test('vars are text where they are strings and JSON where not, sorted by name', async () => {
    const { bindings } = await load({
      vars: { Z: 'text', A: { deep: [1, null] }, N: 3, B: false, EMPTY: '' },
    })
    expect(bindings).toEqual([
      { type: 'json', name: 'A', json: { deep: [1, null] } },
      { type: 'json', name: 'B', json: false },
      { type: 'text', name: 'EMPTY', text: '' },
      { type: 'json', name: 'N', json: 3 },
      { type: 'text', name: 'Z', text: 'text' },
    ])
  })

  test('limits.cpu_ms becomes the limit of the version', async () => {
    expect((await load({ limits: { cpu_ms: 50 } })).limits).toEqual({ cpuMs: 50 })
  })

  test('workers_dev and preview_urls decide the hosts; previews follow workers_dev', async () => {
    const hosts = async (fields: object) => {
      const { baseDomainHost, previewHosts } = await load(fields)
      return [baseDomainHost, previewHosts]
    }
    expect(await hosts({ workers_dev: false })).toEqual([false, false])
    expect(await hosts({ workers_dev: false, preview_urls: true })).toEqual([false, true])
    expect(await hosts({ preview_urls: false })).toEqual([true, false])
  })
})

describe('routes', () => {
  test('strings and objects become patterns in their one spelling', async () => {
    const { routes, warnings } = await load({
      routes: [
        'Shop.Example/api/*',
        { pattern: '*.shop.example/*' },
        { pattern: 'www.shop.example', custom_domain: true },
      ],
    })
    expect(routes).toEqual([
      { pattern: 'shop.example/api/*' },
      { pattern: '*.shop.example/*' },
      { pattern: 'www.shop.example/*' },
    ])
    expect(warnings).toEqual([])
  })

  test('a single route is one', async () => {
    expect((await load({ route: 'shop.example/*' })).routes).toEqual([{ pattern: 'shop.example/*' }])
    expect((await load({ route: { pattern: 'shop.example/*' } })).routes).toEqual([
      { pattern: 'shop.example/*' },
    ])
  })

  test('zones have no effect and say so', async () => {
    const { warnings } = await load({
      routes: [
        { pattern: 'a.example/*', zone_name: 'example' },
        { pattern: 'b.example/*', zone_id: '1' },
      ],
    })
    expect(warnings).toHaveLength(2)
    expect(warnings[0]).toContain('"routes[0].zone_name" has no effect')
    expect(warnings[1]).toContain('"routes[1].zone_id" has no effect')
  })

  test('a route without a path, and one that is there twice, are named', async () => {
    const { routes, warnings } = await load({ routes: ['a.example', 'A.example/*'] })
    expect(routes).toEqual([{ pattern: 'a.example/*' }])
    expect(warnings.join('\n')).toContain('route "a.example" has no path and so means the whole host')
    expect(warnings.join('\n')).toContain('twice')
  })
})

describe('files', () => {
  const toml = `
name = "shop"
main = "src/index.ts"
compatibility_date = "2026-01-01"
compatibility_flags = ["nodejs_compat"]
routes = ["a.example/*", { pattern = "b.example", custom_domain = true }]

[vars]
TEXT = "t"
DEEP = { list = [1, 2.5, true] }

[limits]
cpu_ms = 100

[[rules]]
type = "Text"
globs = ["**/*.md"]

[env.production]
workers_dev = false
vars = { TEXT = "p" }
`
  const json = {
    name: 'shop',
    main: 'src/index.ts',
    compatibility_date: '2026-01-01',
    compatibility_flags: ['nodejs_compat'],
    routes: ['a.example/*', { pattern: 'b.example', custom_domain: true }],
    vars: { TEXT: 't', DEEP: { list: [1, 2.5, true] } },
    limits: { cpu_ms: 100 },
    rules: [{ type: 'Text', globs: ['**/*.md'] }],
    env: { production: { workers_dev: false, vars: { TEXT: 'p' } } },
  }

  test('TOML, JSON and JSON with comments that say the same mean the same', async () => {
    const texts = {
      'wrangler.toml': toml,
      'wrangler.json': JSON.stringify(json),
      'wrangler.jsonc': `// a comment\n${JSON.stringify(json, null, 2).replace(/\n\}$/, ',\n/* the end */ }')}`,
    }
    for (const environment of [undefined, 'production']) {
      const results: object[] = []
      for (const [name, text] of Object.entries(texts)) {
        const directory = temporaryProject({ 'src/index.ts': FUNCTION, [name]: text })
        const config = await loadConfig({ directory, ...(environment && { environment }) })
        const { file, projectDirectory, build, warnings, ...rest } = config
        expect(file).toBe(join(projectDirectory, name))
        const messages = warnings.map((warning) => warning.replace(/^[^ ]+ /, ''))
        results.push({ ...rest, messages, build: { ...build, projectDirectory: '' } })
      }
      expect(results[1]).toEqual(results[0])
      expect(results[2]).toEqual(results[0])
    }
  })

  test('of several files json goes before jsonc before toml, and the others are named', async () => {
    const named = (name: string) => JSON.stringify({ ...BASE, name })
    const directory = temporaryProject({
      'src/index.ts': FUNCTION,
      'wrangler.json': named('from-json'),
      'wrangler.jsonc': named('from-jsonc'),
      'wrangler.toml': toml,
    })
    const { functionName, warnings } = await loadConfig({ directory })
    expect(functionName).toBe('from-json')
    expect(warnings.join('\n')).toContain('wrangler.jsonc is not read')
    expect(warnings.join('\n')).toContain('wrangler.toml is not read')
  })

  test('a file can be named, and paths are relative to where it is', async () => {
    const directory = temporaryProject({
      'src/index.ts': FUNCTION,
      'sub/src/index.ts': FUNCTION,
      'sub/other.jsonc': JSON.stringify(BASE),
    })
    const config = await loadConfig({ directory, file: 'sub/other.jsonc' })
    expect(config.projectDirectory).toBe(join(directory, 'sub'))
  })

  test('a byte order mark at the start is no error', async () => {
    const directory = temporaryProject({
      'src/index.ts': FUNCTION,
      'wrangler.json': `\ufeff${JSON.stringify(BASE)}`,
    })
    expect((await loadConfig({ directory })).functionName).toBe('shop')
  })

  test('options replace main, name and date; with main no file is needed', async () => {
    const directory = temporaryProject({ 'other.ts': FUNCTION })
    mkdirSync(join(directory, 'empty'))
    const options = { main: 'other.ts', name: 'told', compatibilityDate: '2026-02-02' }
    const bare = await loadConfig({ directory, ...options })
    expect(bare).toMatchObject({
      functionName: 'told',
      compatibilityDate: '2026-02-02',
      projectDirectory: realpathSync(directory),
    })
    expect(bare).not.toHaveProperty('file')
    expect(bare.build).toMatchObject({ main: join(directory, 'other.ts'), compatibilityDate: '2026-02-02' })

    const config = await load({ env: { production: {} } }, { name: 'told', environment: 'production' })
    expect(config.functionName).toBe('told')
  })
})

describe('environments', () => {
  test('an environment has its own name, and inherits what is inheritable', async () => {
    const config = await load(
      {
        compatibility_flags: ['nodejs_compat'],
        limits: { cpu_ms: 10 },
        minify: true,
        alias: { a: './b' },
        routes: ['a.example/*'],
        env: { staging: { limits: { cpu_ms: 20 } } },
      },
      { environment: 'staging' },
    )
    expect(config).toMatchObject({
      functionName: 'shop-staging',
      compatibilityFlags: ['nodejs_compat'],
      limits: { cpuMs: 20 },
      routes: [{ pattern: 'a.example/*' }],
      build: { minify: true, alias: { a: './b' } },
    })
  })

  test('a name of its own is taken as it is', async () => {
    const config = await load({ env: { staging: { name: 'other' } } }, { environment: 'staging' })
    expect(config.functionName).toBe('other')
  })

  test('vars and define are not inherited, and a warning names each that is lost', async () => {
    const config = await load(
      { vars: { A: '1', B: '2' }, define: { X: '1' }, env: { staging: { vars: { A: '3' } } } },
      { environment: 'staging' },
    )
    expect(config.bindings).toEqual([{ type: 'text', name: 'A', text: '3' }])
    expect(config.build).not.toHaveProperty('define')
    expect(config.warnings).toHaveLength(2)
    expect(config.warnings.join('\n')).toContain(
      '"vars.B" at the top level is not inherited by environment "staging"',
    )
    expect(config.warnings.join('\n')).toContain('"define" at the top level is not inherited')
  })

  test('either form of a route in an environment replaces both of the top level', async () => {
    const fields = { routes: ['a.example/*'], env: { one: { route: 'b.example/*' }, none: { routes: [] } } }
    expect((await load(fields, { environment: 'one' })).routes).toEqual([{ pattern: 'b.example/*' }])
    expect((await load(fields, { environment: 'none' })).routes).toEqual([])
  })

  test('the top level is what an empty environment name means', async () => {
    expect((await load({ env: { staging: {} } }, { environment: '' })).functionName).toBe('shop')
  })

  test('bindings of environments that are not chosen stop nothing', async () => {
    const fields = { env: { staging: { kv_namespaces: [{ binding: 'KV', id: '1' }] } } }
    expect((await load(fields)).functionName).toBe('shop')
    await expect(load(fields, { environment: 'staging' })).rejects.toMatchObject({
      code: 'config_unsupported',
    })
    const top = { kv_namespaces: [{ binding: 'KV', id: '1' }], env: { staging: {} } }
    expect((await load(top, { environment: 'staging' })).warnings.join()).toContain(
      '"kv_namespaces" at the top level',
    )
  })
})
