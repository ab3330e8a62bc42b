import { basename, dirname, parse, relative, resolve } from 'node:path'
import {
  build,
  type BuildOptions as EsbuildOptions,
  type BuildResult,
  type Message,
  type Plugin,
} from 'esbuild'
import type { Module } from '../sdk/model/bundle.ts'
import type { BuildOptions } from './build-options.ts'
import { buildFailed, fromEsbuildMessage, type Diagnostic } from './diagnostic.ts'
import { findModules, type FoundModule } from './additional-modules.ts'
import { checkModuleSyntax } from './module-syntax.ts'
import { createModuleCollector, type ModuleCollector } from './module-collector.ts'
import { compileRules } from './module-rules.ts'
import { createPortablePaths } from './portable-path.ts'
import { nodeCompatibility, nodeImportAdvice, runtimeModules } from './runtime-modules.ts'
import { portableCode, portableSourceMap } from './portable-output.ts'

export interface BuiltModules {
  readonly mainModule: string
  readonly modules: readonly Module[]
  /** Names that the main module exports. */
  readonly exports: readonly string[]
  readonly warnings: readonly Diagnostic[]
  readonly files: readonly string[]
}

type EsbuildResult = BuildResult<{ metafile: true; write: false }>

/**
 * One esbuild run: everything that `main` imports in one ES module, as wrangler makes it. Nothing is written to disk,
 * and the output is made independent of where the project stands.
 */
export async function buildBundledModules(options: BuildOptions, main: string): Promise<BuiltModules> {
  const { projectDirectory } = options
  const rules = compileRules(options.rules ?? [], { javascript: false })
  const additional: readonly FoundModule[] = options.findAdditionalModules
    ? await findModules({
        directory: resolve(projectDirectory, options.baseDirectory ?? dirname(main)),
        rules,
        except: new Set([main]),
      })
    : []
  await checkModuleSyntax(additional, { projectDirectory })
  const portablePath = createPortablePaths(projectDirectory)
  const collector = createModuleCollector({
    projectDirectory,
    rules,
    preserveFileNames: options.preserveFileNames ?? false,
    portablePath,
    additionalNameByFile: new Map(additional.map(({ file, name }) => [file, name])),
  })

  const result = await runEsbuild(esbuildOptions(options, main, collector), projectDirectory)
  const inputs = Object.keys(result.metafile.inputs)
  const mainModule = `${parse(main).name}.js`
  const output = Object.entries(result.metafile.outputs).find(([path]) => path === mainModule)?.[1]
  const modules: Module[] = [
    ...collector.moduleByName.values(),
    ...additional.map(({ name, kind, body }) => ({ name, kind, body })),
  ]
  const warnings = result.warnings.map((message) => fromEsbuildMessage(message, projectDirectory))
  for (const { path, text } of result.outputFiles) {
    const name = relative(projectDirectory, path)
    if (name === mainModule) {
      modules.push({ name, kind: 'esm', body: Buffer.from(portableCode(text, { inputs, portablePath })) })
    } else if (name === `${mainModule}.map`) {
      const map = portableSourceMap(text, { resolveSource: (source) => source, portablePath }) ?? text
      modules.push({ name, kind: 'sourcemap', body: Buffer.from(map) })
    } else {
      const what = `the imports also make ${basename(path)}, which a function cannot use`
      warnings.push({ text: `${what}: import it as text by a rule if it is needed` })
    }
  }
  const files = [
    ...inputs.filter(isFilePath).map((input) => resolve(projectDirectory, input)),
    ...collector.files,
  ]
  return {
    mainModule,
    modules,
    exports: output?.exports ?? [],
    warnings,
    files: [...files, ...additional.map(({ file }) => file)],
  }
}

