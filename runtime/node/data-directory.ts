import { createHash, randomBytes } from 'node:crypto'
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { IsolaError } from '../../sdk/model/errors.ts'

/**
 * Where a node keeps what must survive (`data`) and what need not (`run`: sockets and instance records). Sockets stay
 * out of the data directory because a unix socket's path ends at 107 bytes, and users nest directories deeper.
 */
export interface DataDirectory {
  readonly path: string
  readonly runPath: string
  readonly logsPath: string
  readonly bucketPath: string
  readonly token: string
  /** 12 hex digits that name this directory on this machine. */
  readonly name: string
  writeNodeFile(node: NodeFile): void
  removeNodeFile(): void
  removeRunPath(): void
}

/** `node.json`: how the CLI finds the node of a data directory. */
export interface NodeFile {
  readonly pid: number
  readonly httpUrl: string
  readonly controlUrl: string
}

export function openDataDirectory(directory: string): DataDirectory {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    const path = realpathSync(directory)
    const name = createHash('sha256').update(path).digest('hex').slice(0, 12)
    const runPath = makeRunDirectory(name)
    const logsPath = join(path, 'logs')
    mkdirSync(logsPath, { recursive: true, mode: 0o700 })
    const nodeFile = join(path, 'node.json')
    return {
      path,
      runPath,
      logsPath,
      bucketPath: join(path, 'bucket'),
      token: readOrMakeToken(join(path, 'token')),
      name,
      writeNodeFile: (node) => writeAtomically(nodeFile, `${JSON.stringify(node, null, 2)}\n`, 0o644),
      removeNodeFile: () => rmSync(nodeFile, { force: true }),
      removeRunPath: () => rmSync(runPath, { recursive: true, force: true }),
    }
  } catch (error) {
    if (error instanceof IsolaError) throw error
    throw new IsolaError(
      'data_unusable',
      `data directory ${directory} cannot be used: ${reasonOf(error as NodeJS.ErrnoException)}. Choose another with --data`,
      { cause: error },
    )
  }
}

/** Node says ENOENT of a directory that it could not make with `recursive` on a read-only file system. */
function reasonOf({ code, syscall, path, message }: NodeJS.ErrnoException): string {
  if (code !== 'ENOENT' || syscall !== 'mkdir' || path === undefined) return message
  try {
    mkdirSync(path)
    return message
  } catch (error) {
    return (error as Error).message
  }
}

function makeRunDirectory(name: string): string {
  const uid = process.getuid?.() ?? 0
  // Instances run under uids of their own and only pass through: search permission, nothing to read.
  const base = uid === 0 ? '/run/isola' : join(tmpdir(), `isola-${uid}`)
  const path = join(base, name)
  for (const each of [base, path]) {
    makeDirectory(each)
    // Not followed: anybody may have put a link into the machine's temporary directory, to a place of ours.
    const found = lstatSync(each)
    if (!found.isDirectory()) {
      throw new IsolaError('data_unusable', `${each} is not a directory: remove it and start again`)
    }
    if (found.uid !== uid) {
      throw new IsolaError(
        'data_unusable',
        `${each} belongs to uid ${found.uid}, not to ${uid}: remove it and start again`,
      )
    }
    chmodSync(each, 0o711)
  }
  return path
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o711 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}

function readOrMakeToken(file: string): string {
  try {
    const token = readFileSync(file, 'utf8').trim()
    if (token.length >= 16) {
      chmodSync(file, 0o600)
      return token
    }
    throw new IsolaError('data_unusable', `${file} holds no usable token: remove it and a new one is made`)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const token = randomBytes(32).toString('base64url')
  writeAtomically(file, `${token}\n`, 0o600)
  return token
}

function writeAtomically(file: string, text: string, mode: number): void {
  const temporary = `${file}.new`
  writeFileSync(temporary, text, { mode })
  renameSync(temporary, file)
}
