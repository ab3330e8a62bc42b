import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { IsolaError } from '../../sdk/model/errors.ts'

const run = promisify(execFile)

/**
 * What the programs and libraries at `paths` load, by the paths they look for, the loader among them. Asked of the
 * loader itself: it alone knows all the places where it looks. Only for what this machine runs anyway.
 */
export async function sharedLibrariesOf(paths: readonly string[]): Promise<ReadonlySet<string>> {
  const found = new Set<string>()
  for (let start = 0; start < paths.length; start += PATHS_PER_RUN) {
    const some = paths.slice(start, start + PATHS_PER_RUN)
    for (const path of librariesIn(await list(some))) found.add(path)
  }
  return found
}

const PATHS_PER_RUN = 200

/** Libraries that are looked up by name at run time, where this machine has them beside its C library. */
export function besideLibraries(libraries: ReadonlySet<string>, names: readonly string[]): readonly string[] {
  const cLibrary = [...libraries].find((path) => path.endsWith('/libc.so.6'))
  if (cLibrary === undefined) return []
  const folders = [dirname(cLibrary), join('/usr', dirname(cLibrary))]
  return names.flatMap((name) => {
    const path = folders.map((folder) => join(folder, name)).find((candidate) => existsSync(candidate))
    return path === undefined ? [] : [path]
  })
}

async function list(paths: readonly string[]): Promise<string> {
  try {
    const { stdout } = await run('ldd', [...paths], { maxBuffer: 16 * 1024 * 1024, timeout: 60_000 })
    return stdout
  } catch (cause) {
    const { stdout, code } = cause as { readonly stdout?: string; readonly code?: unknown }
    // A static program is "not a dynamic executable", said with a status of failure.
    if (code === 1 && stdout !== undefined) return stdout
    throw new IsolaError(
      'unsupported_machine',
      `the libraries of ${paths[0] ?? ''} cannot be listed: install "ldd" (Debian: libc-bin), it is part of the C library`,
      { cause },
    )
  }
}

/** `name => /path (address)`, or `/path (address)` of the loader. */
function librariesIn(text: string): readonly string[] {
  return text.split('\n').flatMap((line) => {
    const path = /^\s+(?:\S+ => )?(\/\S+) \(0x[0-9a-f]+\)$/.exec(line)?.[1]
    return path === undefined ? [] : [path]
  })
}
