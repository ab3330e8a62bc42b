/**
 * Bytes of small files, kept in memory by their digest: the same file of many versions is there once. Bounded; what was
 * not asked for since the last round of evictions goes first. Read bytes are held against their digest before they are
 * served: a disk that lost power may give a file of the right name and length with nothing in it.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { ASSET_LIMITS } from '../../sdk/model/limits.ts'

interface KeptBody {
  readonly bytes: Buffer
  wasUsed: boolean
}

export class FileBodies {
  readonly #bytesMax: number
  readonly #bodyBySha256 = new Map<string, KeptBody>()
  readonly #readingBySha256 = new Map<string, Promise<Buffer>>()
  #bytes = 0

  constructor(options: { readonly bytesMax: number } = { bytesMax: ASSET_LIMITS.cacheBytesMax }) {
    this.#bytesMax = options.bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  find(sha256: string): Buffer | undefined {
    const body = this.#bodyBySha256.get(sha256)
    if (body === undefined) return undefined
    body.wasUsed = true
    return body.bytes
  }

  /** From the disk, into memory. Rejects where it is not there, or not what its name says. */
  read(path: string, sha256: string): Promise<Buffer> {
    let reading = this.#readingBySha256.get(sha256)
    if (reading === undefined) {
      reading = readChecked(path, sha256)
        .then((bytes) => {
          this.#keep(sha256, bytes)
          return bytes
        })
        .finally(() => this.#readingBySha256.delete(sha256))
      this.#readingBySha256.set(sha256, reading)
    }
    return reading
  }

  #keep(sha256: string, bytes: Buffer): void {
    if (bytes.length > this.#bytesMax || this.#bodyBySha256.has(sha256)) return
    this.#bodyBySha256.set(sha256, { bytes, wasUsed: false })
    this.#bytes += bytes.length
    for (const [oldest, body] of this.#bodyBySha256) {
      if (this.#bytes <= this.#bytesMax) break
      this.#bodyBySha256.delete(oldest)
      if (body.wasUsed) {
        // Once more around: behind all others now.
        body.wasUsed = false
        this.#bodyBySha256.set(oldest, body)
      } else this.#bytes -= body.bytes.length
    }
  }
}

async function readChecked(path: string, sha256: string): Promise<Buffer> {
  const bytes = await readFile(path)
  const actual = createHash('sha256').update(bytes).digest('hex')
  if (actual !== sha256) throw new Error(`its ${bytes.length} bytes have the SHA-256 ${actual}`)
  return bytes
}
