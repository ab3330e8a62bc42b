/**
 * The file system that an instance sees, made once per node as a directory of empty mount points: every launch mounts
 * the real files onto them in its own mount namespace. Nothing is copied, so instances share the page cache.
 *
 * Inside: workerd, the shared libraries it and `setpriv` need, /dev/urandom (V8's random seed), and /run/isola.
 * What an earlier agent made is kept: removing a mount point unmounts it in every instance that still runs.
 * No /proc; `/proc/self/exe` is a plain link, without which workerd warns on each start.
 */
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { spawnSync } from 'node:child_process'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'

export interface SandboxRoot {
  readonly directory: string
  /** A table for `mount --all --fstab`: one process mounts everything. */
  readonly mountTable: string
  /** Runs `umount` while the host's file system is at /old only: by its loader, with libraries from there. */
  readonly unmountCommand: readonly string[]
}

export interface SandboxTools {
  readonly workerd: string
  readonly setpriv: string
  readonly umount: string
}

/** Where the instance's sockets are, seen from inside. */
export const SOCKETS_INSIDE = '/run/isola'

/** Throws where a binary cannot be loaded; the message says which. */
export function buildSandboxRoot(directory: string, tools: SandboxTools): SandboxRoot {
  const root = join(directory, 'root')
  for (const folder of ['dev', 'etc', 'old', 'proc/self', SOCKETS_INSIDE]) {
    mkdirSync(join(root, folder), { recursive: true, mode: 0o755 })
  }
  const link = join(root, 'proc/self/exe')
  if (lstatSync(link, { throwIfNoEntry: false }) === undefined) symlinkSync('/workerd', link)

  const workerd = traceLibraries(tools.workerd)
  const files = new Map([
    ['/workerd', tools.workerd],
    ['/setpriv', tools.setpriv],
    ['/etc/ld.so.cache', '/etc/ld.so.cache'],
  ])
  for (const library of [...workerd.libraries, ...traceLibraries(tools.setpriv).libraries])
    files.set(library, library)

  const lines = [mountLine(root, root, 'bind,ro,nosuid,nodev')]
  for (const [inside, outside] of files) {
    const target = join(root, inside)
    mkdirSync(dirname(target), { recursive: true, mode: 0o755 })
    makeMountPoint(target)
    lines.push(mountLine(realpathSync(outside), target, 'bind,ro,nosuid,nodev'))
  }
  makeMountPoint(join(root, 'dev/urandom'))
  lines.push(mountLine('/dev/urandom', join(root, 'dev/urandom'), 'bind,ro,nosuid,noexec'))
  const mountTable = join(directory, 'mounts')
  writeFileSync(mountTable, `${lines.join('\n')}\n`)

  const umount = traceLibraries(tools.umount)
  const folders = new Set(umount.libraries.map((library) => `/old${dirname(realpathSync(library))}`))
  return {
    directory: root,
    mountTable,
    unmountCommand: [
      `/old${realpathSync(umount.loader)}`,
      '--library-path',
      [...folders].join(':'),
      `/old${realpathSync(tools.umount)}`,
    ],
  }
}

interface LoadedLibraries {
  readonly loader: string
  readonly libraries: readonly string[]
}

/** Asks the dynamic loader itself, as `ldd` does; through its path, because it ignores the variable for setuid files. */
function traceLibraries(binary: string): LoadedLibraries {
  const loader = interpreterOf(binary)
  const run = spawnSync(loader, [binary], {
    env: { LD_TRACE_LOADED_OBJECTS: '1' },
    encoding: 'utf8',
    timeout: INSTANCE_LIMITS.sandboxTrialTimeoutMs,
  })
  if (run.status !== 0)
    throw new Error(`cannot list the libraries of ${binary}: ${run.stderr || run.error?.message}`)
  const libraries = new Set([loader])
  for (const line of run.stdout.split('\n')) {
    const path = /=> (\/\S+) \(0x/.exec(line)?.[1]
    if (path !== undefined) libraries.add(path)
    else if (line.includes('not found')) throw new Error(`${basename(binary)} needs ${line.trim()}`)
  }
  return { loader, libraries: [...libraries] }
}

/** The loader that an ELF file names in its PT_INTERP segment. */
function interpreterOf(binary: string): string {
  // The path is near the start of every linked executable; reading 160 MB of workerd to find it would cost 60 ms.
  const head = Buffer.alloc(4096)
  const file = openSync(binary, 'r')
  readSync(file, head)
  closeSync(file)
  const path = /\/[\w./-]*\/ld[\w.-]*\.so\.\d+/.exec(head.toString('latin1'))?.[0]
  if (path === undefined) throw new Error(`${binary} is not a dynamically linked executable`)
  return path
}

function makeMountPoint(path: string): void {
  closeSync(openSync(path, 'a', 0o644))
}

function mountLine(source: string, target: string, options: string): string {
  return `${escape(source)} ${escape(target)} none ${options} 0 0`
}

/** fstab separates by blanks and writes them as octal. */
function escape(path: string): string {
  return path.replace(/[\s\\#]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`)
}
