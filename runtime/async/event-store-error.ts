import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'

// Primary result codes of SQLite (sqlite.org/rescode.html); the extended ones carry them in the low byte.
const SQLITE = { readonly: 8, ioerr: 10, corrupt: 11, full: 13, cantOpen: 14, notADatabase: 26 } as const

/** What a failed disk operation means for whoever runs the node. */
export function toEventStoreError(error: unknown, path: string): IsolaError {
  if (isIsolaError(error)) return error
  const reason = error instanceof Error ? error.message : String(error)
  const code = codeOf(error)
  const details = { path }
  if (code === SQLITE.full || code === 'ENOSPC' || code === 'EDQUOT') {
    return new IsolaError(
      'storage_full',
      `no space left for ${path} (${reason}): free some space, then send the event again; it was not taken`,
      { cause: error, details },
    )
  }
  const isDamaged = code === SQLITE.corrupt || code === SQLITE.notADatabase || code === SQLITE.ioerr
  const way = isDamaged
    ? 'stop the node, move that file away, and start again: events that wait in it are lost unless it can be restored'
    : 'give this user write access to it, or start with another --data directory'
  return new IsolaError(
    'data_unusable',
    `asynchronous events cannot be kept in ${path} (${reason}): ${way}`,
    {
      cause: error,
      details,
    },
  )
}

function codeOf(error: unknown): number | string | undefined {
  if (!(error instanceof Error)) return undefined
  if ('errcode' in error && typeof error.errcode === 'number') return error.errcode & 0xff
  return (error as NodeJS.ErrnoException).code
}
