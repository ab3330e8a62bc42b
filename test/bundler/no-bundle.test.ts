import { describe, expect, test } from 'vitest'
import { bundle } from '../../bundler/bundle.ts'
import { answer, mainCode } from './run-bundle.ts'
import { buildOptions, temporaryProject } from './temporary-project.ts'

const FUNCTION = 'export default { fetch: () => new Response("ok") }\n'

describe('no_bundle', () => {
  const files = {
    'dist/index.js': `import { a } from './lib/a.js'\nimport t from './t.txt'\nimport c from './c.cjs'\nexport default { fetch: () => new Response(a + t + c.c) }`,
    'dist/lib/a.js': 'export const a = "a"',
    'dist/c.cjs': 'module.exports = { c: "c" }',
    'dist/t.txt': 't',
    'dist/README.md': 'not a module',
    'dist/node_modules/p/index.js': 'not sent',
    'dist/.cache/x.js': 'not sent',
  }

  test('the files are sent as they are, named from the base directory', async () => {
    const directory = temporaryProject(files)
    const { bundle: built } = await bundle(buildOptions(directory, { main: 'dist/index.js', noBundle: true }))
    expect(built.mainModule).toBe('index.js')
    expect(built.modules.map(({ name, kind }) => `${name} ${kind}`)).toEqual([
      'c.cjs cjs',
      'index.js esm',
      'lib/a.js esm',
      't.txt text',
    ])
    expect(mainCode(built)).toBe(files['dist/index.js'])
    expect(await answer(built)).toBe('atc')
  })

  test('a base directory above main gives longer names', async () => {
    const directory = temporaryProject(files)
    const options = { main: 'dist/index.js', noBundle: true, baseDirectory: '.' }
    const { bundle: built } = await bundle(buildOptions(directory, options))
    expect(built.mainModule).toBe('dist/index.js')
    expect(built.modules.map(({ name }) => name)).toContain('dist/lib/a.js')
  })

  test('source maps beside the scripts come along, without the paths of the machine that made them', async () => {
    const directory = temporaryProject({
      'index.js': FUNCTION,
      'index.js.map':
        '{"version":3,"sourceRoot":"","sources":["file:///home/someone/src/index.ts","src/a.ts"],"mappings":""}',
    })
    const { bundle: built } = await bundle(buildOptions(directory, { main: 'index.js', noBundle: true }))
    const map = built.modules.find(({ kind }) => kind === 'sourcemap')
    expect(map?.name).toBe('index.js.map')
    expect(JSON.parse(Buffer.from(map?.body ?? []).toString()).sources).toEqual([
      'outside/index.ts',
      'src/a.ts',
    ])
  })
})
