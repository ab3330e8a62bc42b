import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { ContainerConfig, FunctionConfig } from '../../sdk/config/function-config.ts'
import { isIsolaConfigName, loadIsolaConfig, type LoadOptions } from '../../sdk/config/load.ts'
import type { IsolaError } from '../../sdk/model/errors.ts'
import { BUILD_LIMITS, CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { failureOf, temporaryProject } from '../bundler/temporary-project.ts'

const WORKER = { name: 'shop', main: 'index.ts', compatibilityDate: '2026-01-01' }
const HANDLER = { name: 'shop', handler: 'index.handler', runtime: 'nodejs24' }
const FILES = {
  'index.ts': '',
  Dockerfile: '',
  'docker/app.dockerfile': '',
  'ready.zip': '',
  'image.tar': '',
}

async function load(fields: object, options: Partial<LoadOptions> = {}): Promise<FunctionConfig> {
  const directory = temporaryProject({ ...FILES, 'isola.jsonc': JSON.stringify(fields, null, 2) })
  const config = await loadIsolaConfig({ directory, ...options })
  if (config === undefined) throw new Error('there is no configuration')
  return config
}

const failure = (fields: object, options?: Partial<LoadOptions>): Promise<IsolaError> =>
  failureOf(load(fields, options))

async function container(fields: object, options?: Partial<LoadOptions>): Promise<ContainerConfig> {
  const config = await load(fields, options)
  if (config.kind !== 'container') throw new Error('it is a worker function')
  return config
}

describe('worker functions', () => {
  test('all fields reach the model and the build', async () => {
    const config = await load({
      ...WORKER,
      $schema: 'anything',
      compatibilityFlags: ['nodejs_compat'],
      cpuMs: 50,
      memoryMib: 64,
      vars: { TEXT: 'a', NUMBER: 1, FLAG: true, LIST: [1, { a: null }] },
      services: [{ binding: 'RESIZE', service: 'resize' }],
      routes: ['Shop.example/*', { pattern: 'api.example' }],
      baseDomainHost: false,
      rules: [{ type: 'Text', globs: ['**/*.md'], fallthrough: true }],
      define: { A: '1' },
      alias: { a: './b' },
    })
    expect(config).toMatchObject({
      kind: 'worker',
      functionName: 'shop',
      compatibilityDate: '2026-01-01',
      compatibilityFlags: ['nodejs_compat'],
      limits: { cpuMs: 50, memoryMib: 64 },
      routes: [{ pattern: 'shop.example/*' }, { pattern: 'api.example/*' }],
      baseDomainHost: false,
      previewHosts: false,
      warnings: [],
      build: {
        main: 'index.ts',
        rules: [{ type: 'Text', globs: ['**/*.md'], fallthrough: true }],
        define: { A: '1' },
        alias: { a: './b' },
      },
    })
    expect(config.bindings).toEqual([
      { type: 'json', name: 'FLAG', json: true },
      { type: 'json', name: 'LIST', json: [1, { a: null }] },
      { type: 'json', name: 'NUMBER', json: 1 },
      { type: 'text', name: 'TEXT', text: 'a' },
      { type: 'service', name: 'RESIZE', functionName: 'resize' },
    ])
  })

  test('the command line stands against name, main and date', async () => {
    const directory = temporaryProject({
      'other.ts': '',
      'isola.json': JSON.stringify({ name: 'a', main: 'x' }),
    })
    const options = { main: 'other.ts', name: 'b', compatibilityDate: '2026-02-02' }
    const config = await loadIsolaConfig({ directory, ...options })
    expect(config).toMatchObject({
      functionName: 'b',
      compatibilityDate: '2026-02-02',
      build: { main: join(directory, 'other.ts') },
    })
  })

  test('what the bundler does has no effect without it, and that is said', async () => {
    const { warnings } = await load({ ...WORKER, noBundle: true, define: { A: '1' } })
    expect(warnings).toEqual(['isola.jsonc:6: "define" has no effect with "noBundle"'])
  })
})

describe('container functions', () => {
  test('a handler is code for a runtime, called by events', async () => {
    const config = await container({
      ...HANDLER,
      timeout: '1.5m',
      cpus: 0.5,
      ephemeralStorageMib: 128,
      egress: true,
      responseStreaming: true,
      memoryMib: 512,
      vars: { A: 'a' },
      exclude: ['test'],
    })
    expect(config).toMatchObject({
      protocol: 'lambda',
      source: { type: 'directory', runtime: 'nodejs24', handler: 'index.handler', exclude: ['test'] },
      settings: {
        timeoutMs: 90_000,
        cpus: 0.5,
        ephemeralStorageMib: 128,
        egress: true,
        responseStreaming: true,
      },
      limits: { memoryMib: 512 },
      bindings: [{ type: 'text', name: 'A', text: 'a' }],
      baseDomainHost: true,
      previewHosts: true,
      warnings: [],
    })
    expect(config.source).not.toHaveProperty('include')
  })

  test('what is not said is left to the defaults of the node', async () => {
    expect(await container(HANDLER)).toMatchObject({ settings: {}, limits: {} })
    expect((await container({ ...HANDLER, timeout: 2_500 })).settings).toEqual({ timeoutMs: 2_500 })
  })

  test.each([
    [{ archive: 'ready.zip' }, { type: 'archive', path: expect.stringMatching(/\/ready\.zip$/) }],
    [{ include: ['index.js', 'node_modules'] }, { type: 'directory', include: ['index.js', 'node_modules'] }],
  ])('a handler with %j', async (fields, source) => {
    expect((await container({ ...HANDLER, ...fields })).source).toMatchObject(source)
  })

  test.each([
    [{ dockerfile: true }, { type: 'dockerfile', path: expect.stringMatching(/\/Dockerfile$/) }],
    [
      { dockerfile: './docker/app.dockerfile' },
      { type: 'dockerfile', path: expect.stringMatching(/\/docker\/app\.dockerfile$/) },
    ],
    [{ image: 'image.tar' }, { type: 'image-file', path: expect.stringMatching(/\/image\.tar$/) }],
    [{ image: 'shop' }, { type: 'image-reference', reference: 'shop' }],
    [
      { image: 'registry.example:5000/team/shop:1.2' },
      { type: 'image-reference', reference: 'registry.example:5000/team/shop:1.2' },
    ],
    [
      { image: `shop@sha256:${'a'.repeat(64)}` },
      { type: 'image-reference', reference: `shop@sha256:${'a'.repeat(64)}` },
    ],
  ])('%j listens on its port', async (fields, source) => {
    const run = { entryPoint: ['/init'], command: ['serve', '-v'], workingDirectory: '/srv' }
    const config = await container({ name: 'shop', port: 3000, ...fields, ...run })
    expect(config).toMatchObject({
      protocol: 'http',
      settings: { port: 3000 },
      source: { ...source, ...run },
    })
  })

  test('an image may speak the Lambda protocol', async () => {
    const config = await container({ name: 'a', image: 'shop', protocol: 'lambda', timeout: '15m' })
    expect(config).toMatchObject({ protocol: 'lambda', settings: { timeoutMs: 900_000 } })
  })

  test('a setting of the other protocol has no effect, and that is said with its line', async () => {
    const http = await container({ name: 'a', image: 'b', timeout: '1s', responseStreaming: true })
    expect(http.warnings).toEqual([
      'isola.jsonc:4: "timeout" has no effect with protocol "http"',
      'isola.jsonc:5: "responseStreaming" has no effect with protocol "http"',
    ])
    const lambda = await container({ ...HANDLER, port: 1 })
    expect(lambda.warnings).toEqual(['isola.jsonc:5: "port" has no effect with protocol "lambda"'])
  })
})

describe('environments', () => {
  const fields = {
    ...HANDLER,
    memoryMib: 64,
    vars: { A: '1' },
    timeout: '5s',
    env: {
      big: { memoryMib: 1024, vars: { A: '2' } },
      other: { handler: 'other.handler', name: 'shop2' },
      ready: { image: 'shop:1' },
    },
  }

  test('one is a function of its own that inherits all but variables', async () => {
    const big = await container(fields, { environment: 'big' })
    expect(big).toMatchObject({
      functionName: 'shop-big',
      limits: { memoryMib: 1024 },
      settings: { timeoutMs: 5_000 },
      bindings: [{ name: 'A', text: '2' }],
      source: { handler: 'index.handler' },
      warnings: [],
    })
    const other = await container(fields, { environment: 'other' })
    expect(other).toMatchObject({ functionName: 'shop2', bindings: [], source: { handler: 'other.handler' } })
    expect(other.warnings).toEqual([
      expect.stringContaining('"vars" at the top level is not inherited by environment "other"'),
    ])
  })

  test('one may run something else, and what it inherits in vain is said', async () => {
    const ready = await container(fields, { environment: 'ready' })
    expect(ready).toMatchObject({
      protocol: 'http',
      source: { type: 'image-reference', reference: 'shop:1' },
    })
    expect(ready.warnings).toContainEqual(expect.stringContaining('"runtime" has no effect on an image'))
  })

  test('an unknown one is refused with those that exist', async () => {
    expect((await failure(fields, { environment: 'bigg' })).message).toContain('did you mean "big"?')
  })
})

describe('finding it', () => {
  test('a directory without one is left to others', async () => {
    expect(await loadIsolaConfig({ directory: temporaryProject({ 'wrangler.json': '{}' }) })).toBeUndefined()
  })

  test('beside other configurations it comes first, and each of them is named', async () => {
    const json = JSON.stringify({ name: 'b', image: 'x' })
    const directory = temporaryProject({
      'isola.jsonc': '// a comment\n{ "name": "a", "image": "x", }',
      'isola.json': json,
      'wrangler.toml': '',
    })
    const config = await loadIsolaConfig({ directory })
    expect(config?.functionName).toBe('a')
    expect(config?.warnings).toEqual([
      'isola.json is not read, because isola.jsonc comes first: remove one of them',
      'wrangler.toml is not read, because isola.jsonc comes first: remove one of them',
    ])
  })

  test('one that is named is read wherever it is; one that is not there is refused', async () => {
    const directory = temporaryProject({ 'config/isola.big.jsonc': '{ "name": "big", "image": "x" }' })
    const config = await loadIsolaConfig({ directory, file: 'config/isola.big.jsonc' })
    expect(config).toMatchObject({ functionName: 'big', projectDirectory: join(directory, 'config') })
    const error = await failureOf(loadIsolaConfig({ directory, file: 'isola.gone.json' }))
    expect(error.code).toBe('config_not_found')
  })

  test('its name tells it from others', () => {
    const names = [
      'isola.jsonc',
      '/a/isola.json',
      'isola.big.jsonc',
      'visola.json',
      'wrangler.json',
      'isola.toml',
    ]
    expect(names.map(isIsolaConfigName)).toEqual([true, true, true, false, false, false])
  })
})

describe('what is wrong', () => {
  test.each<[object, string]>([
    [{}, 'nothing says what runs: add "main"'],
    [{ ...WORKER, name: undefined }, '"name" is missing: add "name": "my-function"'],
    [{ ...WORKER, name: 'Shop' }, 'function name "Shop" is not usable'],
    [{ ...WORKER, nmae: 'x' }, '"nmae" is no field that isola knows: did you mean "name"?'],
    [{ ...WORKER, compatibility_date: 'x' }, 'did you mean "compatibilityDate"?'],
    [{ ...WORKER, workers_dev: true }, 'write "baseDomainHost"'],
    [{ ...WORKER, limits: { cpu_ms: 1 } }, 'write "memoryMib" and "cpuMs"'],
    [{ ...WORKER, kv_namespaces: [] }, 'correct or remove it'],
    [{ ...WORKER, policy: { min: 1 } }, 'set it with "isola scale"'],
    [{ ...HANDLER, min: 1 }, 'set it with "isola scale"'],
    [{ ...HANDLER, env: { a: { concurrency: 1 } } }, '"concurrency" is no field of "env.a"'],
    [{ ...HANDLER, memory: 128 }, 'write "memoryMib"'],
    [{ ...WORKER, env: { a: { alias: {} } } }, '"alias" is no field of "env.a"'],
    [{ ...WORKER, services: [{ binding: 'A', servce: 'b' }] }, 'did you mean "service"?'],
    [{ ...WORKER, services: [{ binding: 'A', service: 'B!' }] }, 'function name "B!" is not usable'],
    [{ ...WORKER, services: [{ binding: '', service: 'b' }] }, 'has an empty name'],
    [{ ...WORKER, vars: { A: 1 }, services: [{ binding: 'A', service: 'b' }] }, 'two bindings are named "A"'],
    [{ ...WORKER, main: 'gone.ts' }, 'gone.ts is not a file: correct the path'],
    [{ ...WORKER, compatibilityDate: undefined }, '"compatibilityDate" is missing: add "compatibilityDate":'],
    [
      { ...WORKER, compatibilityDate: '2026-02-30' },
      '"compatibilityDate" is "2026-02-30", which is not a date',
    ],
    [{ ...WORKER, cpuMs: 0 }, '"cpuMs" is 0: give a number of at least 1'],
    [{ ...WORKER, memoryMib: 1 }, '"memoryMib" is 1: give a number of at least 32'],
    [{ ...WORKER, memoryMib: 64.5 }, '"memoryMib" is 64.5'],
    [{ ...WORKER, routes: ['http://a.example'] }, 'has a scheme'],
    [{ ...WORKER, routes: [1] }, 'give a string or an object with "pattern"'],
    [{ ...WORKER, vars: { '': 1 } }, 'has an empty name'],
    [{ ...WORKER, cpus: 1 }, '"cpus" has no meaning for a worker function ("main"): remove it'],
    [{ ...WORKER, handler: 'a.b' }, '"main" and "handler" are set, and only one can say what runs'],
    [{ ...HANDLER, cpuMs: 5 }, '"cpuMs" has no meaning for a handler directory'],
    [{ ...HANDLER, services: [] }, '"services" has no meaning for a handler directory'],
    [{ ...HANDLER, command: ['x'] }, 'it belongs to Dockerfile ("dockerfile"), image ("image")'],
    [{ ...HANDLER, dockerfile: true, image: 'x' }, '"handler" and "dockerfile" and "image" are set'],
    [{ name: 'a', image: 'x', runtime: 'python3' }, '"runtime" has no meaning for an image'],
    [{ name: 'a', image: 'x', include: ['a'] }, '"include" has no meaning for an image'],
    [{ name: 'a', handler: 'a.b' }, '"runtime" is missing: add "runtime": "nodejs24"'],
    [{ ...HANDLER, runtime: 'nodejs22' }, 'use one of "nodejs24", "python3"'],
    [{ ...HANDLER, handler: 'index' }, '"handler" is "index": write it as "file.export"'],
    [{ ...HANDLER, handler: '../up.handler' }, '"handler" is "../up.handler"'],
    [{ ...HANDLER, handler: 'in dex.handler' }, 'write it as "file.export"'],
    [{ ...HANDLER, protocol: 'http' }, 'a handler is called by events, not by protocol "http"'],
    [{ ...HANDLER, protocol: 'grpc' }, 'use one of "lambda", "http"'],
    [{ ...HANDLER, archive: 'gone.zip' }, 'gone.zip, which is not a file'],
    [{ ...HANDLER, archive: 'ready.zip', exclude: ['a'] }, '"exclude" has no meaning with "archive"'],
    [{ ...HANDLER, timeout: '30' }, 'write a time with its unit, e.g. "30s"'],
    [{ ...HANDLER, timeout: '16m' }, '"timeout" is "16m": give a time from 1s to 15m'],
    [{ ...HANDLER, timeout: 30 }, '"timeout" is 30: give a time from 1s'],
    [{ ...HANDLER, timeout: 1_500.5 }, 'milliseconds as a whole number'],
    [{ ...HANDLER, timeout: true }, 'give a time with its unit, e.g. "30s", or a number of milliseconds'],
    [{ ...HANDLER, cpus: 0.05 }, 'at least 0.1'],
    [{ ...HANDLER, cpus: 17 }, 'at most 16'],
    [{ ...HANDLER, ephemeralStorageMib: 20_000 }, 'at most 10240'],
    [{ ...HANDLER, egress: 'public' }, '"egress" is "public": give a boolean'],
    [{ name: 'a', image: 'x', port: 70_000 }, 'at most 65535'],
    [{ name: 'a', image: 'x', workingDirectory: 'srv' }, 'give an absolute path in the image'],
    [{ name: 'a', image: 'x', command: [] }, 'at least 1 element'],
    [{ name: 'a', image: 'No Image' }, 'give the path of a .tar, .tar.gz or .tgz file, or a reference'],
    [{ name: 'a', image: 'https://registry.example/x' }, 'or a reference such as'],
    [{ name: 'a', image: 'gone.tgz' }, 'gone.tgz, which is not a file'],
    [{ name: 'a', dockerfile: false }, 'give the path of a Dockerfile, or true'],
    [{ name: 'a', dockerfile: 'gone' }, 'gone, which is not a file'],
    [{ name: 'a', dockerfile: '../Dockerfile' }, 'only what is in that directory can be built'],
    [{ ...HANDLER, env: { a: { env: {} } } }, '"env" is no field of "env.a"'],
  ])('%j', async (fields, message) => {
    const error = await failure(fields)
    expect(error.code).toBe('config_invalid')
    expect(error.message).toContain(message)
  })

  test('a file that is no object, or no JSON, is refused with an example or its place', async () => {
    const refused = (text: string): Promise<IsolaError> =>
      failureOf(loadIsolaConfig({ directory: temporaryProject({ 'isola.json': text }) }))
    expect((await refused('[]')).message).toContain(
      'write an object, e.g. { "name": "hello", "main": "index.ts"',
    )
    expect((await refused('{ "name": x }')).message).toContain('isola.json:1:11: this is no JSON value')
    expect((await refused('{ "name": "a", "name": "b" }')).message).toContain('is here twice')
    expect((await refused('['.repeat(100_000))).message).toContain(
      `deeper than ${BUILD_LIMITS.configDepthMax}`,
    )
  })

  test('more routes than a function may have are refused', async () => {
    const count = CONTROL_LIMITS.routesPerFunctionMax + 1
    const routes = Array.from({ length: count }, (_, index) => `h${index}.example`)
    expect((await failure({ ...HANDLER, routes })).message).toContain(`"routes" has ${count} routes`)
  })

  test('all problems come together, each with line, column and code', async () => {
    const text = `{
  "name": "Not A Name",
  "handler": "index",
  "runtime": "nodejs24",
  "timeout": "16m", "routes": ["http://a.example/*"]
}`
    const error = await failureOf(loadIsolaConfig({ directory: temporaryProject({ 'isola.jsonc': text }) }))
    expect(error.details?.problems).toMatchObject([
      { field: 'name', line: 2, column: 3 },
      { field: 'handler', line: 3, column: 3 },
      { field: 'timeout', line: 5, column: 3 },
      { field: 'routes[0]', line: 5, column: 32 },
    ])
    expect(error.message).toContain('isola.jsonc has 4 problems')
    expect(error.message).toContain('  3 |   "handler": "index",\n    |   ^')
  })
})
