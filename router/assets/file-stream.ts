/**
 * A large file on its way to one client: read in pieces, each when the client has taken the one before. So a slow client
 * costs one piece of memory and an open file, however large the file is.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { ASSET_LIMITS } from '../../sdk/model/limits.ts'

/** What an exchange knows of the file that answers it. */
export interface FileSource {
  pause(): void
  resume(): void
  /** Nothing more is to be read. */
  abandon(): void
  /** The client has all of it, or is gone. */
  onFinish(): void
}

export interface FileStreamOptions {
  readonly start: number
  /** Not part of it. */
  readonly end: number
  onPiece(piece: Buffer): void
  onEnd(): void
  /** The file is shorter than it was, or cannot be read. */
  onLost(why: string): void
}

/** Rejects where there is no such file, or not of this size. */
export async function openFile(path: string, sizeBytes: number): Promise<FileHandle> {
  const handle = await open(path)
  const { size } = await handle.stat()
  if (size === sizeBytes) return handle
  await handle.close()
  throw new Error(`it has ${size} bytes instead of ${sizeBytes}`)
}

export class FileStream implements FileSource {
  readonly #handle: FileHandle
  readonly #options: FileStreamOptions
  #position: number
  #state: 'flowing' | 'paused' | 'over' = 'flowing'
  #reading = false

  constructor(handle: FileHandle, options: FileStreamOptions) {
    this.#handle = handle
    this.#options = options
    this.#position = options.start
  }

  pause(): void {
    if (this.#state === 'flowing') this.#state = 'paused'
  }

  resume(): void {
    if (this.#state !== 'paused') return
    this.#state = 'flowing'
    this.begin()
  }

  begin(): void {
    if (!this.#reading && this.#state === 'flowing') void this.#read()
  }

  /** Nobody wants the rest. */
  abandon(): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    if (!this.#reading) this.#close()
  }

  // Nothing is held that `abandon` has not let go.
  onFinish(): void {}

  async #read(): Promise<void> {
    const { end, onPiece, onEnd, onLost } = this.#options
    this.#reading = true
    let lost: string | undefined
    while (this.#state === 'flowing' && this.#position < end && lost === undefined) {
      const piece = Buffer.allocUnsafeSlow(Math.min(ASSET_LIMITS.pieceBytes, end - this.#position))
      try {
        const { bytesRead } = await this.#handle.read(piece, 0, piece.length, this.#position)
        if (bytesRead === 0) lost = `it ends after ${this.#position} bytes`
        this.#position += bytesRead
        // Abandoned meanwhile: there is nobody to give it to.
        if (bytesRead > 0 && !this.#isOver) onPiece(piece.subarray(0, bytesRead))
      } catch (error) {
        lost = (error as Error).message
      }
    }
    this.#reading = false
    if (this.#isOver) this.#close()
    else if (lost !== undefined) onLost(lost)
    else if (this.#position >= end) onEnd()
  }

  // Read anew: what is called between may have changed it.
  get #isOver(): boolean {
    return this.#state === 'over'
  }

  #close(): void {
    // What was read is read; that closing failed changes nothing for anybody.
    void this.#handle.close().catch(() => undefined)
  }
}
