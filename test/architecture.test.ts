import { globSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

interface FolderRule {
  readonly folder: string
  /** Folders whose files it may import, beside its own. */
  readonly mayImport: readonly string[]
  /** Packages it may import, beside `node:*`. */
  readonly packages: readonly string[]
}

const CONTROL_AND_DOWN = [
  'sdk/model',
  'runtime/pool',
  'runtime/registry',
  'runtime/isolate',
  'runtime/async',
  'runtime/state',
]

/** Who may import whom. A file belongs to the longest folder that holds it; a folder without a rule is an error. */
const FOLDERS: readonly FolderRule[] = [
  { folder: 'sdk/model', mayImport: [], packages: [] },
  { folder: 'sdk/client', mayImport: ['sdk/model'], packages: [] },
  {
    folder: 'sdk/config',
    mayImport: ['sdk/model', 'bundler'],
    packages: ['jsonc-parser', 'smol-toml', 'zod'],
  },
  {
    folder: 'sdk/cli',
    mayImport: ['sdk', 'bundler', 'runtime', 'router', 'wrangler-compat'],
    packages: ['ipaddr.js', 'miniflare'],
  },
  {
    folder: 'bundler',
    mayImport: ['sdk/model'],
    packages: ['@balena/dockerignore', 'esbuild', 'mime', 'tar-stream', 'yazl'],
  },
  { folder: 'runtime/pool', mayImport: ['sdk/model'], packages: [] },
  { folder: 'runtime/registry', mayImport: ['sdk/model'], packages: ['zod'] },
  { folder: 'runtime/egress', mayImport: ['sdk/model', 'runtime/pool'], packages: ['ipaddr.js'] },
  { folder: 'runtime/machine', mayImport: ['sdk/model', 'runtime/pool'], packages: [] },
  {
    folder: 'runtime/isolate',
    mayImport: ['sdk/model', 'runtime/pool', 'runtime/machine'],
    packages: ['capnp-es', '@jridgewell/trace-mapping'],
  },
  { folder: 'runtime/lambda', mayImport: ['sdk/model', 'runtime/pool'], packages: [] },
  {
    folder: 'runtime/container',
    mayImport: ['sdk/model', 'runtime/pool', 'runtime/machine', 'runtime/lambda'],
    packages: ['tar-stream', 'yauzl'],
  },
  { folder: 'runtime/async', mayImport: ['sdk/model'], packages: [] },
  {
    folder: 'runtime/lambda-api',
    mayImport: [...CONTROL_AND_DOWN, 'runtime/control', 'runtime/lambda'],
    packages: ['yauzl', 'zod'],
  },
  { folder: 'runtime/state', mayImport: ['sdk/model', 'runtime/registry'], packages: [] },
  {
    folder: 'runtime/control',
    mayImport: [...CONTROL_AND_DOWN, 'bundler'],
    packages: ['croner', 'hono', 'jsonc-parser', 'zod'],
  },
  {
    folder: 'runtime/node',
    mayImport: ['sdk/model', 'runtime', 'wrangler-compat'],
    packages: ['@hono/node-server', 'prom-client'],
  },
  { folder: 'router', mayImport: ['sdk/model', 'runtime/pool'], packages: [] },
  // Decisions: they get what they need as arguments.
  { folder: 'router/table', mayImport: ['sdk/model', 'router/placement'], packages: [] },
  { folder: 'router/placement', mayImport: ['sdk/model', 'router/table'], packages: [] },
  { folder: 'router/assets/rules', mayImport: ['sdk/model', 'runtime/pool'], packages: [] },
  {
    folder: 'wrangler-compat',
    mayImport: [
      'runtime/control',
      'bundler',
      'sdk/model',
      'sdk/client',
      'sdk/config',
      'wrangler-compat/bindings',
    ],
    packages: ['zod'],
  },
  { folder: 'wrangler-compat/bindings', mayImport: ['sdk/model'], packages: ['zod'] },
  {
    folder: 'wrangler-compat/api',
    mayImport: [...CONTROL_AND_DOWN, 'runtime/control', 'wrangler-compat'],
    packages: ['@noble/hashes', 'busboy', 'zod'],
  },
  { folder: 'examples', mayImport: [], packages: ['hono', 'isola', 'sharp'] },
]

const TOP_LEVEL = ['sdk', 'bundler', 'runtime', 'router', 'wrangler-compat', 'examples']
const FORBIDDEN_NAMES = [
  'utils',
  'util',
  'helpers',
  'helper',
  'shared',
  'common',
  'core',
  'lib',
  'types',
  'misc',
]
const IMPORT = /\b(?:from\s*|import\s*\(?\s*)'([^']+)'/g
const COMMENT = /\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm

