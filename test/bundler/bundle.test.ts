import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import type { BuildOptions } from '../../bundler/build-options.ts'
import { bundle } from '../../bundler/bundle.ts'
import { loadConfig } from '../../wrangler-compat/config/load.ts'
import { answer, mainCode } from './run-bundle.ts'
import { buildOptions, temporaryProject } from './temporary-project.ts'

const FIXTURE = fileURLToPath(new URL('../fixtures/bundler-modules', import.meta.url))
const FUNCTION = 'export default { fetch: () => new Response("ok") }\n'
async function codeOf(files: Record<string, string>, more: Partial<BuildOptions> = {}): Promise<string> {
  const built = await bundle(buildOptions(temporaryProject(files), more))
  return mainCode(built.bundle)
}

describe('what a bundle holds', () => {
  test('every kind of import reaches the function as the runtime gives it', async () => {
    const config = await loadConfig({ directory: FIXTURE })
    const { bundle: built, warnings } = await bundle(config.build)
    expect(warnings).toEqual([])
    expect(built.mainModule).toBe('index.js')
    expect(built.modules.map(({ kind }) => kind).toSorted()).toEqual(
      ['data', 'esm', 'sourcemap', 'text', 'text', 'text', 'wasm'].toSorted(),
    )
    const text = await answer(built, { flags: ['nodejs_compat'], vars: { GREETING: 'hello' } })
    expect(JSON.parse(text)).toEqual({
      text: 'a text\n',
      page: '<p>a page</p>\n',
      query: 'select 1;\n',
      data: [1, 2, 3],
      settings: { depth: { is: 2 } },
      sum: 5,
      sameModule: true,
      jsx: '<b>hello, island</b>',
      literal: 'hello',
      chosen: 'hallo',
      base64: 'aXNvbGE=',
      joined: 'a/b',
      mode: 'production',
      agent: 'Cloudflare-Workers',
      label: 'label',
    })
  })

  test('imported files are named by their content, or by their path on request', async () => {
    const files = { 'index.ts': `import t from './deep/t.txt'\n${FUNCTION}console.log(t)`, 'deep/t.txt': 'x' }
    const directory = temporaryProject(files)
    const byContent = await bundle(buildOptions(directory))
    expect(byContent.bundle.modules.map(({ name }) => name)).toContain(
      '11f6ad8ec52a2984abaafd7c3b516503785c2072-t.txt',
    )
    const byPath = await bundle(buildOptions(directory, { preserveFileNames: true }))
    expect(byPath.bundle.modules.map(({ name }) => name)).toEqual(['deep/t.txt', 'index.js', 'index.js.map'])
    expect(mainCode(byPath.bundle)).toContain('"./deep/t.txt"')
  })

  test('the main module is named for its file, whatever that is called', async () => {
    for (const name of ['[id].ts', 'with space.ts', 'a.b.c.mjs', 'dir/ü.js']) {
      const { bundle: built } = await bundle(
        buildOptions(temporaryProject({ [name]: FUNCTION }), { main: name }),
      )
      expect(built.mainModule).toBe(`${name.replace(/^.*\//, '').replace(/\.\w+$/, '')}.js`)
      expect(built.modules.map(({ kind }) => kind)).toEqual(['esm', 'sourcemap'])
      expect(await answer(built)).toBe('ok')
    }
  })

  test('watchedFiles lists every file that was read, absolute', async () => {
    const directory = temporaryProject({
      'index.ts': `import './a.ts'\nimport t from './t.txt'\nexport default { fetch: () => new Response(t) }`,
      'a.ts': 'console.log(1)',
      't.txt': 'x',
      'unused.ts': '',
    })
    const { watchedFiles } = await bundle(buildOptions(directory))
    expect(watchedFiles).toEqual(['a.ts', 'index.ts', 't.txt'].map((name) => join(directory, name)))
  })

  test('a warning of esbuild comes back with file, line and frame and does not fail the build', async () => {
    const directory = temporaryProject({
      'index.ts': `${FUNCTION}if (Math.random() === NaN) console.log(1)\n`,
    })
    const { warnings } = await bundle(buildOptions(directory))
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toMatchObject({ file: 'index.ts', line: 2 })
    expect(warnings[0]?.frame).toContain('^')
  })

  test('a stylesheet that an import makes is named in a warning', async () => {
    const directory = temporaryProject({
      'index.ts': `import './s.css'\n${FUNCTION}`,
      's.css': 'p { color: red }',
    })
    const { bundle: built, warnings } = await bundle(buildOptions(directory))
    expect(warnings.map(({ text }) => text).join()).toContain('index.css')
    expect(built.modules.map(({ name }) => name)).toEqual(['index.js', 'index.js.map'])
  })
})

