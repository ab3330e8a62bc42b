import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { ContainerProtocol } from '../model/function.ts'
import { parseFunctionName } from '../model/function.ts'
import type { ContainerConfig, FunctionConfig } from '../config/function-config.ts'
import type { LoadOptions } from '../config/load.ts'
import type { CommandContext } from './command.ts'
import { usageError } from './parse-arguments.ts'

type Where = Pick<CommandContext, 'words' | 'flags' | 'workingDirectory'>

/**
 * The configuration of the directory or the main file that the command names; of the working directory if none. isola's own
 * comes before wrangler's.
 */
export async function loadFunction(where: Where): Promise<FunctionConfig> {
  const { flags, workingDirectory } = where
  const path = resolve(workingDirectory, where.words[0] ?? '.')
  const isFile = (await stat(path).catch(() => undefined))?.isFile() === true
  const file = flags.text('config')
  const environment = flags.text('env')
  const name = flags.text('name')
  const compatibilityDate = flags.text('compatibility-date')
  const options: LoadOptions = {
    directory: isFile ? workingDirectory : path,
    ...(isFile && { main: path }),
    ...(file !== undefined && { file: resolve(workingDirectory, file) }),
    ...(environment !== undefined && { environment }),
    ...(name !== undefined && { name }),
    ...(compatibilityDate !== undefined && { compatibilityDate }),
  }
  const { isIsolaConfigName, loadIsolaConfig } = await import('../config/load.ts')
  const own = file === undefined || isIsolaConfigName(file) ? await loadIsolaConfig(options) : undefined
  if (own !== undefined) {
    if (own.kind === 'container' && compatibilityDate !== undefined) {
      throw usageError(
        `--compatibility-date is for worker functions, and "${own.functionName}" is a container function: leave it out`,
      )
    }
    return own
  }
  const { loadConfig } = await import('../../wrangler-compat/config/load.ts')
  return { kind: 'worker', ...(await loadConfig(options)) }
}

/** An image without a configuration: all is on the command line. */
export async function imageFunction(where: Where, image: string): Promise<ContainerConfig> {
  const { flags, workingDirectory } = where
  const { parseImageSource } = await import('../config/image-source.ts')
  for (const flag of ['env', 'config', 'compatibility-date']) {
    if (flags.has(flag))
      throw usageError(`--${flag} is about a configuration, and --image uses none: leave it out`)
  }
  if (where.words.length > 0) {
    throw usageError(`give --image or a directory ("${where.words[0]}"), not both`)
  }
  const name = flags.text('name')
  if (name === undefined) throw usageError('--image needs the name of the function: add --name NAME')
  parseFunctionName(name)
  const source = parseImageSource(image, workingDirectory)
  if (source === undefined) {
    throw usageError(
      `--image is ${JSON.stringify(image)}: give a .tar, .tar.gz or .tgz file, or a reference such as registry.example/shop:1`,
    )
  }
  const isThere =
    source.type !== 'image-file' || (await stat(source.path).catch(() => undefined))?.isFile() === true
  if (!isThere) throw usageError(`--image is ${JSON.stringify(image)}, which is not a file: correct the path`)
  const port = flags.integer('port')
  return {
    kind: 'container',
    projectDirectory: workingDirectory,
    functionName: name,
    bindings: [],
    limits: {},
    routes: [],
    baseDomainHost: true,
    previewHosts: true,
    warnings: [],
    protocol: readProtocol(where),
    source,
    settings: port === undefined ? {} : { port },
  }
}

function readProtocol({ flags }: Where): ContainerProtocol {
  const protocol = flags.text('protocol') ?? 'http'
  if (protocol === 'lambda' || protocol === 'http') return protocol
  throw usageError(`--protocol is ${JSON.stringify(protocol)}: give lambda or http`)
}