async function runEsbuild(options: EsbuildOptions, projectDirectory: string): Promise<EsbuildResult> {
  try {
    return await build({ ...options, metafile: true, write: false })
  } catch (error) {
    const messages = (error as { errors?: readonly Message[] }).errors
    if (messages === undefined || messages.length === 0) throw buildFailed([{ text: String(error) }], error)
    const diagnostics = messages.map((message) =>
      withNodeAdvice(message, fromEsbuildMessage(message, projectDirectory)),
    )
    throw buildFailed(diagnostics, error)
  }
}

/** esbuild's own note on such an import is about its options, which nobody sets here. */
function withNodeAdvice(message: Message, diagnostic: Diagnostic): Diagnostic {
  const advice = nodeImportAdvice(message)
  return advice === undefined ? diagnostic : { ...diagnostic, notes: [advice] }
}

function esbuildOptions(options: BuildOptions, main: string, collector: ModuleCollector): EsbuildOptions {
  const { projectDirectory, jsxFactory, jsxFragment, tsconfig } = options
  return {
    entryPoints: [{ in: main, out: parse(main).name }],
    bundle: true,
    absWorkingDir: projectDirectory,
    // Nothing is written; as the output directory it makes the paths in source maps relative to the project.
    outdir: projectDirectory,
    allowOverwrite: true,
    format: 'esm',
    target: 'es2024',
    platform: 'browser',
    conditions: ['workerd', 'worker', 'browser'],
    mainFields: ['browser', 'module', 'main'],
    loader: { '.js': 'jsx', '.mjs': 'jsx', '.cjs': 'jsx' },
    define: {
      ...(navigatorIsDefined(options) && { 'navigator.userAgent': '"Cloudflare-Workers"' }),
      'process.env.NODE_ENV': JSON.stringify(options.mode ?? 'production'),
      ...options.define,
    },
    minify: options.minify ?? false,
    keepNames: options.keepNames ?? true,
    sourcemap: (options.sourceMaps ?? true) ? 'linked' : false,
    ...(jsxFactory !== undefined && { jsxFactory }),
    ...(jsxFragment !== undefined && { jsxFragment }),
    ...(tsconfig !== undefined && { tsconfig: resolve(projectDirectory, tsconfig) }),
    plugins: [
      aliases(options.alias ?? {}, projectDirectory),
      collector.plugin,
      runtimeModules(nodeCompatibility(options)),
    ],
    logLevel: 'silent',
    logLimit: 0,
  }
}

/** The runtime has `navigator` from this date on, unless a flag says otherwise. */
function navigatorIsDefined({ compatibilityDate, compatibilityFlags }: BuildOptions): boolean {
  if (compatibilityFlags.includes('global_navigator')) return true
  return !compatibilityFlags.includes('no_global_navigator') && compatibilityDate >= '2022-03-21'
}

/** esbuild's own `alias` knows no relative names and comes after the plugins; wrangler's comes first. */
function aliases(alias: Readonly<Record<string, string>>, projectDirectory: string): Plugin {
  const targetBySpecifier = new Map(Object.entries(alias))
  const skip = Symbol('alias')
  return {
    name: 'alias',
    setup(build) {
      if (targetBySpecifier.size === 0) return
      const names = [...targetBySpecifier.keys()].map((name) => name.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'))
      build.onResolve({ filter: new RegExp(`^(?:${names.join('|')})$`) }, async (args) => {
        const target = targetBySpecifier.get(args.path)
        if (target === undefined || args.pluginData === skip) return undefined
        const { kind, importer } = args
        const resolved = await build.resolve(target, {
          kind,
          importer,
          resolveDir: projectDirectory,
          pluginData: skip,
        })
        if (resolved.errors.length === 0) return resolved
        return {
          errors: [
            {
              text: `alias "${args.path}" leads to ${JSON.stringify(target)}, which is not found: correct "alias"`,
            },
          ],
        }
      })
    },
  }
}

/** Inputs of another namespace (`runtime-module:node:fs`) are no files. */
function isFilePath(input: string): boolean {
  return !/^[a-z][a-z-]+:/.test(input) && !input.startsWith('(disabled):')
}
