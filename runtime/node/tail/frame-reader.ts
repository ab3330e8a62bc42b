/**
 * Frames of a WebSocket client, as RFC 6455 has them but for one thing: they may come unmasked. wrangler sends its first
 * message so, and a strict server would have it reconnect without an end. Masks protect proxies between, and this server
 * sends nothing that a client chose.
 */
export type ClientFrame =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'binary' }
  | { readonly type: 'ping' | 'pong'; readonly payload: Buffer }
  | { readonly type: 'close'; readonly code: number }

/** What ends the connection, with the code to close it by. */
export interface FrameFault {
  readonly type: 'fault'
  readonly code: 1002 | 1007 | 1009
  readonly message: string
}

/** Given all bytes in order, in pieces of any size. Reads nothing more once it has returned a fault. */
export class FrameReader {
  readonly #messageBytesMax: number
  #waiting: Buffer = Buffer.alloc(0)
  /** Of the message under way. */
  #parts: Buffer[] = []
  #partsBytes = 0
  #opcode: number | undefined
  #broken = false

  constructor(messageBytesMax: number) {
    this.#messageBytesMax = messageBytesMax
  }

  push(chunk: Buffer): (ClientFrame | FrameFault)[] {
    if (this.#broken) return []
    this.#waiting = this.#waiting.length === 0 ? chunk : Buffer.concat([this.#waiting, chunk])
    const found: (ClientFrame | FrameFault)[] = []
    for (;;) {
      const frame = this.#next()
      if (frame === 'more') return found
      if (frame === 'part') continue
      found.push(frame)
      if (frame.type === 'fault') {
        this.#broken = true
        this.#waiting = Buffer.alloc(0)
        return found
      }
    }
  }

  #next(): ClientFrame | FrameFault | 'more' | 'part' {
    const bytes = this.#waiting
    if (bytes.length < 2) return 'more'
    const first = bytes[0]!
    const isMasked = (bytes[1]! & 0x80) !== 0
    const shortLength = bytes[1]! & 0x7f
    const isFinal = (first & 0x80) !== 0
    const opcode = first & 0x0f
    const isControl = opcode >= OPCODE.close
    if ((first & 0x70) !== 0) return fault(1002, 'a reserved bit is set, and no extension was agreed on')
    if (!KNOWN_OPCODES.has(opcode)) return fault(1002, `there is no frame of opcode ${opcode}`)
    if (isControl && (!isFinal || shortLength > CONTROL_BYTES_MAX))
      return fault(1002, 'a control frame is whole and has at most 125 bytes')
    const lengthBytes = shortLength === 126 ? 2 : shortLength === 127 ? 8 : 0
    const headBytes = 2 + lengthBytes + (isMasked ? 4 : 0)
    if (bytes.length < headBytes) return 'more'
    const length =
      lengthBytes === 0
        ? shortLength
        : lengthBytes === 2
          ? bytes.readUInt16BE(2)
          : Number(bytes.readBigUInt64BE(2))
    if (!isControl && this.#partsBytes + length > this.#messageBytesMax)
      return fault(1009, `a message has at most ${this.#messageBytesMax} bytes`)
    if (bytes.length < headBytes + length) return 'more'
    const payload = Buffer.from(bytes.subarray(headBytes, headBytes + length))
    if (isMasked) unmask(payload, bytes.subarray(headBytes - 4, headBytes))
    this.#waiting = bytes.subarray(headBytes + length)
    return isControl ? controlFrame(opcode, payload) : this.#take(opcode, payload, isFinal)
  }

  #take(opcode: number, payload: Buffer, isFinal: boolean): ClientFrame | FrameFault | 'part' {
    const continues = opcode === OPCODE.continuation
    if (continues !== (this.#opcode !== undefined))
      return fault(1002, 'a message begins before the one before has ended, or goes on without a beginning')
    const messageOpcode = this.#opcode ?? opcode
    // Empty ones would be no bytes of a message, and as many as a client likes.
    if (payload.length > 0) this.#parts.push(payload)
    this.#partsBytes += payload.length
    if (!isFinal) {
      this.#opcode = messageOpcode
      return 'part'
    }
    const whole = Buffer.concat(this.#parts)
    this.#parts = []
    this.#partsBytes = 0
    this.#opcode = undefined
    if (messageOpcode === OPCODE.binary) return { type: 'binary' }
    try {
      return { type: 'text', text: new TextDecoder('utf-8', { fatal: true }).decode(whole) }
    } catch {
      return fault(1007, 'a text message is not UTF-8')
    }
  }
}

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const
const KNOWN_OPCODES: ReadonlySet<number> = new Set(Object.values(OPCODE))
const CONTROL_BYTES_MAX = 125
/** Stands for a close frame that gives no code. */
export const NO_CLOSE_CODE = 1005

function controlFrame(opcode: number, payload: Buffer): ClientFrame | FrameFault {
  if (opcode === OPCODE.ping) return { type: 'ping', payload }
  if (opcode === OPCODE.pong) return { type: 'pong', payload }
  if (payload.length === 1) return fault(1002, 'a close code has two bytes')
  return { type: 'close', code: payload.length === 0 ? NO_CLOSE_CODE : payload.readUInt16BE(0) }
}

function unmask(payload: Buffer, mask: Buffer): void {
  for (let index = 0; index < payload.length; index++) payload[index]! ^= mask[index & 3]!
}

function fault(code: FrameFault['code'], message: string): FrameFault {
  return { type: 'fault', code, message }
}

/** One whole frame from server to client, which is never masked. */
export function serverFrame(opcode: number, payload: Uint8Array): Buffer {
  const { length } = payload
  const lengthBytes = length <= CONTROL_BYTES_MAX ? 0 : length < 0x1_0000 ? 2 : 8
  const frame = Buffer.allocUnsafe(2 + lengthBytes + length)
  frame[0] = 0x80 | opcode
  frame[1] = lengthBytes === 0 ? length : lengthBytes === 2 ? 126 : 127
  if (lengthBytes === 2) frame.writeUInt16BE(length, 2)
  else if (lengthBytes === 8) frame.writeBigUInt64BE(BigInt(length), 2)
  frame.set(payload, 2 + lengthBytes)
  return frame
}
