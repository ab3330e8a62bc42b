import { join } from 'node:path'
import type { BuildOptions, BundleResult } from '../../bundler/build-options.ts'
import type { AssetsToUpload } from '../client/upload-blobs.ts'
import type { AssetsSource, WorkerConfig } from '../config/function-config.ts'
import { isFileSync } from '../config/read-document.ts'
import { normalAssetsConfig } from '../model/asset-manifest.ts'
import { IsolaError } from '../model/errors.ts'
import type { Bundle } from '../model/bundle.ts'
import { type CommandContext, type Flag, JSON_FLAG } from './command.ts'
import { loadFunction } from './load-function.ts'

/** Flags of the commands that read a function from its source directory. */
export const SOURCE_FLAGS: Readonly<Record<string, Flag>> = {
  name: { type: 'text', value: 'NAME', help: 'name of the function, instead of the configured one' },
  env: { type: 'text', short: 'e', value: 'ENV', help: 'environment of the configuration ("env.ENV")' },
  config: {
    type: 'text',
    short: 'c',
    value: 'FILE',
    help: 'configuration file, instead of isola.jsonc or wrangler.jsonc',
  },
  'compatibility-date': {
    type: 'text',
    value: 'YYYY-MM-DD',
    help: 'behaviour of the runtime as of that day, instead of the configured one',
  },
  json: JSON_FLAG,
}

export interface BuiltFunction {
  readonly config: WorkerConfig
  /** Without modules where all are static files. */
  readonly bundle: Bundle
  readonly assets?: BuiltAssets
  /** Files whose change makes the bundle out of date, the configuration among them. */
  readonly watchedFiles: readonly string[]
  readonly warnings: readonly string[]
}

export interface BuiltAssets extends AssetsToUpload {
  readonly watchedFiles: readonly string[]
}

/** What the command names, which must be a worker function. */
export async function buildFunction(context: CommandContext): Promise<BuiltFunction> {
  const config = await loadFunction(context)
  if (config.kind === 'worker') return buildWorker(config)
  throw new IsolaError(
    'config_unsupported',
    `"${config.functionName}" is a container function, which needs a node: start one with "isola up", then "isola deploy"`,
  )
}

export async function buildWorker(config: WorkerConfig): Promise<BuiltFunction> {
  const [{ bundle }, { formatDiagnostic }] = await Promise.all([
    import('../../bundler/bundle.ts'),
    import('../../bundler/diagnostic.ts'),
  ])
  const built = config.build.main === '' ? await buildNothing(config.build) : await bundle(config.build)
  // After the build, which may make them.
  const assets = config.assets && (await readAssets(config.assets))
  return {
    config,
    bundle: built.bundle,
    ...(assets !== undefined && { assets }),
    watchedFiles: [
      ...(config.file === undefined ? [] : [config.file]),
      ...built.watchedFiles,
      ...(assets?.watchedFiles ?? []),
    ],
    warnings: [...config.warnings, ...built.warnings.map(formatDiagnostic)],
  }
}

/** Of a function that is static files alone. */
async function buildNothing({ customBuild, projectDirectory }: BuildOptions): Promise<BundleResult> {
  if (customBuild !== undefined) {
    const { runCustomBuild } = await import('../../bundler/custom-build.ts')
    await runCustomBuild(customBuild, projectDirectory)
  }
  const { digestModules } = await import('../../bundler/digest.ts')
  return {
    bundle: { mainModule: '', modules: [], digest: digestModules([]) },
    warnings: [],
    watchedFiles: [],
  }
}

async function readAssets({ directory, config }: AssetsSource): Promise<BuiltAssets> {
  const { readAssetDirectory, readAssetFile } = await import('../../bundler/asset-directory.ts')
  const { files, rules } = await readAssetDirectory(directory)
  return {
    files,
    read(path) {
      const file = files.get(path)
      if (file === undefined) throw new Error(`${path} is none of the static files`)
      return readAssetFile(path, file)
    },
    config: normalAssetsConfig({ ...config, ...rules }),
    watchedFiles: [
      ...[...files.values()].map(({ source }) => source),
      ...['_headers', '_redirects', '.assetsignore'].map((name) => join(directory, name)).filter(isFileSync),
    ],
  }
}
