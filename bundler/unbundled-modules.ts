import { readFile } from 'node:fs/promises'
import { dirname, relative, resolve, sep } from 'node:path'
import { IsolaError } from '../sdk/model/errors.ts'
import type { Module } from '../sdk/model/bundle.ts'
import { findModules, type FoundModule } from './additional-modules.ts'
import type { BuildOptions } from './build-options.ts'
import type { BuiltModules } from './bundled-modules.ts'
import { checkModuleSyntax } from './module-syntax.ts'
import { compileRules, matchRule } from './module-rules.ts'
import { portableSourceMap } from './portable-output.ts'
import { createPortablePaths } from './portable-path.ts'

/** The files as they are: `main`, and all under the base directory that a rule names. */
export async function readUnbundledModules(options: BuildOptions, main: string): Promise<BuiltModules> {
  const { projectDirectory } = options
  const directory = resolve(projectDirectory, options.baseDirectory ?? dirname(main))
  const mainModule = relative(directory, main).split(sep).join('/')
  if (mainModule.startsWith('../')) {
    throw new IsolaError(
      'build_failed',
      `main ${main} is not under base_dir ${directory}: set "base_dir" to a directory that holds all modules`,
    )
  }
  const rules = compileRules(options.rules ?? [], { javascript: true })
  const found =
    options.findAdditionalModules === false
      ? []
      : await findModules({ directory, rules, except: new Set([main]) })
  const match = matchRule(rules, mainModule)
  const kind = match?.type === 'module' && match.kind === 'cjs' ? 'cjs' : 'esm'
  const modules: FoundModule[] = [
    { name: mainModule, kind, file: main, body: await readFile(main) },
    ...found,
  ]
  const exportsByName = await checkModuleSyntax(modules, { projectDirectory })
  const maps = (options.sourceMaps ?? true) ? await readSourceMaps(modules, projectDirectory) : []
  return {
    mainModule,
    modules: [...modules.map(({ name, kind, body }) => ({ name, kind, body })), ...maps],
    exports: exportsByName.get(mainModule) ?? [],
    warnings: [],
    files: modules.map(({ file }) => file),
  }
}

/** Maps that a build left beside its scripts, as `<script>.map`. */
async function readSourceMaps(modules: readonly FoundModule[], projectDirectory: string): Promise<Module[]> {
  const portablePath = createPortablePaths(projectDirectory)
  const maps: Module[] = []
  for (const { name, kind, file } of modules) {
    if (kind !== 'esm' && kind !== 'cjs') continue
    let text: string
    try {
      text = await readFile(`${file}.map`, 'utf8')
    } catch {
      continue
    }
    const resolveSource = (source: string): string =>
      /^[a-z]+:/i.test(source) ? source : resolve(dirname(file), source)
    const map = portableSourceMap(text, { resolveSource, portablePath })
    if (map !== undefined) maps.push({ name: `${name}.map`, kind: 'sourcemap', body: Buffer.from(map) })
  }
  return maps
}
