/**
 * The names in an archive, judged before a byte is unpacked. Each becomes a path below one directory, and no two the
 * same: what another program would make of an unclear name is not guessed, it is refused.
 */
import { IsolaError } from '../../sdk/model/errors.ts'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'

export interface NamedEntry {
  readonly name: string
  readonly isDirectory: boolean
}

export interface PathList {
  /** Takes one more name; returns its path, without a slash at either end. Throws `version_refused`. */
  add(entry: NamedEntry): string
  /** Parents before what is in them. */
  directories(): readonly string[]
}

const SEGMENT_BYTES_MAX = 255
const SHOWN_MAX = 160

export function createPathList(): PathList {
  const files = new Set<string>()
  const directories = new Set<string>()

  const addDirectories = (segments: readonly string[], name: string): void => {
    let path = ''
    for (const segment of segments) {
      path = path === '' ? segment : `${path}/${segment}`
      if (files.has(path)) refuse(name, `"${shown(path)}" is a file and a directory at once`)
      directories.add(path)
    }
  }
  return {
    add({ name, isDirectory }) {
      const segments = segmentsOf(name)
      const path = segments.join('/')
      addDirectories(isDirectory ? segments : segments.slice(0, -1), name)
      if (!isDirectory) {
        if (path === '') refuse(name, 'it names no file')
        if (directories.has(path)) refuse(name, 'it is a file and a directory at once')
        if (files.has(path)) refuse(name, 'it is there twice')
        files.add(path)
      }
      const count = files.size + directories.size
      const { archiveFilesMax } = CONTAINER_LIMITS
      if (count > archiveFilesMax) {
        throw refusal(
          `it has more than ${archiveFilesMax} files and directories: leave out what is not needed`,
        )
      }
      return path
    },
    directories: () => [...directories],
  }
}

/** Tools write `./a` and `a//b` and mean no harm by it. */
function segmentsOf(name: string): readonly string[] {
  if (name.includes('\0')) refuse(name, 'it has a NUL')
  if (name.includes('\\')) refuse(name, 'it has a backslash; archives separate folders by "/"')
  if (name.startsWith('/')) refuse(name, 'it is absolute')
  if (Buffer.byteLength(name) > CONTAINER_LIMITS.archivePathBytesMax) {
    refuse(name, `it is longer than ${CONTAINER_LIMITS.archivePathBytesMax} bytes`)
  }
  const segments = name.split('/').filter((segment) => segment !== '' && segment !== '.')
  for (const segment of segments) {
    if (segment === '..') refuse(name, 'it leads out of the archive by ".."')
    if (Buffer.byteLength(segment) > SEGMENT_BYTES_MAX) {
      refuse(name, `a part of it is longer than ${SEGMENT_BYTES_MAX} bytes`)
    }
  }
  return segments
}

function refuse(name: string, why: string): never {
  throw refusal(`entry "${shown(name)}" is refused: ${why}`)
}

/** Throws nothing: the error that every broken or dangerous archive gets. */
export function refusal(why: string, cause?: unknown): IsolaError {
  return new IsolaError(
    'version_refused',
    `the archive cannot be unpacked: ${why.replace(/\.$/, '')}. Make it again with zip`,
    {
      cause,
    },
  )
}

/** What somebody made to harm is not to reach a terminal as it is. */
export function shown(name: string): string {
  const plain = name.replaceAll(
    /[^\x20-\x7e]/g,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  )
  return plain.length > SHOWN_MAX ? `${plain.slice(0, SHOWN_MAX)}…` : plain
}
