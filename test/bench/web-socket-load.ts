/** WebSocket echo as a closed loop: each connection sends a message, waits for it to come back, and sends the next. */
import { randomBytes } from 'node:crypto'
import { connect, type NetConnectOpts, type Socket } from 'node:net'

export interface WebSocketOptions {
  readonly where: NetConnectOpts
  readonly host: string
  readonly path: string
  readonly connections: number
  readonly seconds: number
  /** At most 125: frames with one length byte. */
  readonly messageBytes: number
}

export interface WebSocketResult {
  readonly messages: number
  readonly messagesPerSecond: number
}

export async function runWebSockets(options: WebSocketOptions): Promise<WebSocketResult> {
  // Masked with zeros, so that the payload needs no work here.
  const frame = Buffer.concat([
    Buffer.from([0x81, 0x80 | options.messageBytes, 0, 0, 0, 0]),
    Buffer.alloc(options.messageBytes, 97),
  ])
  const echoBytes = options.messageBytes + 2
  const sockets = await Promise.all(Array.from({ length: options.connections }, () => openSocket(options)))
  let messages = 0
  let failure: Error | undefined
  let isOver = false
  for (const socket of sockets) {
    let received = 0
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length
      if (received < echoBytes) return
      received -= echoBytes
      messages++
      socket.write(frame)
    })
    const failed = (error?: Error): void => {
      if (!isOver) failure ??= error ?? new Error('a WebSocket ended early')
    }
    socket.on('error', failed)
    socket.on('close', () => failed())
  }
  const beginMs = performance.now()
  for (const socket of sockets) socket.write(frame)
  await new Promise((resolve) => setTimeout(resolve, options.seconds * 1_000))
  const seconds = (performance.now() - beginMs) / 1_000
  isOver = true
  for (const socket of sockets) socket.destroy()
  if (failure !== undefined) throw failure
  return { messages, messagesPerSecond: messages / seconds }
}

function openSocket(options: WebSocketOptions): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...options.where, noDelay: true } as NetConnectOpts)
    socket.write(
      [
        `GET ${options.path} HTTP/1.1`,
        `host: ${options.host}`,
        'upgrade: websocket',
        'connection: Upgrade',
        'sec-websocket-version: 13',
        `sec-websocket-key: ${randomBytes(16).toString('base64')}`,
        '\r\n',
      ].join('\r\n'),
    )
    let head = ''
    const read = (chunk: Buffer): void => {
      head += chunk.toString('latin1')
      if (!head.includes('\r\n\r\n')) return
      socket.removeListener('data', read)
      socket.removeListener('error', reject)
      if (head.startsWith('HTTP/1.1 101')) resolve(socket)
      else reject(new Error(`the upgrade was refused: ${head.slice(0, 200)}`))
    }
    socket.on('data', read)
    socket.once('error', reject)
  })
}
