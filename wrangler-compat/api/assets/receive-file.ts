import { createHash } from 'node:crypto'
import type { Registry } from '../../../runtime/registry/registry.ts'
import { isAssetContentType } from '../../../sdk/model/asset-manifest.ts'
import { CloudflareError } from '../api-error.ts'
import { assetHash } from './asset-hash.ts'
import type { AssetSession } from './asset-session.ts'
import type { HeldBytes } from './held-bytes.ts'

export interface ReceivedFile {
  /** As the client calls it. */
  readonly hash: string
  readonly contentType: string | undefined
  readonly isBase64: boolean
  readonly body: AsyncIterable<Uint8Array>
}

/** What wrangler sends for a file of no known type: it is served without one. */
const NO_TYPE = 'application/null'

/**
 * Stores one file of a session. Nothing that a client says of it is believed: it was announced, has the announced size, and
 * its bytes have the hash. Throws `malformed`.
 */
export async function receiveFile(
  {
    session,
    registry,
    held,
  }: { readonly session: AssetSession; readonly registry: Registry; readonly held: HeldBytes },
  { hash, contentType: sentType, isBase64, body }: ReceivedFile,
): Promise<void> {
  const announced = session.list.fileByHash.get(hash)
  if (announced === undefined) {
    throw malformed(
      `the file ${JSON.stringify(hash.slice(0, 64))} is not in the list of this upload: announce it in the manifest`,
    )
  }
  const contentType = readContentType(hash, sentType)
  const { sizeBytes, extension } = announced
  await held.hold(sizeBytes, async (bytes) => {
    const length = isBase64 ? await readBase64(body, bytes, hash) : await readRaw(body, bytes, hash)
    if (length < sizeBytes) {
      throw malformed(`the file ${hash} has ${length} bytes and the manifest says ${sizeBytes}: deploy again`)
    }
    const actual = await assetHash(bytes, extension)
    if (actual !== hash) {
      throw malformed(
        `the file ${hash} was sent with ${sizeBytes} bytes whose hash is ${actual}: it changed while it was uploaded, or was damaged on the way; deploy again`,
      )
    }
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    // Not as a Buffer, whose `slice` copies nothing: these bytes are the next file's soon.
    await registry.putBlob(sha256, new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength))
    await registry.putAsset(hash, { sha256, sizeBytes, ...(contentType !== undefined && { contentType }) })
  })
}

function readContentType(hash: string, text: string | undefined): string | undefined {
  if (text === undefined || text === '' || text.toLowerCase() === NO_TYPE) return undefined
  if (isAssetContentType(text)) return text
  throw malformed(
    `the content type ${JSON.stringify(text.slice(0, 100))} of the file ${hash} is not usable: send a MIME type, or ${NO_TYPE} for none`,
  )
}

async function readRaw(body: AsyncIterable<Uint8Array>, into: Buffer, hash: string): Promise<number> {
  let length = 0
  for await (const chunk of body) {
    if (length + chunk.byteLength > into.length) throw tooLong(into, hash)
    into.set(chunk, length)
    length += chunk.byteLength
  }
  return length
}

/** Four characters are three bytes, wherever the chunks end. */
async function readBase64(body: AsyncIterable<Uint8Array>, into: Buffer, hash: string): Promise<number> {
  let length = 0
  let rest = ''
  const write = (text: string): void => {
    // Padding makes it up to two less, and what is no base64 is left out.
    const bytesAtLeast = Math.floor((text.length * 3) / 4) - 2
    if (length + bytesAtLeast > into.length) throw tooLong(into, hash)
    const written = into.write(text, length, 'base64')
    length += written
    if (length === into.length && Buffer.byteLength(text, 'base64') > written) throw tooLong(into, hash)
  }
  for await (const chunk of body) {
    const text = rest + Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString('latin1')
    const whole = text.length - (text.length % 4)
    rest = text.slice(whole)
    if (whole > 0) write(text.slice(0, whole))
  }
  if (rest !== '') write(rest)
  return length
}

function tooLong(into: Buffer, hash: string): CloudflareError {
  return malformed(
    `the file ${hash} has more than the ${into.length} bytes that the manifest says: deploy again`,
  )
}

function malformed(message: string): CloudflareError {
  return new CloudflareError('malformed', message)
}
