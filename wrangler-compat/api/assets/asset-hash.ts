import { setImmediate as nextTurn } from 'node:timers/promises'
import { blake3 } from '@noble/hashes/blake3.js'

/** A multiple of three, so that each piece is base64 on its own; hashing one takes about 6 ms. */
const PIECE_BYTES = 96 * 1024

/**
 * wrangler's name for a static file: 32 hex digits of the BLAKE3 of its bytes in base64 and the extension of its path. A
 * large file is hashed in pieces, because everything else on this thread waits meanwhile.
 */
export async function assetHash(bytes: Uint8Array, extension: string): Promise<string> {
  const hash = blake3.create({})
  // One for all pieces: what is made for each would be collected long after it was used.
  const text = Buffer.allocUnsafe(Math.min(bytes.byteLength, PIECE_BYTES) * 2 + 4)
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let start = 0; start < whole.length; start += PIECE_BYTES) {
    if (start > 0) await nextTurn()
    const length = text.write(whole.toString('base64', start, start + PIECE_BYTES), 'latin1')
    hash.update(text.subarray(0, length))
  }
  return Buffer.from(hash.update(Buffer.from(extension)).digest())
    .toString('hex')
    .slice(0, 32)
}

/** As node's `extname`, without the dot: nothing for `/.well-known` and `/name`. */
export function assetExtension(path: string): string {
  const name = path.slice(path.lastIndexOf('/') + 1)
  const dot = name.lastIndexOf('.')
  return dot <= 0 ? '' : name.slice(dot + 1)
}
