import { statSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { IsolaError } from '../model/errors.ts'
import { BUILD_LIMITS } from '../model/limits.ts'
import { parseDocument, type ConfigDocument } from './document.ts'

/** Throws `config_invalid` for a file that is too long, cannot be read, or is not of its format. */
export async function readDocument(path: string): Promise<ConfigDocument> {
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

export async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}

export function isFileSync(path: string): boolean {
  try {
    return statSync(path).isFile()
  } catch {
    // Not there, not allowed, or no possible path at all.
    return false
  }
}
