import { closeSync, constants, openSync, writeSync } from 'node:fs'
import type { Freezer } from '../runtime/pool/wire.ts'

/**
 * Freezes or thaws what the file of the kernel's stands for: one write, which the kernel takes without waiting, so that
 * a request can resume its instance and use it in the same turn. The file is never made. Returns what went wrong.
 */
export function writeFreezer(freezer: Freezer, state: 'frozen' | 'thawed'): string | undefined {
  try {
    const file = openSync(freezer.file, constants.O_WRONLY | constants.O_TRUNC)
    try {
      writeSync(file, freezer[state])
    } finally {
      closeSync(file)
    }
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
