/**
 * One HTTP/1.1 connection to an instance: writes a request, reads its response strictly, and serves the next one.
 * What is read goes to the exchange it belongs to. The usual response, whole in one read, is handed over in one call
 * and as one string: node:http then sends head and body in one write.
 */
import { connect, type Socket } from 'node:net'
import type { RouterLimits } from '../../sdk/model/limits.ts'
import { ChunkedDecoder } from './chunked-decoder.ts'
import { parseResponseHead, type ResponseHead } from './response-head.ts'

/** Who gets what a connection reads. */
export interface ResponseReader {
  /** The request was HEAD: its response has no body, whatever its head says. */
  readonly isHead: boolean
  readonly wantsTunnel: boolean
  /** `rpc`: the tunnel is one for calls of methods, CONNECT instead of a handshake. */
  readonly head: { readonly rpc: boolean }
  /** It came by the inner door, where headers of isola's own pass. */
  readonly isInner: boolean
  /** The whole response. */
  onResponse(head: ResponseHead, body: string | Buffer): void
  /** The head of one whose body comes in parts; `bodyBytes`: of it that follow at once. */
  onHead(head: ResponseHead, bodyBytes: number): void
  onBody(part: Buffer): void
  onEnd(): void
  /** The handshake was accepted: from now on bytes belong to the tunnel. */
  onTunnel(head: ResponseHead, rest: Buffer): void
  onInvalid(why: string): void
  /** Closed before the end of the response; `code` of the error, if there was one. */
  onLost(code: string | undefined): void
  /** The agent says the instance has ended, or is about to. */
  onInstanceGone(): void
}

/** Where a connection goes when it has nothing to do. */
export interface ConnectionOwner {
  readonly limits: RouterLimits
  onSignOfLife(): void
  onIdle(connection: InstanceConnection): void
  onClosed(connection: InstanceConnection): void
}

type Phase = 'idle' | 'head' | 'length' | 'chunked' | 'until-close' | 'tunnel'

export class InstanceConnection {
  readonly socket: Socket
  connected = false
  /** Set by the exchange once its request is written to the end; without it the connection is not used again. */
  requestWritten = false
  reader: ResponseReader | undefined
  readonly #owner: ConnectionOwner
  #phase: Phase = 'idle'
  #head: Buffer | undefined
  #left = 0
  #reusable = false
  #decoder: ChunkedDecoder | undefined
  #errorCode: string | undefined
  #ended = false

