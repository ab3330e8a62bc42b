/**
 * `npm run build`: the published package's `dist`, a mirror of the sources as JavaScript. Node refuses TypeScript below
 * `node_modules`, so what is published is compiled. Files that are read and not imported (modules for inside workerd,
 * package.json for the version) lie at the same relative places, and URLs that name a `.ts` beside them name its `.js`.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, globSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const DIST = join(ROOT, 'dist')
const SOURCES = '{sdk,bundler,runtime,router,wrangler-compat}'
const FILE_URL = /new URL\(\s*(['"])(\.[^'"]*)\.ts\1,\s*import\.meta\.url\s*,?\s*\)/g

rmSync(DIST, { recursive: true, force: true })
execFileSync(
  process.execPath,
  [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', join(ROOT, 'tsconfig.build.json')],
  {
    stdio: 'inherit',
  },
)
for (const path of globSync(`${SOURCES}/**/*`, { cwd: ROOT, withFileTypes: true })) {
  if (!path.isFile() || /\.(?:ts|md)$/.test(path.name) || path.name === 'bin.js') continue
  const from = join(path.parentPath, path.name)
  cpSync(from, join(DIST, from.slice(ROOT.length)), { recursive: true })
}
cpSync(join(ROOT, 'package.json'), join(DIST, 'package.json'))

for (const file of globSync('**/*.js', { cwd: DIST })) {
  const path = join(DIST, file)
  const text = readFileSync(path, 'utf8')
  const rewritten = text.replaceAll(FILE_URL, (_all, quote: string, name: string) => {
    const target = resolve(dirname(path), `${name}.js`)
    if (!existsSync(target)) throw new Error(`${file} names ${name}.ts, and ${target} was not built`)
    return `new URL(${quote}${name}.js${quote}, import.meta.url)`
  })
  if (rewritten !== text) writeFileSync(path, rewritten)
}
