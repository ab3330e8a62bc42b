import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { ConfigDocument } from '../../sdk/config/document.ts'
import { isFile, readDocument } from '../../sdk/config/read-document.ts'

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
  if (existsSync(resolve(path, 'Dockerfile'))) {
    return new IsolaError(
      'config_not_found',
      `${path} has a Dockerfile and no isola.jsonc: write one beside it, { "name": "my-function", "dockerfile": true }`,
    )
  }
  return new IsolaError(
    'config_not_found',
    `${path} has no isola.jsonc or isola.json, and no wrangler.jsonc, wrangler.json or wrangler.toml: make one with ` +
      '"name", "main" and "compatibility_date", or run this in the directory that has it',
  )
}
