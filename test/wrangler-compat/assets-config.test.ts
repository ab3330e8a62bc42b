import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { buildWorker } from '../../sdk/cli/build-function.ts'
import { loadIsolaConfig } from '../../sdk/config/load.ts'
import { loadConfig, type LoadedConfig } from '../../wrangler-compat/config/load.ts'
import { failureOf, temporaryProject } from '../bundler/temporary-project.ts'

const BASE = { name: 'site', compatibility_date: '2026-11-01' }
const FILES = { 'public/index.html': 'home', 'index.ts': 'export default { fetch: () => new Response() }' }

function load(fields: object): Promise<LoadedConfig> {
  return loadConfig({
    directory: temporaryProject({ ...FILES, 'wrangler.jsonc': JSON.stringify({ ...BASE, ...fields }) }),
  })
}

async function problemsOf(fields: object): Promise<string> {
  return (await failureOf(load(fields))).message
}

describe('assets of a wrangler configuration', () => {
  test('beside code have a directory, a binding and rules', async () => {
    const { assets, bindings, build, projectDirectory, warnings } = await load({
      main: 'index.ts',
      vars: { A: 'a' },
      assets: {
        directory: './public/',
        binding: 'ASSETS',
        html_handling: 'drop-trailing-slash',
        not_found_handling: 'single-page-application',
        run_worker_first: ['/api/*'],
      },
    })
    expect(warnings).toEqual([])
    expect(build.main).toBe('index.ts')
    expect(assets).toEqual({
      directory: join(projectDirectory, 'public'),
      config: {
        htmlHandling: 'drop-trailing-slash',
        notFoundHandling: 'single-page-application',
        runWorkerFirst: ['/api/*'],
      },
    })
    expect(bindings).toEqual([
      { type: 'text', name: 'A', text: 'a' },
      { type: 'assets', name: 'ASSETS' },
    ])
  })

  test('need no code, and then there are no bindings', async () => {
    const config = await load({ vars: { A: 'a' }, assets: { directory: 'public' } })
    expect(config.build.main).toBe('')
    expect(config.bindings).toEqual([])
    expect(config.warnings).toEqual([
      expect.stringContaining('"vars" has no effect: there is no "main"') as string,
    ])
  })

  test('are inherited by an environment, whose own take their place', async () => {
    const fields = {
      ...BASE,
      assets: { directory: 'public' },
      env: { a: {}, b: { assets: { directory: 'other' } } },
    }
    const directory = temporaryProject({ ...FILES, 'other/x': '', 'wrangler.jsonc': JSON.stringify(fields) })
    const of = async (environment: string) => (await loadConfig({ directory, environment })).assets?.directory
    expect(await of('a')).toBe(join(directory, 'public'))
    expect(await of('b')).toBe(join(directory, 'other'))
  })

  test('that cannot be served are refused with what to do', async () => {
    expect(await problemsOf({ assets: {} })).toContain('"assets" has no "directory"')
    expect(await problemsOf({ assets: { directory: 'dist' } })).toMatch(
      /"dist", but .* is not a directory: build the site/,
    )
    expect(await problemsOf({ assets: { directory: 'index.ts' } })).toContain('is not a directory')
    expect(await problemsOf({ assets: { directory: 'public', binding: 'A' } })).toContain(
      '"assets.binding" is for code',
    )
    expect(await problemsOf({ assets: { directory: 'public', run_worker_first: true } })).toContain(
      '"assets.run_worker_first" is for code',
    )
    const main = 'index.ts'
    expect(
      await problemsOf({ main, vars: { A: 1 }, assets: { directory: 'public', binding: 'A' } }),
    ).toContain('binding "A" is there twice')
    expect(await problemsOf({ main, assets: { directory: 'public', run_worker_first: ['api'] } })).toContain(
      'the rule "api"',
    )
    expect(await problemsOf({ main, assets: { directory: 'public', run_worker_first: 1 } })).toContain(
      'give true, false or an array of rules',
    )
    expect(await problemsOf({ assets: { directory: 'public', html_handling: 'auto' } })).toContain(
      'use one of',
    )
    expect(await problemsOf({ assets: { directroy: 'public' } })).toContain('did you mean "directory"?')
    expect(await problemsOf({})).toContain('"main" is missing')
  })

  test('may be made by the build command, with code and without', async () => {
    for (const main of ['index.ts', undefined]) {
      const config = await load({
        ...(main !== undefined && { main }),
        build: { command: 'mkdir -p dist && echo made > dist/made.txt' },
        assets: { directory: 'dist' },
      })
      const { assets, bundle } = await buildWorker({ kind: 'worker', ...config })
      expect([...(assets?.files.keys() ?? [])]).toEqual(['/made.txt'])
      expect(bundle.modules.length > 0).toBe(main !== undefined)
    }
    const missing = await load({ build: { command: 'true' }, assets: { directory: 'dist' } })
    expect((await failureOf(buildWorker({ kind: 'worker', ...missing }))).message).toContain('does not exist')
  })
})

describe('assets of isola.jsonc', () => {
  const loadOwn = (fields: object) =>
    loadIsolaConfig({
      directory: temporaryProject({
        ...FILES,
        'isola.jsonc': JSON.stringify({ name: 'site', compatibilityDate: '2026-11-01', ...fields }),
      }),
    })

  test('stand beside code or instead of it', async () => {
    const both = await loadOwn({
      main: 'index.ts',
      assets: { directory: 'public', binding: 'FILES', runWorkerFirst: true },
    })
    expect(both).toMatchObject({ kind: 'worker', assets: { config: { runWorkerFirst: true } } })
    expect(both?.bindings).toEqual([{ type: 'assets', name: 'FILES' }])
    const alone = await loadOwn({
      vars: { A: 'a' },
      assets: { directory: 'public', notFoundHandling: '404-page' },
    })
    expect(alone).toMatchObject({
      build: { main: '' },
      bindings: [],
      assets: { config: { notFoundHandling: '404-page' } },
      warnings: [expect.stringContaining('no effect') as string],
    })
  })

  test('are refused where they mean nothing', async () => {
    const message = async (fields: object): Promise<string> => (await failureOf(loadOwn(fields))).message
    expect(await message({ assets: { directory: 'none' } })).toContain('is not a directory')
    expect(await message({ assets: { directory: 'public', runWorkerFirst: true } })).toContain(
      '"assets.runWorkerFirst" is for code',
    )
    expect(await message({ image: 'a/b:1', assets: { directory: 'public' } })).toContain(
      '"assets" has no meaning for an image',
    )
    expect(await message({ assets: { directory: 'public', html_handling: 'none' } })).toContain(
      '"htmlHandling"',
    )
    expect(await message({})).toContain('"assets" (static files)')
  })
})
