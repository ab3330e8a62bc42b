/**
 * A zip archive becomes a directory. Sizes in an archive are claims: each file is inflated into as much room as it
 * claims and no more, and all claims together are bounded, so a bomb ends before it has grown. What is unpacked is the
 * same whoever packed it: modes are 0644 and 0755, times are fixed, nothing but files and directories.
 */
import { chmodSync, mkdirSync, utimesSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { crc32, inflateRaw, inflateRawSync } from 'node:zlib'
import { fromBufferPromise, type Entry, type ZipFile } from 'yauzl'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { createPathList, refusal, shown } from './code-names.ts'

const inflateElsewhere = promisify(inflateRaw)

interface PackedFile {
  readonly entry: Entry
  readonly path: string
  readonly mode: number
}

/** As AWS has it; zip can say nothing earlier. */
const FIXED_TIME = new Date('1980-01-01T00:00:00Z')
/** Small files are written at once: by way of a thread each would take ten times as long, and code has thousands. */
const SMALL_BYTES = 64 * 1024
const FILES_PER_TURN = 4

/** Fills `directory`, which is there and empty. Throws `version_refused`; what it has made by then stays. */
export async function unpackCode(archive: Uint8Array, directory: string): Promise<void> {
  const bytes = Buffer.from(archive.buffer, archive.byteOffset, archive.byteLength)
  const { zip, files, directories } = await readNames(bytes)
  for (const path of directories) {
    mkdirSync(join(directory, path))
    chmodSync(join(directory, path), 0o755)
  }
  for (const [index, file] of files.entries()) {
    await unpackFile(zip, bytes, file, directory)
    if (index % FILES_PER_TURN === 0) await nextTurn()
  }
  for (const path of directories) utimesSync(join(directory, path), FIXED_TIME, FIXED_TIME)
}

async function readNames(bytes: Buffer): Promise<{
  readonly zip: ZipFile
  readonly files: readonly PackedFile[]
  readonly directories: readonly string[]
}> {
  const { archiveBytesMax, unpackedBytesMax } = CONTAINER_LIMITS
  if (bytes.length === 0) throw refusal('it has 0 bytes')
  if (bytes.length > archiveBytesMax) {
    throw refusal(`it has ${bytes.length} bytes, and at most ${archiveBytesMax} are taken`)
  }
  const paths = createPathList()
  const files: PackedFile[] = []
  let claimedBytes = 0
  try {
    const zip = await fromBufferPromise(bytes, {
      lazyEntries: true,
      strictFileNames: true,
      validateEntrySizes: true,
    })
    for await (const entry of zip.eachEntry()) {
      const isDirectory = checkKind(entry)
      const path = paths.add({ name: entry.fileName, isDirectory })
      if (isDirectory) continue
      claimedBytes += entry.uncompressedSize
      if (claimedBytes > unpackedBytesMax) {
        throw refusal(`it unpacks to more than ${unpackedBytesMax} bytes: leave out what is not needed`)
      }
      files.push({ entry, path, mode: modeOf(entry) })
    }
    return { zip, files, directories: paths.directories() }
  } catch (error) {
    throw asRefusal(error)
  }
}

const TYPE_MASK = 0o170000
const TYPE_DIRECTORY = 0o040000
const TYPE_FILE = 0o100000
const STORED = 0
const DEFLATED = 8

/** True for a directory. */
function checkKind(entry: Entry): boolean {
  const name = shown(entry.fileName)
  if (entry.isEncrypted()) throw refusal(`entry "${name}" is encrypted`)
  // Whatever system the archive claims to come from: some unpackers would believe the bits.
  const type = (entry.externalFileAttributes >>> 16) & TYPE_MASK
  const isDirectory = entry.fileName.endsWith('/')
  if (type !== 0 && type !== (isDirectory ? TYPE_DIRECTORY : TYPE_FILE)) {
    throw refusal(
      `entry "${name}" is no plain file or directory (mode ${type.toString(8)}): links and special files are not taken, zip without --symlinks`,
    )
  }
  const method = entry.compressionMethod
  if (method !== STORED && method !== DEFLATED) {
    throw refusal(`entry "${name}" is compressed by method ${method}, and only deflate is known here`)
  }
  return isDirectory
}

function modeOf(entry: Entry): number {
  return ((entry.externalFileAttributes >>> 16) & 0o111) === 0 ? 0o644 : 0o755
}

async function unpackFile(zip: ZipFile, bytes: Buffer, file: PackedFile, directory: string): Promise<void> {
  const body = await readBody(zip, bytes, file.entry)
  const path = join(directory, file.path)
  if (body.length > SMALL_BYTES) await writeFile(path, body, { flag: 'wx' })
  else writeFileSync(path, body, { flag: 'wx' })
  chmodSync(path, file.mode)
  utimesSync(path, FIXED_TIME, FIXED_TIME)
}

async function readBody(zip: ZipFile, bytes: Buffer, entry: Entry): Promise<Uint8Array> {
  const { compressedSize, uncompressedSize, compressionMethod } = entry
  const name = shown(entry.fileName)
  let body: Uint8Array
  try {
    const { fileDataStart } = await zip.readLocalFileHeaderPromise(entry, { minimal: true })
    const packed = bytes.subarray(fileDataStart, fileDataStart + compressedSize)
    if (packed.length !== compressedSize) throw new Error('it ends beyond the end of the archive')
    body = compressionMethod === STORED ? packed : await inflate(packed, uncompressedSize)
  } catch (cause) {
    throw refusal(`entry "${name}" is broken: ${(cause as Error).message}`, cause)
  }
  if (body.length !== uncompressedSize) {
    throw refusal(`entry "${name}" has ${body.length} bytes and claims ${uncompressedSize}`)
  }
  if (crc32(body) !== entry.crc32) throw refusal(`entry "${name}" is damaged: its checksum is wrong`)
  return body
}

async function inflate(packed: Uint8Array, claimedBytes: number): Promise<Uint8Array> {
  const options = { maxOutputLength: Math.max(1, claimedBytes) }
  return claimedBytes > SMALL_BYTES ? inflateElsewhere(packed, options) : inflateRawSync(packed, options)
}

function asRefusal(error: unknown): Error {
  const { code, message } = error as { readonly code?: string; readonly message: string }
  return code === 'version_refused' ? (error as Error) : refusal(shown(message), error)
}
