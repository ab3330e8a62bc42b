/**
 * Takes the chunked transfer coding off a response (RFC 9112 §7.1), strictly: CRLF only, hexadecimal sizes of at most
 * 12 digits, bounded extensions and trailers, which are dropped.
 */
export class ChunkedDecoder {
  /** The last byte of the coding has been read. */
  done = false
  #state: number = SIZE
  /** In SIZE and DATA: of the chunk at hand. */
  #left = 0
  #digits = 0
  #lineBytes = 0
  #trailerBytes = 0

  reset(): void {
    this.done = false
    this.#state = SIZE
    this.#left = 0
    this.#digits = 0
    this.#lineBytes = 0
    this.#trailerBytes = 0
  }

  /** Adds the content found from `start` on to `parts`. Returns where reading ended, or -1 if it is malformed. */
  decode(chunk: Buffer, start: number, parts: Buffer[]): number {
    let index = start
    while (index < chunk.length && !this.done) {
      if (this.#state === DATA) {
        const part = chunk.subarray(index, index + this.#left)
        parts.push(part)
        index += part.length
        this.#left -= part.length
        if (this.#left === 0) this.#state = DATA_CR
      } else if (!this.#step(chunk[index++]!)) return -1
    }
    return index
  }

  /** One byte of anything but content. False: malformed. */
  #step(byte: number): boolean {
    switch (this.#state) {
      case SIZE: {
        const digit = HEX[byte]!
        if (digit !== -1) {
          this.#left = this.#left * 16 + digit
          this.#digits++
          return this.#digits <= SIZE_DIGITS_MAX
        }
        if (this.#digits === 0) return false
        if (byte === CR) this.#state = SIZE_LF
        else if (byte === SEMICOLON) this.#state = EXTENSION
        else return false
        return true
      }
      case EXTENSION:
        if (byte === CR) this.#state = SIZE_LF
        else if ((byte < 32 && byte !== TAB) || byte === 127) return false
        this.#lineBytes++
        return this.#lineBytes <= EXTENSION_BYTES_MAX
      case SIZE_LF:
        this.#digits = 0
        this.#lineBytes = 0
        this.#state = this.#left === 0 ? TRAILER_START : DATA
        return byte === LF
      case DATA_CR:
        this.#state = DATA_LF
        return byte === CR
      case DATA_LF:
        this.#state = SIZE
        return byte === LF
      case TRAILER_START:
        this.#state = byte === CR ? END_LF : TRAILER
        return byte === CR || this.#isTrailerByte(byte)
      case TRAILER:
        if (byte === CR) this.#state = TRAILER_LF
        return byte === CR || this.#isTrailerByte(byte)
      case TRAILER_LF:
        this.#state = TRAILER_START
        return byte === LF
      default:
        this.done = true
        return byte === LF
    }
  }

  #isTrailerByte(byte: number): boolean {
    this.#trailerBytes++
    return this.#trailerBytes <= TRAILER_BYTES_MAX && (byte >= 32 || byte === TAB) && byte !== 127
  }
}

const SIZE = 0
const EXTENSION = 1
const SIZE_LF = 2
const DATA = 3
const DATA_CR = 4
const DATA_LF = 5
const TRAILER_START = 6
const TRAILER = 7
const TRAILER_LF = 8
const END_LF = 9

const TAB = 9
const LF = 10
const CR = 13
const SEMICOLON = 59

const SIZE_DIGITS_MAX = 12
const EXTENSION_BYTES_MAX = 256
const TRAILER_BYTES_MAX = 8_192

const HEX = new Int8Array(256).fill(-1)
for (let value = 0; value < 16; value++) {
  const digit = value.toString(16)
  HEX[digit.charCodeAt(0)] = value
  HEX[digit.toUpperCase().charCodeAt(0)] = value
}
