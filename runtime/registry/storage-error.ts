import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'

// Primary result codes of SQLite (sqlite.org/rescode.html); the extended ones carry them in the low byte.
const SQLITE = { readonly: 8, ioerr: 10, corrupt: 11, full: 13, cantOpen: 14, notADatabase: 26 } as const

/** What a failed disk operation means for whoever runs the node: full, unusable, or a fault of ours passed through. */
export function toStorageError(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || isIsolaError(error)) return error
  const reason = error.message
  switch (storageProblem(error)) {
    case 'full':
      return new IsolaError(
        'storage_full',
        `no space left for ${path} (${reason}): free some space or move the data directory, then try again; nothing was changed`,
        { cause: error, details: { path } },
      )
    case 'denied':
      return new IsolaError(
        'data_unusable',
        `cannot write ${path} (${reason}): give this user write access to it, or start with another --data directory`,
        { cause: error, details: { path } },
      )
    case 'damaged':
      return new IsolaError(
        'data_unusable',
        `${path} is damaged (${reason}): stop the node, then restore the data directory from a backup, or move it away to start empty and deploy again`,
        { cause: error, details: { path } },
      )
    default:
      return error
  }
}

function storageProblem(error: Error): 'full' | 'denied' | 'damaged' | 'unknown' {
  if ('errcode' in error && typeof error.errcode === 'number') {
    switch (error.errcode & 0xff) {
      case SQLITE.full:
        return 'full'
      case SQLITE.readonly:
      case SQLITE.cantOpen:
        return 'denied'
      case SQLITE.corrupt:
      case SQLITE.notADatabase:
      case SQLITE.ioerr:
        return 'damaged'
      default:
        return 'unknown'
    }
  }
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return 'full'
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
    case 'ENOTDIR':
    case 'EEXIST':
      return 'denied'
    case 'EIO':
      return 'damaged'
    default:
      return 'unknown'
  }
}