  constructor(owner: ConnectionOwner, socketPath: string) {
    this.#owner = owner
    this.socket = connect({ path: socketPath })
    this.socket.on('connect', () => {
      this.connected = true
    })
    this.socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    this.socket.on('end', () => {
      this.#ended = true
    })
    this.socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#errorCode = error.code ?? 'UNKNOWN'
    })
    this.socket.on('close', () => this.#onClose())
  }

  get usable(): boolean {
    return !this.#ended && !this.socket.destroyed && this.socket.writable
  }

  begin(reader: ResponseReader): void {
    this.reader = reader
    this.requestWritten = false
    this.#phase = 'head'
    this.#reusable = false
  }

  /** The exchange wants nothing more of it. */
  abandon(): void {
    this.reader = undefined
    this.socket.destroy()
  }

  #onData(chunk: Buffer): void {
    const reader = this.reader
    if (reader === undefined) {
      // Bytes that answer no request would be taken for the next one's response.
      this.socket.destroy()
      return
    }
    this.#owner.onSignOfLife()
    switch (this.#phase) {
      case 'head':
        this.#readHead(reader, chunk)
        break
      case 'length':
        this.#readLength(reader, chunk)
        break
      case 'chunked':
        this.#readChunked(reader, chunk)
        break
      default:
        reader.onBody(chunk)
    }
  }

  #readHead(reader: ResponseReader, read: Buffer): void {
    const { responseHeadBytesMax } = this.#owner.limits
    let chunk = read
    if (this.#head !== undefined) {
      chunk = Buffer.concat([this.#head, read])
      this.#head = undefined
    }
    for (;;) {
      const small = chunk.length <= TEXT_BYTES_MAX
      // One copy out of the buffer serves the search, the parse and, for a small body, the write.
      const whole = small ? chunk.toString('latin1') : ''
      const end = small ? whole.indexOf('\r\n\r\n') : chunk.indexOf('\r\n\r\n')
      if (end > responseHeadBytesMax || (end === -1 && chunk.length > responseHeadBytesMax)) {
        this.#refuse(reader, `its head has more than ${responseHeadBytesMax} bytes`)
        return
      }
      if (end === -1) {
        this.#head = chunk
        return
      }
      const head = parseResponseHead(small ? whole : chunk.toString('latin1', 0, end), end, reader)
      if (typeof head === 'string') {
        this.#refuse(reader, head)
        return
      }
      const start = end + 4
      if (head.status >= 200 || head.status === 101) {
        this.#beginBody(reader, { head, chunk, start, whole })
        return
      }
      // 100, 102, 103: for the router only. Early hints would overtake pipelined responses.
      if (start === chunk.length) return
      chunk = chunk.subarray(start)
    }
  }

  #beginBody(
    reader: ResponseReader,
    read: { head: ResponseHead; chunk: Buffer; start: number; whole: string },
  ): void {
    const { head, chunk, start, whole } = read
    const available = chunk.length - start
    if (reader.head.rpc && head.status === 200) {
      this.#phase = 'tunnel'
      reader.onTunnel(head, chunk.subarray(start))
      return
    }
    if (head.status === 101) {
      if (!reader.wantsTunnel || reader.head.rpc || head.upgrade?.toLowerCase() !== 'websocket') {
        this.#refuse(reader, 'it switches protocols without being asked')
        return
      }
      this.#phase = 'tunnel'
      reader.onTunnel(head, chunk.subarray(start))
      return
    }
    this.#reusable = head.keepAlive
    if (reader.isHead || head.status === 204 || head.status === 304) {
      // Servers that send a body here are common; what they send is nobody's, and the connection ends with it.
      if (available > 0) this.#reusable = false
      this.#end(reader, head, '')
      return
    }
    if (head.contentLength !== undefined) {
      const length = head.contentLength
      if (available > length) {
        this.#refuse(reader, `${available - length} bytes follow its ${length} bytes`)
      } else if (available === length) {
        this.#end(reader, head, whole === '' ? chunk.subarray(start) : whole.slice(start))
      } else {
        this.#phase = 'length'
        this.#left = length - available
        reader.onHead(head, available)
        if (available > 0 && this.reader === reader) reader.onBody(chunk.subarray(start))
      }
      return
    }
    if (!head.chunked) {
      this.#reusable = false
      this.#phase = 'until-close'
      reader.onHead(head, available)
      if (available > 0 && this.reader === reader) reader.onBody(chunk.subarray(start))
      return
    }
    this.#phase = 'chunked'
    this.#decoder ??= new ChunkedDecoder()
    this.#decoder.reset()
    const parts: Buffer[] = []
    const stopped = this.#decoder.decode(chunk, start, parts)
    if (stopped === -1) this.#refuse(reader, 'its chunks are malformed')
    else if (!this.#decoder.done) {
      reader.onHead(head, bytesOf(parts))
      this.#pass(reader, parts)
    } else if (stopped < chunk.length) this.#refuse(reader, 'bytes follow its last chunk')
    else this.#end(reader, head, parts.length === 0 ? '' : join(parts))
  }

  #readLength(reader: ResponseReader, chunk: Buffer): void {
    const extra = chunk.length - this.#left
    this.#left -= chunk.length
    if (extra > 0) this.#reusable = false
    reader.onBody(extra > 0 ? chunk.subarray(0, chunk.length - extra) : chunk)
    // What `onBody` led to may have ended the exchange.
    if (extra >= 0 && this.reader === reader) this.#end(reader)
  }

  #readChunked(reader: ResponseReader, chunk: Buffer): void {
    const decoder = this.#decoder!
    const parts: Buffer[] = []
    const stopped = decoder.decode(chunk, 0, parts)
    if (stopped === -1) {
      this.#refuse(reader, 'its chunks are malformed')
      return
    }
    if (stopped < chunk.length) this.#reusable = false
    this.#pass(reader, parts)
    if (decoder.done && this.reader === reader) this.#end(reader)
  }

  #pass(reader: ResponseReader, parts: Buffer[]): void {
    // A few big parts are cheaper to send one by one than to copy; many small ones are cheaper to copy.
    const passed = parts.length > PARTS_MAX ? [Buffer.concat(parts)] : parts
    for (const part of passed) if (this.reader === reader) reader.onBody(part)
  }

  /** The connection is free before the exchange hears of it: what it starts next may use it. */
  #end(reader: ResponseReader, head?: ResponseHead, body: string | Buffer = ''): void {
    this.reader = undefined
    this.#phase = 'idle'
    if (this.#reusable && this.requestWritten && this.usable) {
      if (this.socket.isPaused()) this.socket.resume()
      this.#owner.onIdle(this)
    } else this.socket.destroy()
    if (head === undefined) reader.onEnd()
    else reader.onResponse(head, body)
  }

  #refuse(reader: ResponseReader, why: string): void {
    this.abandon()
    reader.onInvalid(why)
  }

  #onClose(): void {
    this.#owner.onClosed(this)
    const reader = this.reader
    this.reader = undefined
    if (reader === undefined) return
    if (this.#phase === 'until-close' && this.#errorCode === undefined) reader.onEnd()
    else reader.onLost(this.#errorCode)
  }
}

/** Bigger reads stay buffers: a string would be one more copy. */
const TEXT_BYTES_MAX = 16 * 1024

const PARTS_MAX = 4

function join(parts: Buffer[]): Buffer {
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
}

function bytesOf(parts: readonly Buffer[]): number {
  let bytes = 0
  for (const { length } of parts) bytes += length
  return bytes
}
