import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Bundle } from '../model/bundle.ts'
import type { LoadedConfig } from '../../wrangler-compat/config/load.ts'
import { type CommandContext, type Flag, JSON_FLAG } from './command.ts'

/** Flags of the commands that read a function from its source directory. */
export const SOURCE_FLAGS: Readonly<Record<string, Flag>> = {
  name: { type: 'text', value: 'NAME', help: 'name of the function, instead of the configured one' },
  env: { type: 'text', short: 'e', value: 'ENV', help: 'environment of the configuration ("env.ENV")' },
  config: {
    type: 'text',
    short: 'c',
    value: 'FILE',
    help: 'configuration file, instead of wrangler.jsonc, .json or .toml',
  },
  'compatibility-date': {
    type: 'text',
    value: 'YYYY-MM-DD',
    help: 'behaviour of the runtime as of that day, instead of the configured one',
  },
  json: JSON_FLAG,
}

export interface BuiltFunction {
  readonly config: LoadedConfig
  readonly bundle: Bundle
  /** Files whose change makes the bundle out of date, the configuration among them. */
  readonly watchedFiles: readonly string[]
  readonly warnings: readonly string[]
}

/** Of the directory or the main file that the command names; of the working directory if none. */
async function loadFunction(context: CommandContext): Promise<LoadedConfig> {
  const { loadConfig } = await import('../../wrangler-compat/config/load.ts')
  const { flags, workingDirectory } = context
  const path = resolve(workingDirectory, context.words[0] ?? '.')
  const isFile = (await stat(path).catch(() => undefined))?.isFile() === true
  const file = flags.text('config')
  const environment = flags.text('env')
  const name = flags.text('name')
  const compatibilityDate = flags.text('compatibility-date')
  return await loadConfig({
    directory: isFile ? workingDirectory : path,
    ...(isFile && { main: path }),
    ...(file !== undefined && { file: resolve(workingDirectory, file) }),
    ...(environment !== undefined && { environment }),
    ...(name !== undefined && { name }),
    ...(compatibilityDate !== undefined && { compatibilityDate }),
  })
}

export async function buildFunction(context: CommandContext): Promise<BuiltFunction> {
  const config = await loadFunction(context)
  const [{ bundle }, { formatDiagnostic }] = await Promise.all([
    import('../../bundler/bundle.ts'),
    import('../../bundler/diagnostic.ts'),
  ])
  const built = await bundle(config.build)
  return {
    config,
    bundle: built.bundle,
    watchedFiles: [...(config.file === undefined ? [] : [config.file]), ...built.watchedFiles],
    warnings: [...config.warnings, ...built.warnings.map(formatDiagnostic)],
  }
}
