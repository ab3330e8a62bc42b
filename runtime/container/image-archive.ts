/**
 * An image as it arrives, made into what every engine takes: the archive of `docker save` with one image and no name.
 * Names in an archive would take the place of the engine's own (of a runtime's image, too). An OCI layout has none of
 * the document that older engines look for: it gets one, for the engine's architecture. Layers pass through as they are.
 */
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { extract, pack, type Extract, type Pack } from 'tar-stream'
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import { ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import { boundBytes } from './image-bytes.ts'
import { writeEntry } from './image-files.ts'
import { describeImage, unusableImage, type ImageDocuments } from './image-manifest.ts'

export interface ImageArchiveOptions {
  /** As images name it: `amd64`, `arm64`. */
  readonly architecture: string
  /** Of the archive, as it comes and unpacked. */
  readonly bytesMax: number
}

/** Throws `image_unusable` that says what is wrong with it, and `body_too_large`. */
export async function* readImageArchive(
  source: AsyncIterable<Uint8Array>,
  options: ImageArchiveOptions,
): AsyncGenerator<Uint8Array> {
  const tar = pack()
  const entries = extract()
  const plain = Readable.from(decompressed(boundBytes(source, options.bytesMax), options.bytesMax))
  // What goes wrong here, the reader of the entries is told.
  pipeline(plain, entries).catch(() => undefined)
  let failure: unknown
  const rewritten = rewrite(entries, tar, options).catch((error: Error) => {
    failure = error
    tar.destroy(error)
  })
  try {
    yield* tar as AsyncIterable<Uint8Array>
  } catch (error) {
    // An archive that ends within a layer ends the other one at once, with a word of the library's only.
    await rewritten
    throw failure ?? error
  } finally {
    tar.destroy()
    entries.destroy()
  }
}

async function rewrite(entries: Extract, tar: Pack, options: ImageArchiveOptions): Promise<void> {
  try {
    const documents = await copyEntries(entries, tar)
    const manifest = describeImage(documents, options.architecture)
    await writeEntry(tar, { name: MANIFEST }, JSON.stringify([{ ...manifest, RepoTags: null }]))
    tar.finalize()
  } catch (cause) {
    if (isIsolaError(cause)) throw cause
    throw new IsolaError(
      'image_unusable',
      `the archive is broken (${(cause as Error).message}): send the tar of "docker save", or of an OCI layout, again`,
      { cause },
    )
  }
}

const MANIFEST = 'manifest.json'
/** Said anew, or not said: names, and what would be read in place of the manifest. */
const NOT_COPIED: readonly string[] = [MANIFEST, 'repositories', 'index.json', 'oci-layout']
/** Configurations and manifests are smaller; layers that are, too, do no harm. */
const DOCUMENT_BYTES_MAX = 4 * 1024 * 1024

async function copyEntries(entries: Extract, tar: Pack): Promise<ImageDocuments> {
  const documents = new Map<string, Buffer>()
  let heldBytes = 0
  for await (const entry of entries) {
    const { header } = entry
    const name = header.name.replace(/^(?:\.?\/)+/, '')
    const size = header.size ?? 0
    if (header.type !== 'file') {
      entry.resume()
      await writeEntry(tar, { ...header, name })
    } else if (size <= DOCUMENT_BYTES_MAX) {
      const content = await readAll(entry as AsyncIterable<Buffer>)
      if (isDocument(content)) {
        heldBytes += size
        documents.set(name, content)
      }
      if (heldBytes > ENGINE_LIMITS.archiveDocumentsBytesMax) {
        throw unusableImage(`its manifests and configurations have more than ${heldBytes - size} bytes`)
      }
      if (!NOT_COPIED.includes(name)) await writeEntry(tar, { ...header, name }, content)
    } else if (NOT_COPIED.includes(name)) {
      throw unusableImage(`its ${name} has ${size} bytes`)
    } else {
      await pipeline(entry, tar.entry({ ...header, name }))
    }
  }
  return documents
}

function isDocument(content: Buffer): boolean {
  const first = content.find((byte) => byte > 0x20)
  return first === 0x7b || first === 0x5b
}

async function readAll(entry: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of entry) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Archives come as they are, or compressed as their tools do it. */
async function* decompressed(
  source: AsyncIterable<Uint8Array>,
  bytesMax: number,
): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]()
  const head = await readHead(iterator)
  const rest = async function* (): AsyncGenerator<Uint8Array> {
    yield head
    yield* { [Symbol.asyncIterator]: () => iterator }
  }
  const magic = head.subarray(0, 4).toString('hex')
  if (magic.startsWith('425a68') || magic.startsWith('fd377a58')) {
    throw unusableImage(
      `the archive is compressed with ${magic.startsWith('fd') ? 'xz' : 'bzip2'}: send it plain, or with gzip or zstd`,
    )
  }
  const unpack = magic.startsWith('1f8b')
    ? createGunzip()
    : magic === '28b52ffd'
      ? createZstdDecompress()
      : undefined
  if (unpack === undefined) {
    yield* rest()
    return
  }
  // The error comes to who reads.
  pipeline(Readable.from(rest()), unpack).catch(() => undefined)
  yield* boundBytes(unpack as AsyncIterable<Uint8Array>, bytesMax)
}

async function readHead(iterator: AsyncIterator<Uint8Array>): Promise<Buffer> {
  let head: Buffer = Buffer.alloc(0)
  while (head.length < 4) {
    const { value, done } = await iterator.next()
    if (done === true) break
    head = Buffer.concat([head, value])
  }
  return head
}
