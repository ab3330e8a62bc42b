/**
 * As much of Cap'n Proto's RPC as a tunnel must know of what it carries: whether somebody waits for something. workerd
 * keeps one connection to a service for all its calls and never closes it; a callee's slot must not be held that long.
 * A question (`Call`, `Bootstrap`) is open until its `Return` or, where the asker gave up, its `Finish`; and a session of workerd's is a call that returns when all
 * that was handed out in it has been given back. So: no open question, no session.
 */

/** Discriminants of `Message` in capnproto's rpc.capnp. */
const MESSAGE = { abort: 1, call: 2, return: 3, finish: 4, bootstrap: 8 } as const

const SEGMENTS_MAX = 512
const WORD_BYTES = 8
/** Of the first segment: the pointer to the root, the root, and the first word of what it points to, which begins with an id. */
const ROOT_BYTES = 4 * WORD_BYTES

/** Counts the open questions of a connection; feed it all bytes, each direction by itself. */
export class OpenQuestions {
  readonly #sides = [new Set<number>(), new Set<number>()] as const
  #sidesTaken = 0
  #isLost = false

  /** True also where the bytes were not understood: what is not known to be idle is not. */
  get some(): boolean {
    return this.#isLost || this.#sides.some(({ size }) => size > 0)
  }

  /** Takes the bytes of one direction; once for each. */
  reader(): (chunk: Buffer) => void {
    const messages = new MessageHeads()
    const side = this.#sidesTaken++
    const [own, other] = side === 0 ? this.#sides : [this.#sides[1], this.#sides[0]]
    return (chunk) => {
      if (this.#isLost) return
      const heads = messages.push(chunk)
      if (heads === undefined) this.#isLost = true
      for (const { kind, id } of heads ?? []) {
        if (kind === MESSAGE.call || kind === MESSAGE.bootstrap) own.add(id)
        else if (kind === MESSAGE.return) other.delete(id)
        // Whoever asked waits no more, returned or not.
        else if (kind === MESSAGE.finish) own.delete(id)
      }
    }
  }
}

interface MessageHead {
  readonly kind: number
  readonly id: number
}

/** The kinds of the messages in a stream of them; of each only the beginning is kept. */
class MessageHeads {
  #head: Buffer = Buffer.alloc(0)
  #skipBytes = 0

  /** `undefined`: this is no such stream. */
  push(chunk: Buffer): readonly MessageHead[] | undefined {
    const kinds: MessageHead[] = []
    for (let at = 0; at < chunk.length;) {
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, chunk.length - at)
        this.#skipBytes -= skipped
        at += skipped
        continue
      }
      const wanted = bytesWanted(this.#head)
      if (wanted === undefined) return undefined
      const taken = chunk.subarray(at, at + wanted - this.#head.length)
      this.#head = Buffer.concat([this.#head, taken])
      at += taken.length
      const whole = bytesWanted(this.#head)
      if (whole === undefined) return undefined
      if (this.#head.length < whole) continue
      const kind = kindOf(this.#head)
      if (kind === undefined) return undefined
      kinds.push(kind)
      this.#skipBytes = tableBytes(this.#head) + WORD_BYTES * wordsOf(this.#head) - this.#head.length
      this.#head = Buffer.alloc(0)
    }
    return kinds
  }
}

/** How many bytes of a message must be there before its kind can be read, as far as `head` tells. */
function bytesWanted(head: Buffer): number | undefined {
  if (head.length < 4) return 4
  if (head.readUInt32LE(0) >= SEGMENTS_MAX) return undefined
  return tableBytes(head) + ROOT_BYTES
}

/** The table of segments: their number less one, the length of each in words, and padding. */
function tableBytes(head: Buffer): number {
  return WORD_BYTES * (1 + Math.floor((head.readUInt32LE(0) + 1) / 2))
}

function wordsOf(head: Buffer): number {
  let words = 0
  for (let segment = 0; segment <= head.readUInt32LE(0); segment++)
    words += head.readUInt32LE(4 + 4 * segment)
  return words
}

function kindOf(head: Buffer): MessageHead | undefined {
  const root = tableBytes(head)
  // A struct right behind its pointer, as all who write messages from the start to the end lay it out.
  const isUsual =
    head.readUInt32LE(root) === 0 && head.readUInt16LE(root + 4) > 0 && head.readUInt32LE(4) >= 4
  const id = head.readUInt32LE(root + 3 * WORD_BYTES)
  return isUsual ? { kind: head.readUInt16LE(root + WORD_BYTES), id } : undefined
}

const DISCONNECTED = 2

/** The message that ends a connection and says why: open calls and those that follow throw an `Error` with these words. */
export function abortMessage(reason: string): Buffer {
  // workerd makes an exception of JavaScript of what begins so, and hides the words of any other.
  const text = Buffer.from(`jsg.Error: ${reason}\0`)
  const words = 5 + Math.ceil(text.length / WORD_BYTES)
  const message = Buffer.alloc(WORD_BYTES * (1 + words))
  message.writeUInt32LE(words, 4)
  // Root: one word of data, one pointer.
  message.writeUInt16LE(1, 12)
  message.writeUInt16LE(1, 14)
  message.writeUInt16LE(MESSAGE.abort, 16)
  // Exception: the same, of type "disconnected": workerd would complain of any other in the function's log.
  message.writeUInt16LE(DISCONNECTED, 36)
  message.writeUInt16LE(1, 28)
  message.writeUInt16LE(1, 30)
  // Its text: a list of bytes.
  message.writeUInt32LE(1, 40)
  message.writeUInt32LE(2 + 8 * text.length, 44)
  text.copy(message, 48)
  return message
}
