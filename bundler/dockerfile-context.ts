import { createReadStream } from 'node:fs'
import { lstat, readdir, readFile, readlink } from 'node:fs/promises'
import { basename, dirname, join, relative, sep } from 'node:path'
import { Readable } from 'node:stream'
import dockerignore from '@balena/dockerignore'
import { pack, type Pack } from 'tar-stream'
import { IsolaError } from '../sdk/model/errors.ts'
import { BUILD_LIMITS, CONTAINER_LIMITS } from '../sdk/model/limits.ts'

// CommonJS: what its types call the default is the module itself.
const createIgnore = dockerignore as unknown as typeof dockerignore.default

/** What an image is built from: a directory without what `.dockerignore` names. */
export interface DockerfileContext {
  /** Relative to the directory, `/`-separated. */
  readonly dockerfile: string
  readonly entries: readonly ContextEntry[]
  /** Of all files together. */
  readonly totalBytes: number
}

interface ContextEntry {
  readonly name: string
  readonly path: string
  readonly type: 'file' | 'directory' | 'symlink'
  readonly sizeBytes: number
  readonly mode: number
  readonly modifiedAt: Date
  /** Of a symlink; it is kept as it is, because it may mean a place in the image. */
  readonly linkTarget?: string
}

/**
 * Lists it, in the order of names. `<dockerfile>.dockerignore` stands against `.dockerignore`, as with Docker's own client;
 * both files and the Dockerfile are sent whatever they say. Throws `build_failed`, `bundle_too_large`.
 */
export async function findDockerfileContext(options: {
  readonly directory: string
  /** Absolute, inside of the directory. */
  readonly path: string
}): Promise<DockerfileContext> {
  const { directory } = options
  const dockerfile = relative(directory, options.path).split(sep).join('/')
  const { isSent, mayHold } = await readIgnored(directory, options.path)
  const always = new Set([dockerfile, '.dockerignore', `${dockerfile}.dockerignore`])
  const isAboveDockerfile = (name: string): boolean => dockerfile.startsWith(`${name}/`)
  const entries: ContextEntry[] = []
  const visit = async (folder: string, prefix: string): Promise<void> => {
    for (const entry of (await namesIn(folder)).sort()) {
      const name = `${prefix}${entry}`
      const isWanted = isSent(name) || always.has(name) || isAboveDockerfile(name)
      if (!isWanted && !mayHold) continue
      const found = await readEntry(join(folder, entry), name, isWanted)
      if (found === undefined) continue
      if (isWanted) entries.push(found)
      if (entries.length > BUILD_LIMITS.filesScannedMax) throw tooMany(directory)
      if (found.type === 'directory') await visit(found.path, `${name}/`)
    }
  }
  await visit(directory, '')
  const totalBytes = entries.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  if (totalBytes > CONTAINER_LIMITS.imageBytesMax) {
    throw new IsolaError(
      'bundle_too_large',
      `${directory} has ${totalBytes} bytes, more than the ${CONTAINER_LIMITS.imageBytesMax} of an image: leave some out with .dockerignore`,
    )
  }
  return { dockerfile, entries, totalBytes }
}

/** As a tar stream. It fails with `build_failed` where a file changes meanwhile. */
export function packDockerfileContext(context: DockerfileContext): Readable {
  return Readable.from(tarOf(context), { objectMode: false })
}

async function* tarOf({ entries }: DockerfileContext): AsyncGenerator<Uint8Array, void, void> {
  const tar = pack()
  let failure: unknown
  const writing = writeEntries(tar, entries).catch((error: unknown) => {
    failure = error
    tar.destroy()
  })
  try {
    for await (const chunk of tar as AsyncIterable<Uint8Array>) yield chunk
  } catch (error) {
    failure ??= error
  } finally {
    tar.destroy()
    await writing
  }
  if (failure !== undefined) throw failure as Error
}

async function writeEntries(tar: Pack, entries: readonly ContextEntry[]): Promise<void> {
  for (const { name, path, type, sizeBytes, mode, modifiedAt, linkTarget } of entries) {
    const header = {
      name: type === 'directory' ? `${name}/` : name,
      type,
      size: sizeBytes,
      mode,
      mtime: modifiedAt,
      uid: 0,
      gid: 0,
      ...(linkTarget !== undefined && { linkname: linkTarget }),
    }
    await new Promise<void>((resolve, reject) => {
      const fail = (error: Error): void => {
        const message = `${JSON.stringify(name)} cannot be sent (${error.message}): see that it can be read, and that nothing changes it meanwhile`
        reject(new IsolaError('build_failed', message, { cause: error }))
      }
      const sink = tar.entry(header, (error) => (error ? fail(error) : resolve()))
      if (type !== 'file') return
      // Not a byte more than was announced: the next header has to stand where it is expected.
      const file = createReadStream(path, sizeBytes === 0 ? {} : { end: sizeBytes - 1 })
      file.on('error', fail)
      sink.on('error', fail)
      sink.on('close', () => file.destroy())
      file.pipe(sink)
    })
  }
  tar.finalize()
}

async function readIgnored(
  directory: string,
  dockerfile: string,
): Promise<{ readonly isSent: (name: string) => boolean; readonly mayHold: boolean }> {
  const files = [
    join(dirname(dockerfile), `${basename(dockerfile)}.dockerignore`),
    join(directory, '.dockerignore'),
  ]
  for (const file of files) {
    let text: string
    try {
      text = await readFile(file, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue
      throw new IsolaError('build_failed', `${file} cannot be read: ${(error as Error).message}`, {
        cause: error,
      })
    }
    const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/)
    const isSent = createIgnore().add(lines).createFilter()
    // With an exception, an ignored directory may hold what is sent.
    return { isSent, mayHold: lines.some((line) => line.trimStart().startsWith('!')) }
  }
  return { isSent: () => true, mayHold: false }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    throw new IsolaError(
      'build_failed',
      `${folder} cannot be read (${(error as NodeJS.ErrnoException).code}): mend it, or name it in .dockerignore`,
      { cause: error },
    )
  }
}

/** `undefined` for what is no file, directory or link and is not wanted either. */
async function readEntry(path: string, name: string, isWanted: boolean): Promise<ContextEntry | undefined> {
  try {
    const stats = await lstat(path)
    const common = { name, path, mode: stats.mode & 0o7777, modifiedAt: stats.mtime }
    if (stats.isDirectory()) return { ...common, type: 'directory', sizeBytes: 0 }
    if (stats.isFile()) return { ...common, type: 'file', sizeBytes: stats.size }
    if (stats.isSymbolicLink()) {
      return { ...common, type: 'symlink', sizeBytes: 0, linkTarget: await readlink(path) }
    }
  } catch (error) {
    throw new IsolaError(
      'build_failed',
      `${JSON.stringify(name)} cannot be read (${(error as NodeJS.ErrnoException).code}): mend it, or name it in .dockerignore`,
      { cause: error },
    )
  }
  if (!isWanted) return undefined
  throw new IsolaError(
    'build_failed',
    `${JSON.stringify(name)} is no file, directory or link: name it in .dockerignore`,
  )
}

function tooMany(directory: string): IsolaError {
  return new IsolaError(
    'bundle_too_large',
    `${directory} has more than ${BUILD_LIMITS.filesScannedMax} files: leave some out with .dockerignore`,
  )
}
