import { existsSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { IsolaError } from '../../sdk/model/errors.ts'
import { BUILD_LIMITS } from '../../sdk/model/limits.ts'
import { parseDocument, type ConfigDocument } from '../../sdk/config/document.ts'

/** In wrangler's order of precedence. */
const CONFIG_NAMES = ['wrangler.json', 'wrangler.jsonc', 'wrangler.toml'] as const

/**
 * The configuration of a directory, read and parsed; `undefined` where there is none. Throws `config_not_found` for a
 * file that was named and is not there, `config_invalid` for one that cannot be read.
 */
export async function readConfigDocument(options: {
  readonly directory: string
  readonly file?: string
}): Promise<{ readonly document: ConfigDocument; readonly ignored: readonly string[] } | undefined> {
  const { directory, file } = options
  if (file !== undefined) {
    const path = resolve(directory, file)
    if (!/\.(?:jsonc?|toml)$/.test(path)) {
      throw new IsolaError(
        'config_invalid',
        `${path} is no configuration by its name: use a .jsonc, .json or .toml file`,
      )
    }
    if (await isFile(path)) return { document: await readDocument(path), ignored: [] }
    throw new IsolaError('config_not_found', `there is no configuration ${path}: correct the path`)
  }
  const found: string[] = []
  for (const name of CONFIG_NAMES) if (await isFile(resolve(directory, name))) found.push(name)
  const [chosen, ...ignored] = found
  return chosen === undefined
    ? undefined
    : { document: await readDocument(resolve(directory, chosen)), ignored }
}

export function configNotFound(directory: string): IsolaError {
  const path = resolve(directory)
  if (!existsSync(path)) {
    return new IsolaError('config_not_found', `there is no directory or file ${path}: correct the path`)
  }
  return new IsolaError(
    'config_not_found',
    `${path} has no wrangler.jsonc, wrangler.json or wrangler.toml: make one with "name", "main" and ` +
      '"compatibility_date", or run this in the directory that has it',
  )
}

async function readDocument(path: string): Promise<ConfigDocument> {
  let bytes: Uint8Array
  try {
    const { size } = await stat(path)
    if (size > BUILD_LIMITS.configBytesMax) {
      throw new IsolaError(
        'config_invalid',
        `${path} has ${size} bytes, more than the ${BUILD_LIMITS.configBytesMax} of a configuration: is it the right file?`,
      )
    }
    bytes = await readFile(path)
  } catch (error) {
    if (error instanceof IsolaError) throw error
    throw new IsolaError('config_invalid', `${path} cannot be read: check its permissions`, { cause: error })
  }
  return parseDocument(path, bytes)
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}
