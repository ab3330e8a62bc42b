import type { WorkerConfig } from '../config/function-config.ts'
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
  readonly bundle: Bundle
  /** Files whose change makes the bundle out of date, the configuration among them. */
  readonly watchedFiles: readonly string[]
  readonly warnings: readonly string[]
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
  const built = await bundle(config.build)
  return {
    config,
    bundle: built.bundle,
    watchedFiles: [...(config.file === undefined ? [] : [config.file]), ...built.watchedFiles],
    warnings: [...config.warnings, ...built.warnings.map(formatDiagnostic)],
  }
}
