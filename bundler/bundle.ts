import { realpath, stat } from 'node:fs/promises'
import { extname, relative, resolve } from 'node:path'
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
  checkDefaultExport(built, relative(projectDirectory, main))
  const modules = sortModules(built.modules)
  checkBundleBounds(modules)
  return {
    bundle: { mainModule: built.mainModule, modules, digest: digestModules(modules) },
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
function checkDefaultExport({ mainModule, modules, exports }: BuiltModules, main: string): void {
  if (exports.includes('default')) return
  const found = modules.find(({ name }) => name === mainModule)
  if (found === undefined || found.kind === 'cjs') return
  const code = Buffer.from(found.body).toString('utf8')
  // Its default can come from a module that was not bundled: the trial start will tell.
  if (/^\s*export\s*\*\s*from\b/m.test(code)) return
  const way = 'write `export default { fetch(request, env, ctx) { … } }`'
  if (/\baddEventListener\s*\(\s*["'`]fetch["'`]/.test(code)) {
    throw new IsolaError(
      'build_failed',
      `${main} is in the service-worker form (addEventListener("fetch", …)), which isola does not support: ${way}`,
    )
  }
  const others = exports.length === 0 ? 'exports nothing' : `exports only ${exports.join(', ')}`
  throw new IsolaError('build_failed', `${main} ${others} and has no default export: ${way}`)
}