interface SourceFile {
  readonly path: string
  readonly text: string
  readonly imports: readonly string[]
}

function readSources(): readonly SourceFile[] {
  return globSync(`{${TOP_LEVEL.join(',')}}/**/*.{ts,js}`, {
    cwd: ROOT,
    exclude: (path) => ['node_modules', 'dist', 'capnp', '.wrangler'].includes(basename(path)),
  }).map((path) => {
    const text = readFileSync(join(ROOT, path), 'utf8')
    const code = text.replaceAll(COMMENT, '')
    return { path, text: code, imports: [...code.matchAll(IMPORT)].map((match) => match[1] ?? '') }
  })
}

function isIn(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`)
}

function ruleOf(path: string, folders: readonly FolderRule[]): FolderRule | undefined {
  return folders
    .filter(({ folder }) => isIn(path, folder))
    .sort((a, b) => b.folder.length - a.folder.length)[0]
}

/** Each import that the table forbids, as `file imports what`. */
function violations(files: readonly SourceFile[], folders: readonly FolderRule[]): string[] {
  return files.flatMap((file) => {
    const rule = ruleOf(file.path, folders)
    if (rule === undefined) return [`${file.path} is in no folder of the table`]
    return file.imports
      .filter((specifier) => !isAllowed(file, specifier, rule))
      .map((what) => `${file.path} imports ${what}`)
  })
}

function isAllowed(file: SourceFile, specifier: string, rule: FolderRule): boolean {
  if (specifier.startsWith('node:')) return true
  if (specifier.startsWith('.')) {
    const target = relative(ROOT, join(ROOT, dirname(file.path), specifier))
    // The folder itself is not enough for a folder inside it that has a rule of its own.
    if (isIn(target, rule.folder) && ruleOf(target, FOLDERS)?.folder === rule.folder) return true
    if (rule.folder === 'router' && isIn(target, 'router')) return true
    return rule.mayImport.some((folder) => isIn(target, folder))
  }
  // Runtime modules of workerd, in code that runs inside it.
  if (specifier.startsWith('cloudflare:')) return file.path.includes('/guest/') || isIn(file.path, 'examples')
  return rule.packages.some((name) => specifier === name || specifier.startsWith(`${name}/`))
}

const sources = readSources()

describe('the folder table', () => {
  test('every folder of the table that exists has files, and there are many', () => {
    expect(sources.length).toBeGreaterThan(100)
    for (const folder of [
      'sdk/model',
      'sdk/client',
      'sdk/cli',
      'bundler',
      'runtime/pool',
      'runtime/registry',
      'router',
    ]) {
      expect(sources.filter(({ path }) => isIn(path, folder)).length, folder).toBeGreaterThan(0)
    }
    expect(sources.flatMap(({ imports }) => imports).length).toBeGreaterThan(300)
  })

  test('no file imports upward, or a package its folder may not use', () => {
    expect(violations(sources, FOLDERS)).toEqual([])
  })

  test('an upward import, a foreign package and a folder outside the table are found', () => {
    const broken = (path: string, specifier: string): SourceFile => ({ path, text: '', imports: [specifier] })
    const files = [
      broken('sdk/model/x.ts', '../client/client.ts'),
      broken('runtime/pool/x.ts', 'hono'),
      broken('router/table/x.ts', '../forward/forward.ts'),
      broken('examples/hello/x.ts', '../../sdk/model/errors.ts'),
      broken('wrangler-compat/config/x.ts', '../../sdk/cli/run.ts'),
      broken('runtime/control/x.ts', '../node/start-node.ts'),
      broken('plugins/x.ts', './y.ts'),
    ]
    expect(violations(files, FOLDERS)).toHaveLength(files.length)
    const allowed = [
      broken('router/server.ts', './table/table.ts'),
      broken('runtime/node/x.ts', '../isolate/driver.ts'),
      broken('bundler/x.ts', 'node:fs'),
    ]
    expect(violations(allowed, FOLDERS)).toEqual([])
  })

  test('there is no source outside the folders of the table', () => {
    const elsewhere = globSync('**/*.{ts,js,mjs,cjs}', {
      cwd: ROOT,
      exclude: (path) => /^(?:node_modules|dist|test|\.)/.test(path) || TOP_LEVEL.includes(path),
    })
    expect(elsewhere).toEqual(['vitest.config.ts'])
  })

  test('nothing imports tests', () => {
    expect(sources.filter(({ imports }) => imports.some((specifier) => /\btest\//.test(specifier)))).toEqual(
      [],
    )
  })
})

describe('names', () => {
  test('no file or folder is called after a drawer', () => {
    const named = globSync(`{${[...TOP_LEVEL, 'test'].join(',')}}/**/*`, {
      cwd: ROOT,
      exclude: (path) => ['node_modules', 'fixtures', 'capnp'].includes(basename(path)),
    })
    expect(named.length).toBeGreaterThan(100)
    expect(named.filter((path) => FORBIDDEN_NAMES.includes(basename(path).replace(/\..*$/, '')))).toEqual([])
    expect(named.filter((path) => /-(?:manager|helpers?|utils?)\b/.test(path))).toEqual([])
  })

  test('files are named in kebab-case', () => {
    const wrong = sources.filter(
      ({ path }) => !/^[a-z0-9]+(?:-[a-z0-9]+)*(?:\.d)?\.(?:ts|js)$/.test(basename(path)),
    )
    expect(wrong.map(({ path }) => path)).toEqual([])
  })
})

describe('purity', () => {
  const IMPURE =
    /\bDate\b[.(]|\bperformance\.|\bMath\.random\b|\bcrypto\.|\bset(?:Timeout|Interval|Immediate)\b|\bqueueMicrotask\b|\bprocess\.[a-z]|['"]node:(?!assert)/
  const isPure = (path: string): boolean =>
    isIn(path, 'router/table') ||
    isIn(path, 'router/placement') ||
    isIn(path, 'router/assets/rules') ||
    // All that decides; the channel between processes is what it decides for.
    (isIn(path, 'runtime/pool') && path !== 'runtime/pool/channel.ts')

  test('routing, placement, slots and scaling know no clock, randomness, timer or machine', () => {
    const pure = sources.filter(({ path }) => isPure(path))
    expect(pure.length).toBeGreaterThan(2)
    expect(pure.filter(({ text }) => IMPURE.test(text)).map(({ path }) => path)).toEqual([])
    expect(IMPURE.test('const now = Date.now()')).toBe(true)
  })

  test('only main.ts files read the environment', () => {
    const readers = sources.filter(
      ({ path, text }) =>
        basename(path) !== 'main.ts' &&
        // In a container the environment is the function's, and its client's to set.
        !isIn(path, 'runtime/container/guest') &&
        /(?<!['"])\bprocess\.env\b/.test(text),
    )
    // `npm start` is a program of its own; `isola dev` sets a variable, as miniflare takes the path of workerd no other way.
    expect(readers.map(({ path }) => path).sort()).toEqual(['examples/start.ts', 'sdk/cli/commands/dev.ts'])
  })
})