describe('JSX and TypeScript', () => {
  const component = 'export default { fetch: () => new Response(String(<p>hi</p>)) }'

  test('JSX in .js, .jsx and .tsx calls React.createElement unless told otherwise', async () => {
    for (const extension of ['js', 'jsx', 'tsx', 'mjs']) {
      const code = await codeOf({ [`index.${extension}`]: component }, { main: `index.${extension}` })
      expect(code).toContain('React.createElement("p"')
    }
  })

  test('jsx_factory and jsx_fragment replace the calls', async () => {
    const files = { 'index.tsx': 'export default { fetch: () => new Response(String(<><p /></>)) }' }
    const code = await codeOf(files, { main: 'index.tsx', jsxFactory: 'h', jsxFragment: 'Frag' })
    expect(code).toMatch(/h\(Frag, null, .*h\("p"/)
  })

  test('a tsconfig with the automatic runtime imports it from its source', async () => {
    const code = await codeOf(
      {
        'index.tsx': component,
        'tsconfig.json': '{ "compilerOptions": { "jsx": "react-jsx", "jsxImportSource": "tiny" } }',
        'node_modules/tiny/package.json': '{ "name": "tiny", "exports": { "./jsx-runtime": "./r.js" } }',
        'node_modules/tiny/r.js': 'export const jsx = (tag) => `tiny:${tag}`',
      },
      { main: 'index.tsx' },
    )
    expect(code).toContain('tiny:')
    expect(code).not.toContain('React')
  })

  test('another tsconfig is used when it is named', async () => {
    const files = {
      'index.ts': `import { a } from '@/a'\n${FUNCTION}console.log(a)`,
      'sources/a.ts': 'export const a = "mapped"',
      'config/ts.json': '{ "compilerOptions": { "paths": { "@/*": ["../sources/*"] } } }',
    }
    expect(await codeOf(files, { tsconfig: 'config/ts.json' })).toContain('mapped')
  })
})

describe('dependencies', () => {
  test('the conditions workerd, worker and browser choose the file of a package, in its own order', async () => {
    const entry = (name: string) => `export const which = '${name}'`
    const code = await codeOf({
      'index.ts': `import { which } from 'multi'\nexport default { fetch: () => new Response(which) }`,
      'node_modules/multi/package.json':
        '{ "name": "multi", "exports": { "node": "./n.js", "workerd": "./d.js", "worker": "./w.js", "default": "./x.js" } }',
      'node_modules/multi/n.js': entry('node build'),
      'node_modules/multi/d.js': entry('workerd build'),
      'node_modules/multi/w.js': entry('worker build'),
      'node_modules/multi/x.js': entry('default build'),
    })
    expect(code).toContain('workerd build')
    expect(code).not.toMatch(/node build|worker build|default build/)
  })

  test('a CommonJS package that requires Node.js modules runs under nodejs_compat', async () => {
    const directory = temporaryProject({
      'index.ts': `import old from 'old'\nexport default { fetch: () => new Response(old.join('a', old.text)) }`,
      'node_modules/old/package.json': '{ "name": "old", "main": "main.js" }',
      'node_modules/old/main.js':
        `const { join } = require('path'); const b = require('node:buffer')\n` +
        `module.exports = { join, text: b.Buffer.from('b').toString() }`,
    })
    const { bundle: built } = await bundle(buildOptions(directory, { compatibilityFlags: ['nodejs_compat'] }))
    expect(await answer(built, { flags: ['nodejs_compat'] })).toBe('a/b')
  })

  test('before nodejs_compat v2 an installed package goes before the Node.js module of its name', async () => {
    const files = {
      'index.ts': `import events from 'events'\nimport p from 'path'\n${FUNCTION}console.log(events, p)`,
      'node_modules/events/package.json': '{ "name": "events", "main": "main.js" }',
      'node_modules/events/main.js': 'module.exports = "installed events"',
    }
    const flags = { compatibilityFlags: ['nodejs_compat'] }
    const before = await codeOf(files, { ...flags, compatibilityDate: '2024-09-22' })
    expect(before).toContain('installed events')
    expect(before).toContain('from "node:path"')
    const since = await codeOf(files, { ...flags, compatibilityDate: '2024-09-23' })
    expect(since).toContain('from "node:events"')
    expect(since).not.toContain('installed events')
  })

  test('nodejs_als gives node:async_hooks alone', async () => {
    const hooks = `import { AsyncLocalStorage } from 'async_hooks'\n${FUNCTION}new AsyncLocalStorage()`
    expect(await codeOf({ 'index.ts': hooks }, { compatibilityFlags: ['nodejs_als'] })).toContain(
      'from "node:async_hooks"',
    )
    const other = buildOptions(temporaryProject({ 'index.ts': `import 'node:fs'\n${FUNCTION}` }), {
      compatibilityFlags: ['nodejs_als'],
    })
    await expect(bundle(other)).rejects.toMatchObject({ code: 'build_failed' })
  })

  test('cloudflare: and workerd: modules stay imports, also when they are required', async () => {
    const code = await codeOf({
      'index.ts': `import { DurableObject } from 'cloudflare:workers'\nimport x from './x.cjs'\n${FUNCTION}console.log(DurableObject, x)`,
      'x.cjs': `module.exports = require('workerd:unsafe')`,
    })
    expect(code).toContain('from "cloudflare:workers"')
    expect(code).toContain('from "workerd:unsafe"')
  })

  test('a require in a try block of what is not there is left to the function', async () => {
    const code = await codeOf({
      'index.ts': `import x from './x.cjs'\n${FUNCTION}console.log(x)`,
      'x.cjs': `try { module.exports = require('optional-thing') } catch { module.exports = 'without' }`,
    })
    expect(code).toContain('optional-thing')
  })
})

describe('options', () => {
  test('define replaces identifiers and wins over the defaults', async () => {
    const source =
      'export default { fetch: () => Response.json([FLAG, process.env.NODE_ENV]) }\ndeclare const FLAG: string'
    const code = await codeOf(
      { 'index.ts': source },
      { define: { FLAG: '"on"', 'process.env.NODE_ENV': '"test"' } },
    )
    expect(code).toContain('"on"')
    expect(code).toContain('"test"')
  })

  test('mode decides NODE_ENV, and nothing of this process does', async () => {
    const source = 'export default { fetch: () => new Response(process.env.NODE_ENV) }'
    expect(await codeOf({ 'index.ts': source })).toContain('"production"')
    expect(await codeOf({ 'index.ts': source }, { mode: 'development' })).toContain('"development"')
  })

  test('navigator.userAgent is left alone where the runtime has no navigator', async () => {
    const source = 'export default { fetch: () => new Response(navigator.userAgent) }'
    expect(await codeOf({ 'index.ts': source }, { compatibilityDate: '2022-03-20' })).toContain(
      'navigator.userAgent',
    )
    expect(await codeOf({ 'index.ts': source }, { compatibilityFlags: ['no_global_navigator'] })).toContain(
      'navigator.userAgent',
    )
    const asked = { compatibilityDate: '2022-03-20', compatibilityFlags: ['global_navigator'] }
    expect(await codeOf({ 'index.ts': source }, asked)).toContain('"Cloudflare-Workers"')
  })

  test('alias leads to a file, a package or a runtime module', async () => {
    const code = await codeOf(
      {
        'index.ts': `import a from 'one'\nimport b from 'two'\nimport c from 'three'\n${FUNCTION}console.log(a, b, c)`,
        'src/one.ts': 'export default "file one"',
        'node_modules/real/index.js': 'module.exports = "package two"',
      },
      {
        alias: { one: './src/one.ts', two: 'real', three: 'node:util' },
        compatibilityFlags: ['nodejs_compat'],
      },
    )
    expect(code).toContain('file one')
    expect(code).toContain('package two')
    expect(code).toContain('from "node:util"')
  })

  test('minify makes less of the same', async () => {
    const source =
      'const aLongName = 1 + Math.random()\nexport default { fetch: () => new Response(String(aLongName)) }'
    const plain = await codeOf({ 'index.ts': source })
    const small = await codeOf({ 'index.ts': source }, { minify: true })
    expect(small.length).toBeLessThan(plain.length)
    expect(small).not.toContain('aLongName')
  })

  test('names of functions are kept unless keep_names is off', async () => {
    const source = 'function work() {}\nexport default { fetch: () => new Response(work.name) }'
    expect(await codeOf({ 'index.ts': source })).toContain('__name(work, "work")')
    expect(await codeOf({ 'index.ts': source }, { keepNames: false })).not.toContain('__name')
  })

  test('rules of the project make modules of other files', async () => {
    const directory = temporaryProject({
      'index.ts': `import md from './a.md'\nimport raw from './a.dat'\nexport default { fetch: () => new Response(md + raw.byteLength) }`,
      'a.md': '# title',
      'a.dat': 'four',
    })
    const rules = [
      { type: 'Text', globs: ['**/*.md'], fallthrough: true },
      { type: 'Data', globs: ['**/*.dat'] },
    ] as const
    const { bundle: built } = await bundle(buildOptions(directory, { rules }))
    expect(await answer(built)).toBe('# title4')
  })

  test('a dynamic import of an unknown name finds additional modules', async () => {
    const directory = temporaryProject({
      'src/index.ts': `export default { async fetch(request) {
        const name = new URL(request.url).pathname
        return new Response((await import('.' + name)).default) } }`,
      'src/lang/de.mjs': `import t from '../words/t.txt'\nexport default 'hallo ' + t`,
      'src/words/t.txt': 'text',
      'src/other.ts': 'not a module',
    })
    const { bundle: built } = await bundle(
      buildOptions(directory, {
        main: 'src/index.ts',
        findAdditionalModules: true,
        rules: [{ type: 'ESModule', globs: ['**/*.mjs'] }],
      }),
    )
    expect(built.modules.map(({ name }) => name)).toEqual([
      'index.js',
      'index.js.map',
      'lang/de.mjs',
      'words/t.txt',
    ])
    expect(await answer(built, { path: '/lang/de.mjs' })).toBe('hallo text')
  })

  test('what is found as an additional module is not bundled a second time', async () => {
    const directory = temporaryProject({
      'src/index.ts': `import { there } from './part.mjs'\nexport default { fetch: () => new Response(there) }`,
      'src/part.mjs': `export const there = 'once'`,
    })
    const options = {
      main: 'src/index.ts',
      findAdditionalModules: true,
      rules: [{ type: 'ESModule', globs: ['**/*.mjs'] }],
    } as const
    const { bundle: built } = await bundle(buildOptions(directory, options))
    expect(mainCode(built)).toContain('from "./part.mjs"')
    expect(await answer(built)).toBe('once')
  })
})
