/**
 * The body of an answer to `isola-invoke: stream`: frames `[u8 type][u32 length, big endian][bytes]`. A failure may come
 * after the first bytes, and HTTP's own place for that, the trailer, is dropped on the way; so the body says it itself.
 */
import { LAMBDA_LIMITS } from '../../sdk/model/limits.ts'

export const INVOKE_STREAM_TYPE = 'application/vnd.isola.invoke-stream'

export type InvokeFrame =
  | { readonly type: 'payload'; readonly bytes: Buffer }
  | { readonly type: 'complete' }
  /** `document`: the function's error, as Invoke answers it. */
  | { readonly type: 'failed'; readonly document: Buffer }

const PAYLOAD = 1
const COMPLETE = 2
const FAILED = 3
const HEAD_BYTES = 5

export function payloadFrames(payload: Buffer): Buffer[] {
  const frames: Buffer[] = []
  for (let start = 0; start < payload.length; start += LAMBDA_LIMITS.frameBytesMax) {
    const piece = payload.subarray(start, start + LAMBDA_LIMITS.frameBytesMax)
    frames.push(frameHead(PAYLOAD, piece.length), piece)
  }
  return frames
}

export function completeFrame(): Buffer {
  return frameHead(COMPLETE, 0)
}

export function failedFrame(document: Buffer): Buffer {
  return Buffer.concat([frameHead(FAILED, document.length), document])
}

function frameHead(type: number, length: number): Buffer {
  const head = Buffer.allocUnsafe(HEAD_BYTES)
  head.writeUInt8(type, 0)
  head.writeUInt32BE(length, 1)
  return head
}

/** Takes bytes as they come. Throws where they are no frames: both ends are ours. */
export class InvokeStreamDecoder {
  #rest: Buffer = Buffer.alloc(0)

  decode(chunk: Buffer): InvokeFrame[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const frames: InvokeFrame[] = []
    while (this.#rest.length >= HEAD_BYTES) {
      const length = this.#rest.readUInt32BE(1)
      const end = HEAD_BYTES + length
      if (this.#rest.length < end) break
      frames.push(readFrame(this.#rest.readUInt8(0), this.#rest.subarray(HEAD_BYTES, end)))
      this.#rest = this.#rest.subarray(end)
    }
    return frames
  }
}

function readFrame(type: number, bytes: Buffer): InvokeFrame {
  if (type === PAYLOAD) return { type: 'payload', bytes }
  if (type === COMPLETE) return { type: 'complete' }
  if (type === FAILED) return { type: 'failed', document: bytes }
  throw new Error(`frame of type ${type} in an invocation's stream`)
}
