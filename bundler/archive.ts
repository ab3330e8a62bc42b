/**
 * Zip archives with nothing in them but names, bytes and whether a file is executable: sorted, one time for all, modes 644
 * and 755. So the same sources give the same digest, wherever and whenever they are packed.
 */
import { createHash } from 'node:crypto'
import { constants, createReadStream, type ReadStream } from 'node:fs'
import { access, readFile, stat } from 'node:fs/promises'
import { ZipFile } from 'yazl'
import { IsolaError } from '../sdk/model/errors.ts'
import { CONTAINER_LIMITS } from '../sdk/model/limits.ts'
import type { SourceFile } from './source-files.ts'

export interface Archive {
  readonly bytes: Uint8Array
  /** Lower-case hex SHA-256 of the bytes. */
  readonly sha256: string
  /** What it unpacks to. Empty for an archive that was made elsewhere. */
  readonly files: readonly { readonly name: string; readonly sizeBytes: number }[]
}

export type ArchiveEntry = SourceFile | MadeFile

/** A file that is nowhere on disk. */
export interface MadeFile {
  readonly name: string
  readonly body: Uint8Array
}

const BIGGEST_SHOWN = 5

/** Throws `bundle_too_large` with the names of the biggest files, `build_failed` for one that changes meanwhile. */
export async function packArchive(entries: readonly ArchiveEntry[]): Promise<Archive> {
  const files = entries
    .map((entry) => ({ name: entry.name, sizeBytes: sizeOf(entry) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
  const unpackedBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  if (unpackedBytes > CONTAINER_LIMITS.unpackedBytesMax) {
    throw tooLarge(files, `the files have ${unpackedBytes} bytes`, CONTAINER_LIMITS.unpackedBytesMax)
  }
  const zip = new ZipFile()
  // Its fields are local time, and so the same in every zone; a day after the first that zip has, whatever zone that is in.
  const mtime = new Date(1980, 0, 2)
  const sorted = entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  const reading: Reading = { name: '' }
  for (const entry of sorted) {
    const options = {
      mtime,
      forceDosTimestamp: true,
      mode: 'path' in entry && entry.isExecutable ? 0o100755 : 0o100644,
    }
    if ('body' in entry) zip.addBuffer(Buffer.from(entry.body), entry.name, options)
    else {
      zip.addReadStreamLazy(entry.name, { ...options, size: entry.sizeBytes }, (callback) => {
        reading.name = entry.name
        reading.stream = createReadStream(entry.path).on('error', (error) => zip.emit('error', error))
        callback(null, reading.stream)
      })
    }
  }
  zip.end()
  const bytes = await collect(zip, { files, reading })
  return { bytes, sha256: createHash('sha256').update(bytes).digest('hex'), files }
}

/** An archive that is ready. What is in it is the node's to judge. */
export async function readArchive(path: string): Promise<Archive> {
  const { archiveBytesMax } = CONTAINER_LIMITS
  const size = await readableBytes(path)
  if (size > archiveBytesMax) {
    throw new IsolaError(
      'bundle_too_large',
      `${path} has ${size} bytes, more than the ${archiveBytesMax} of an archive: leave out what the function does not need, or use an image`,
      { details: { sizeBytes: size, archiveBytesMax } },
    )
  }
  const bytes = await readFile(path)
  const signature = bytes.subarray(0, 4).toString('latin1')
  if (signature !== 'PK\u0003\u0004') {
    const what = size === 0 ? 'is empty' : 'is no zip archive, or one without files'
    throw new IsolaError('build_failed', `${path} ${what}: make it anew, with the handler's file in it`)
  }
  return { bytes, sha256: createHash('sha256').update(bytes).digest('hex'), files: [] }
}

interface Reading {
  name: string
  stream?: ReadStream
}

/** How long a file is that can be read. Throws `build_failed`. */
export async function readableBytes(path: string): Promise<number> {
  try {
    await access(path, constants.R_OK)
    return (await stat(path)).size
  } catch (error) {
    const message = `${path} cannot be read (${(error as NodeJS.ErrnoException).code}): check the path and its permissions`
    throw new IsolaError('build_failed', message, { cause: error })
  }
}

async function collect(
  zip: ZipFile,
  { files, reading }: { readonly files: Archive['files']; readonly reading: Reading },
): Promise<Uint8Array> {
  const { archiveBytesMax } = CONTAINER_LIMITS
  const chunks: Buffer[] = []
  let totalBytes = 0
  return await new Promise((resolve, reject) => {
    zip.on('error', (error: Error) => {
      const message = `${JSON.stringify(reading.name)} cannot be packed (${error.message}): see that it can be read, and that nothing changes it meanwhile`
      reject(new IsolaError('build_failed', message, { cause: error }))
    })
    const output = zip.outputStream
    output.on('data', (chunk: Buffer) => {
      totalBytes += chunk.length
      if (totalBytes > archiveBytesMax) {
        reject(tooLarge(files, 'the archive has more bytes', archiveBytesMax))
        reading.stream?.destroy()
        output.pause()
        chunks.length = 0
      } else chunks.push(chunk)
    })
    output.on('end', () => resolve(Buffer.concat(chunks, totalBytes)))
  })
}

function sizeOf(entry: ArchiveEntry): number {
  return 'body' in entry ? entry.body.byteLength : entry.sizeBytes
}

function tooLarge(files: Archive['files'], what: string, bytesMax: number): IsolaError {
  const biggest = files.toSorted((a, b) => b.sizeBytes - a.sizeBytes).slice(0, BIGGEST_SHOWN)
  const list = biggest.map(({ name, sizeBytes }) => `  ${mib(sizeBytes)} ${name}`).join('\n')
  return new IsolaError(
    'bundle_too_large',
    `${what}, and ${bytesMax} (${mib(bytesMax)}) is the most: leave some out with "exclude", or use a Dockerfile. The biggest:\n${list}`,
    { details: { biggest, bytesMax } },
  )
}

function mib(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}
