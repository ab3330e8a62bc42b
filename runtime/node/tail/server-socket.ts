/**
 * The server's end of a WebSocket: the handshake, messages out, messages in, and the end. Extensions are never agreed
 * on. A client that says nothing for long, not even in answer to a ping, is taken for gone.
 */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { TAIL_LIMITS } from '../../../sdk/model/limits.ts'
import { FrameReader, NO_CLOSE_CODE, OPCODE, serverFrame, type ClientFrame } from './frame-reader.ts'

export interface ServerSocket {
  send(text: string): void
  /** Bytes that the client has not taken yet. */
  readonly bufferedBytes: number
  /** Says why, and ends the connection when the client has said so too, or after a moment. */
  close(code: number, reason: string): void
}

export interface ServerSocketHandlers {
  onText(text: string): void
  /** What was buffered has left. */
  onDrain(): void
  /** Once, however it ended. */
  onClose(): void
}

/** What is wrong with a handshake; `undefined`: nothing. */
export function handshakeFault(request: IncomingMessage, protocol: string): string | undefined {
  const { headers, method } = request
  if (method !== 'GET') return `a WebSocket handshake is a GET, not a ${method}`
  if (headers['sec-websocket-version'] !== '13') return 'only version 13 of the WebSocket protocol is spoken'
  if (Buffer.from(headers['sec-websocket-key'] ?? '', 'base64').length !== 16)
    return 'Sec-WebSocket-Key is not the base64 of 16 bytes'
  const offered = offeredProtocols(request)
  if (offered.length > 0 && !offered.includes(protocol))
    return `the WebSocket subprotocol "${protocol}" is spoken, and not ${JSON.stringify(offered.join(', ').slice(0, 100))}`
  return undefined
}

function offeredProtocols({ headers }: IncomingMessage): readonly string[] {
  const text = headers['sec-websocket-protocol'] ?? ''
  return text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
}

const HANDSHAKE_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

/** The handshake is without a fault. `head`: what came behind it. */
export function openServerSocket(
  upgrade: { readonly request: IncomingMessage; readonly socket: Duplex; readonly head: Buffer },
  options: { readonly protocol: string } & ServerSocketHandlers,
): ServerSocket {
  const { request, socket, head } = upgrade
  const reader = new FrameReader(TAIL_LIMITS.clientMessageBytesMax)
  let closing = false
  let heardAtMs = performance.now()
  const write = (opcode: number, payload: Uint8Array): void => {
    if (socket.writable) socket.write(serverFrame(opcode, payload))
  }
  const close = (code: number, reason: string): void => {
    if (closing) return
    closing = true
    const said = Buffer.from(reason).subarray(0, 120)
    const payload = Buffer.alloc(2 + said.length)
    payload.writeUInt16BE(code, 0)
    payload.set(said, 2)
    write(OPCODE.close, payload)
    setTimeout(() => socket.destroy(), TAIL_LIMITS.closeGraceMs).unref()
  }
  const answerPing = (payload: Buffer): void => {
    // One that asks and takes no answer gets none.
    if (socket.writableLength <= TAIL_LIMITS.bufferedBytesMax) write(OPCODE.pong, payload)
  }
  const receive = (frame: ClientFrame): void => {
    if (frame.type === 'text') options.onText(frame.text)
    else if (frame.type === 'ping') answerPing(frame.payload)
    else if (frame.type === 'binary') close(1003, 'only text is understood here')
    else if (frame.type === 'close') {
      close(answeredCode(frame.code), '')
      socket.end()
    }
  }
  socket.on('data', (chunk: Buffer) => {
    heardAtMs = performance.now()
    for (const frame of reader.push(chunk)) {
      if (frame.type === 'fault') {
        close(frame.code, frame.message)
        socket.end()
        return
      }
      receive(frame)
    }
  })
  const ping = setInterval(() => {
    if (performance.now() - heardAtMs > TAIL_LIMITS.silenceMsMax) socket.destroy()
    else write(OPCODE.ping, Buffer.alloc(0))
  }, TAIL_LIMITS.pingMs)
  ping.unref()
  socket.on('drain', () => options.onDrain())
  socket.on('end', () => socket.end())
  // The event that follows tells all there is to tell.
  socket.on('error', () => undefined)
  socket.once('close', () => {
    clearInterval(ping)
    options.onClose()
  })
  socket.write(handshakeAnswer(request, options.protocol))
  if (head.length > 0) socket.unshift(head)
  return {
    send(text) {
      if (!closing) write(OPCODE.text, Buffer.from(text))
    },
    get bufferedBytes() {
      return socket.writableLength
    },
    close,
  }
}

/** A close is answered by its own code, unless that is one that nobody may send. */
function answeredCode(code: number): number {
  if (code === NO_CLOSE_CODE) return 1000
  const mayBeSent = code >= 1000 && code <= 4999 && ![1004, 1006, 1015].includes(code)
  return mayBeSent ? code : 1002
}

function handshakeAnswer(request: IncomingMessage, protocol: string): string {
  const accept = createHash('sha1')
    .update(`${request.headers['sec-websocket-key']}${HANDSHAKE_GUID}`)
    .digest('base64')
  const chosen = offeredProtocols(request).length > 0 ? `Sec-WebSocket-Protocol: ${protocol}\r\n` : ''
  return (
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
    `Sec-WebSocket-Accept: ${accept}\r\n${chosen}\r\n`
  )
}

/** Answers a handshake that is not taken, and ends the connection. */
export function refuseUpgrade(
  socket: Duplex,
  refusal: { readonly status: string; readonly message: string },
): void {
  const body = `${refusal.message}\n`
  // A client that is gone already has nothing to be told.
  socket.on('error', () => undefined)
  // Nobody has shown a token yet: one that does not end its side must not keep the connection.
  const timer = setTimeout(() => socket.destroy(), TAIL_LIMITS.closeGraceMs).unref()
  socket.once('close', () => clearTimeout(timer))
  socket.resume()
  socket.end(
    `HTTP/1.1 ${refusal.status}\r\nContent-Type: text/plain; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
}
