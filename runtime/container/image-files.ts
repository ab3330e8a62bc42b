/**
 * A root file system in the making: where each file comes from on this machine, and where it goes in the image. Its
 * digest is of what is in it and of nothing else, so the same files always have the same name. Where this machine has
 * /bin and /lib as links into /usr, so has the image: then nothing is in it twice.
 */
import { createHash } from 'node:crypto'
import { createReadStream, lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { pack, type Pack } from 'tar-stream'

export interface ImageFiles {
  addDirectory(path: string, mode?: number): void
  addText(path: string, text: string): void
  /** What a link leads to, not the link. @default at the same path */
  addFile(hostPath: string, path?: string): void
  /** All files below, but what `skip` says. */
  addTree(hostPath: string, options?: { readonly path?: string; skip?(path: string): boolean }): void
  addLink(path: string, target: string): void
  /** Paths of files, as they are on this machine. */
  readonly hostPaths: readonly string[]
  /** First 16 hex digits of the SHA-256. */
  digest(): Promise<string>
  tar(): AsyncIterable<Uint8Array>
}

type Entry =
  | { readonly type: 'directory'; readonly mode: number }
  | { readonly type: 'link'; readonly target: string }
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'file'; readonly hostPath: string; readonly mode: number }

export function createImageFiles(): ImageFiles {
  const entryByPath = new Map<string, Entry>()
  const placeOf = (path: string): string => {
    const top = path.split('/')[1] ?? ''
    const target = MERGED.includes(top) ? linkTargetOf(`/${top}`) : undefined
    if (target === undefined) return path
    entryByPath.set(`/${top}`, { type: 'link', target })
    return join('/', target, path.slice(top.length + 1))
  }
  const add = (path: string, entry: Entry): void => {
    const place = placeOf(path)
    for (let parent = dirname(place); parent !== '/'; parent = dirname(parent)) {
      if (!entryByPath.has(parent)) entryByPath.set(parent, { type: 'directory', mode: 0o755 })
    }
    entryByPath.set(place, entry)
  }
  const addFile = (hostPath: string, path = hostPath): void =>
    // Whoever may run it here, may run it there: the image has its own users.
    add(path, { type: 'file', hostPath, mode: (statSync(hostPath).mode & 0o111) === 0 ? 0o644 : 0o755 })
  const addTree: ImageFiles['addTree'] = (hostPath, { path = hostPath, skip = () => false } = {}) => {
    for (const name of readdirSync(hostPath).sort()) {
      const from = join(hostPath, name)
      if (skip(from)) continue
      const kind = statSync(from, { throwIfNoEntry: false })
      if (kind?.isDirectory() === true) addTree(from, { path: join(path, name), skip })
      else if (kind?.isFile() === true) addFile(from, join(path, name))
    }
  }
  // Parents before what is in them: "/" sorts before whatever may follow it in a name.
  const sorted = (): [string, Entry][] =>
    [...entryByPath].sort(([a], [b]) => (a.split('/').join('\0') < b.split('/').join('\0') ? -1 : 1))
  return {
    addDirectory: (path, mode = 0o755) => add(path, { type: 'directory', mode }),
    addText: (path, text) => add(path, { type: 'text', text }),
    addFile,
    addTree,
    addLink: (path, target) => add(path, { type: 'link', target }),
    get hostPaths() {
      return [...entryByPath.values()].flatMap((entry) => (entry.type === 'file' ? [entry.hostPath] : []))
    },
    async digest() {
      const hash = createHash('sha256')
      for (const [path, entry] of sorted()) {
        hash.update(`${JSON.stringify([path, await identityOf(entry)])}\n`)
      }
      return hash.digest('hex').slice(0, 16)
    },
    tar() {
      const tar = pack()
      writeAll(tar, sorted()).catch((error: Error) => tar.destroy(error))
      return tar as AsyncIterable<Uint8Array>
    },
  }
}

const MERGED: readonly string[] = ['bin', 'sbin', 'lib', 'lib32', 'lib64']

function linkTargetOf(path: string): string | undefined {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true
    ? readlinkSync(path)
    : undefined
}

async function identityOf(entry: Entry): Promise<unknown> {
  if (entry.type !== 'file') return entry
  const hash = createHash('sha256')
  await pipeline(createReadStream(entry.hostPath), hash)
  return { type: entry.type, mode: entry.mode, sha256: hash.digest('hex') }
}

async function writeAll(tar: Pack, entries: readonly (readonly [string, Entry])[]): Promise<void> {
  for (const [path, entry] of entries) {
    const name = path.slice(1)
    if (entry.type === 'directory') {
      await writeEntry(tar, { name: `${name}/`, type: 'directory', mode: entry.mode })
    } else if (entry.type === 'link') {
      await writeEntry(tar, { name, type: 'symlink', linkname: entry.target })
    } else if (entry.type === 'text') await writeEntry(tar, { name, mode: 0o644 }, entry.text)
    else await writeFile(tar, name, entry)
  }
  tar.finalize()
}

const SMALL_BYTES = 256 * 1024

/** With its time: compiled Python says of which time its source is. */
async function writeFile(tar: Pack, name: string, entry: Extract<Entry, { type: 'file' }>): Promise<void> {
  const { size, mtime } = statSync(entry.hostPath)
  const header = { name, mode: entry.mode, mtime }
  if (size <= SMALL_BYTES) await writeEntry(tar, header, readFileSync(entry.hostPath))
  else await pipeline(createReadStream(entry.hostPath), tar.entry({ ...header, size }))
}

/** Waits for who reads the archive: else all of it would be in memory. */
export function writeEntry(
  tar: Pack,
  header: Parameters<Pack['entry']>[0],
  content: string | Buffer = '',
): Promise<void> {
  return new Promise((resolve, reject) => {
    const onWritten = (error?: Error | null): void => (error ? reject(error) : resolve())
    if (header.type === undefined || header.type === 'file') tar.entry(header, content, onWritten)
    else tar.entry(header, onWritten)
  })
}
