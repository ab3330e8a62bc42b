import { cpSync, mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import type { BuildOptions } from '../../bundler/build-options.ts'
import { bundle } from '../../bundler/bundle.ts'
import { digestModules } from '../../bundler/digest.ts'
import type { Bundle } from '../../sdk/model/bundle.ts'
import { loadConfig } from '../../wrangler-compat/config/load.ts'
import { mainCode } from './run-bundle.ts'
import { buildOptions, temporaryProject, writeFiles } from './temporary-project.ts'

const FIXTURE = fileURLToPath(new URL('../fixtures/bundler-modules', import.meta.url))
const FUNCTION = 'export default { fetch: () => new Response("ok") }\n'

describe('determinism', () => {
  const sources = {
    'src/index.ts': `import { helper } from './helper'\nimport dep from 'dep'\nimport linked from 'linked'\nimport t from './t.txt'\nexport default { fetch: () => new Response(helper() + dep + linked + t) }`,
    'src/helper.ts': 'export function helper() { return "h" }',
    'src/t.txt': 'text',
  }
  const dependencies = {
    'node_modules/dep/package.json': '{ "name": "dep", "main": "main.js" }',
    'node_modules/dep/main.js': 'module.exports = "dep"',
    'lib/linked/package.json': '{ "name": "linked", "type": "module", "exports": "./source/main.js" }',
    'lib/linked/source/main.js': 'export default "linked"',
  }

  async function built(directory: string, more: Partial<BuildOptions> = {}): Promise<Bundle> {
    return (await bundle(buildOptions(directory, { main: 'src/index.ts', ...more }))).bundle
  }

  test('the same source in another directory has the same digest, wherever its dependencies really are', async () => {
    const elsewhere = temporaryProject(dependencies)
    symlinkSync(join(elsewhere, 'lib/linked'), join(elsewhere, 'node_modules/linked'))
    const bundles: Bundle[] = []
    for (const place of ['a', 'b/c/d']) {
      const directory = join(temporaryProject({}), place)
      mkdirSync(directory, { recursive: true })
      writeFiles(directory, sources)
      symlinkSync(join(elsewhere, 'node_modules'), join(directory, 'node_modules'))
      bundles.push(await built(directory), await built(directory, { minify: true }))
    }
    const [first, firstSmall, second, secondSmall] = bundles
    expect(second?.digest).toBe(first?.digest)
    expect(secondSmall?.digest).toBe(firstSmall?.digest)
    expect(firstSmall?.digest).not.toBe(first?.digest)
  })

  test('no module, name or source map tells where the project was', async () => {
    const parent = temporaryProject({})
    const directory = join(parent, 'project')
    writeFiles(directory, { ...sources, ...dependencies })
    writeFiles(parent, { 'outside/plain.ts': 'export default "no package"' })
    symlinkSync('../lib/linked', join(directory, 'node_modules/linked'))
    writeFiles(directory, {
      'src/helper.ts': `import plain from '../../outside/plain'\nexport const helper = () => plain`,
    })
    const { modules } = await built(directory)
    for (const { name, body } of modules) {
      const text = Buffer.from(body).toString()
      expect(name + text).not.toContain(parent)
    }
    const map = modules.find(({ kind }) => kind === 'sourcemap')
    expect(Buffer.from(modules.find(({ name }) => name === 'index.js')?.body ?? []).toString()).not.toContain(
      '../',
    )
    const { sources: mapped, sourcesContent } = JSON.parse(Buffer.from(map?.body ?? []).toString())
    expect(mapped).toEqual(
      expect.arrayContaining([
        'src/index.ts',
        'src/helper.ts',
        'node_modules/dep/main.js',
        'lib/linked/source/main.js',
        'outside/plain.ts',
      ]),
    )
    expect(sourcesContent).toContain(dependencies['node_modules/dep/main.js'])
  })

  test('a project behind a symbolic link is the same project', async () => {
    const directory = temporaryProject({ ...sources, ...dependencies })
    symlinkSync('../lib/linked', join(directory, 'node_modules/linked'))
    const link = join(temporaryProject({}), 'link')
    symlinkSync(directory, link)
    expect((await built(link)).digest).toBe((await built(directory)).digest)
  })

  test('a changed source, file name or kind changes the digest, the order of modules does not', () => {
    const module = (name: string, text: string, kind: 'esm' | 'text' = 'esm') => ({
      name,
      kind,
      body: Buffer.from(text),
    })
    const one = [module('a.js', '1'), module('b.js', '2')]
    expect(digestModules(one)).toMatch(/^[0-9a-f]{64}$/)
    expect(digestModules(one.toReversed())).toBe(digestModules(one))
    const others = [
      [module('a.js', '2'), module('b.js', '1')],
      [module('a.js', '1'), module('c.js', '2')],
      [module('a.js', '1'), module('b.js', '2', 'text')],
      [module('a.js', '1')],
    ]
    expect(new Set([one, ...others].map(digestModules)).size).toBe(5)
  })

  test('source maps are left out on request', async () => {
    const directory = temporaryProject({ 'index.ts': FUNCTION })
    const { bundle: without } = await bundle(buildOptions(directory, { sourceMaps: false }))
    expect(without.modules.map(({ name }) => name)).toEqual(['index.js'])
    expect(mainCode(without)).not.toContain('sourceMappingURL')
  })

  test('a project with every kind of import has the same digest in another place', async () => {
    const digests = new Set<string>()
    for (const place of ['one', 'two/deeper']) {
      const copy = join(temporaryProject({}), place)
      cpSync(FIXTURE, copy, { recursive: true })
      const config = await loadConfig({ directory: copy })
      digests.add((await bundle(config.build)).bundle.digest)
    }
    expect(digests.size).toBe(1)
  })
})
