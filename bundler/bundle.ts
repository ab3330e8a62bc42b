import { realpath, stat } from 'node:fs/promises'
import { extname, relative, resolve } from 'node:path'
import type { Bundle, Module } from '../sdk/model/bundle.ts'
import { IsolaError } from '../sdk/model/errors.ts'
import type { BuildOptions, BundleResult } from './build-options.ts'
import { checkBundleBounds } from './bundle-bounds.ts'
import { buildBundledModules, type BuiltModules } from './bundled-modules.ts'
import { runCustomBuild } from './custom-build.ts'
import { digestModules, sortModules } from './digest.ts'
import { readUnbundledModules } from './unbundled-modules.ts'

/**
 * A source directory as a `Bundle`: equal sources give an equal digest, wherever the directory is.
 * Throws `build_failed` with places and code frames (`details.diagnostics`), or `bundle_too_large`.
 */
export async function bundle(given: BuildOptions): Promise<BundleResult> {
  // esbuild follows symbolic links, so paths below a linked directory would look as if they were outside of it.
  const options = { ...given, projectDirectory: await realDirectory(given.projectDirectory) }
  const { projectDirectory, customBuild } = options
  if (customBuild !== undefined) await runCustomBuild(customBuild, projectDirectory)
  const main = await findMain(options)
  const built = await (options.noBundle
    ? readUnbundledModules(options, main)
    : buildBundledModules(options, main))
  const format = formatOf(built, relative(projectDirectory, main))
  const modules = sortModules(
    format === undefined ? built.modules : asScript(built.modules, built.mainModule),
  )
  checkBundleBounds(modules)
  return {
    bundle: {
      mainModule: built.mainModule,
      ...(format !== undefined && { format }),
      modules,
      digest: digestModules(modules),
    },
    warnings: built.warnings,
    watchedFiles: [...new Set([main, ...built.files])].toSorted(),
  }
}

async function realDirectory(directory: string): Promise<string> {
  try {
    return await realpath(directory)
  } catch (error) {
    throw new IsolaError(
      'build_failed',
      `the project directory ${directory} cannot be read: check the path`,
      {
        cause: error,
      },
    )
  }
}

async function findMain({ projectDirectory, main, customBuild }: BuildOptions): Promise<string> {
  const path = resolve(projectDirectory, main)
  const hint =
    customBuild === undefined
      ? 'correct "main" in the configuration'
      : `build.command ${JSON.stringify(customBuild.command)} should have made it: correct the command or "main"`
  let real: string
  try {
    real = await realpath(path)
  } catch (error) {
    throw new IsolaError('build_failed', `main ${path} does not exist: ${hint}`, { cause: error })
  }
  if (!(await stat(real)).isFile())
    throw new IsolaError('build_failed', `main ${path} is not a file: ${hint}`)
  if (extname(real) === '.py') {
    throw new IsolaError(
      'build_failed',
      `main ${path} is Python, which isola does not run: write the function in JavaScript or TypeScript`,
    )
  }
  return real
}

/** A script that registers a listener is the older form of a function; anything else has only forgotten its export. */
function formatOf({ mainModule, modules, exports }: BuiltModules, main: string): Bundle['format'] {
  if (exports.includes('default')) return undefined
  const found = modules.find(({ name }) => name === mainModule)
  if (found === undefined || found.kind === 'cjs') return undefined
  const code = Buffer.from(found.body).toString('utf8')
  // Its default can come from a module that was not bundled: the trial start will tell.
  if (/^\s*export\s*\*\s*from\b/m.test(code)) return undefined
  if (exports.length === 0 && /\baddEventListener\s*\(\s*["'`](?:fetch|scheduled)["'`]/.test(code)) {
    return 'service-worker'
  }
  const others = exports.length === 0 ? 'exports nothing' : `exports only ${exports.join(', ')}`
  const way = 'write `export default { fetch(request, env, ctx) { … } }`'
  throw new IsolaError('build_failed', `${main} ${others} and has no default export: ${way}`)
}

/** A script is code that is not strict, unless it imports: then only a module can be what it is. */
function asScript(modules: readonly Module[], mainModule: string): readonly Module[] {
  return modules.map((module) => {
    if (module.name !== mainModule) return module
    const imports = /^\s*import[\s{*"']/m.test(Buffer.from(module.body).toString('utf8'))
    return imports ? module : { ...module, kind: 'cjs' }
  })
}
