import { IsolaError } from '../sdk/model/errors.ts'
import type { ContainerRuntime } from '../sdk/model/function.ts'
import { packArchive, type Archive } from './archive.ts'
import { findInstallation, INSTALLER_TRACES, withInstalled } from './install-dependencies.ts'
import { findSourceFiles, type SourceFile, type SourceSelection } from './source-files.ts'
import { bundleTypescriptHandler } from './typescript-handler.ts'

export interface HandlerDirectory extends SourceSelection {
  readonly runtime: ContainerRuntime
  /** `file.export`, relative to the directory. */
  readonly handler: string
  /** What an installer says. */
  readonly onProgress?: (line: string) => void
}

/**
 * A directory with a handler as a zip archive, with the packages it names: vendored, or else installed in a copy. Equal
 * files give equal bytes. Throws `build_failed`, `bundle_too_large`.
 */
export async function packHandlerDirectory(options: HandlerDirectory): Promise<Archive> {
  const files = await findSourceFiles(options)
  const main = findHandlerFile(files, options)
  const installation = await findInstallation(options.runtime, files)
  if (installation === undefined) return packFiles(files, main, options.directory)
  const { directory, onProgress } = options
  onProgress?.(installation.purpose)
  return withInstalled(
    { installation, directory, files, ...(onProgress && { onProgress }) },
    async (copy) => {
      const installed = await findSourceFiles({ directory: copy, include: ['**'], exclude: INSTALLER_TRACES })
      return packFiles(installed, main, copy)
    },
  )
}

const TYPESCRIPT = /\.(?:[mc]?ts|tsx)$/

async function packFiles(files: readonly SourceFile[], main: string, directory: string): Promise<Archive> {
  if (!TYPESCRIPT.test(main) || main.endsWith('.d.ts')) return packArchive(files)
  const made = await bundleTypescriptHandler({ directory, main })
  // What it imports is in it.
  const others = files.filter(
    ({ name }) => name !== made.name && !TYPESCRIPT.test(name) && !name.startsWith('node_modules/'),
  )
  return packArchive([...others, made])
}

/** As the runtimes look it up. Throws `build_failed` with the names that would have done. */
function findHandlerFile(
  files: readonly SourceFile[],
  { runtime, handler, directory }: HandlerDirectory,
): string {
  const names = new Set(files.map(({ name }) => name))
  const candidates = runtime === 'nodejs24' ? nodeCandidates(handler) : pythonCandidates(handler)
  const found = candidates.find((name) => names.has(name))
  if (found !== undefined) return found
  const shown = candidates.filter((name) => /\.\w+$/.test(name)).slice(0, 4)
  throw new IsolaError(
    'build_failed',
    `handler "${handler}" needs ${shown.join(' or ')}, and ${directory} has none of them${names.size === 0 ? ', nor any other file that is sent' : ''}: correct "handler", or "include" and "exclude"`,
  )
}

/** `src/index.handler`: the export is what follows the first dot of the last segment. */
function nodeCandidates(handler: string): readonly string[] {
  const slash = handler.lastIndexOf('/') + 1
  const file = handler.slice(0, slash) + (handler.slice(slash).split('.')[0] ?? '')
  const path = file.replace(/^\.?\//, '')
  const endings = ['.js', '.mjs', '.cjs', '.ts', '.mts', '.cts', '.tsx', '']
  return [
    ...endings.map((ending) => path + ending),
    ...['.js', '.mjs', '.cjs'].map((ending) => `${path}/index${ending}`),
  ]
}

/** `package.module.handler` or `package/module.handler`: the export is what follows the last dot. */
function pythonCandidates(handler: string): readonly string[] {
  const path = handler
    .slice(0, handler.lastIndexOf('.'))
    .replace(/^\.?\//, '')
    .replaceAll('.', '/')
  return [`${path}.py`, `${path}/__init__.py`]
}
