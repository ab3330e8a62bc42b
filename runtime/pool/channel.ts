import { createServer, connect, type Server, type Socket } from 'node:net'
import { rmSync } from 'node:fs'
import { CHANNEL_LIMITS } from '../../sdk/model/limits.ts'

/** One end of a connection that carries one JSON message a line. */
export interface Channel<Out> {
  /** False where the message was not taken: the other side is gone or reads too slowly. Never throws. */
  send(message: Out): boolean
  close(): void
}

export interface ChannelHandlers<In> {
  onMessage(message: In): void
  /** Once, however the connection ended. */
  onClose(): void
}

/** Wraps a connected socket. A line that is too long or not JSON ends the connection: both ends are ours. */
export function openChannel<In, Out>(socket: Socket, handlers: ChannelHandlers<In>): Channel<Out> {
  let parts: Buffer[] = []
  let partsBytes = 0
  const receive = (line: Buffer): void => {
    let message: In
    try {
      message = JSON.parse(line.toString('utf8')) as In
    } catch (error) {
      socket.destroy(error as Error)
      return
    }
    handlers.onMessage(message)
  }
  socket.on('data', (chunk: Buffer) => {
    let start = 0
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      const piece = chunk.subarray(start, end)
      start = end + 1
      if (parts.length === 0) receive(piece)
      else {
        parts.push(piece)
        const line = Buffer.concat(parts)
        parts = []
        partsBytes = 0
        receive(line)
      }
    }
    if (start < chunk.length) {
      parts.push(chunk.subarray(start))
      partsBytes += chunk.length - start
      if (partsBytes > CHANNEL_LIMITS.messageBytesMax) socket.destroy(new Error('channel message too long'))
    }
  })
  socket.on('error', () => socket.destroy())
  socket.on('close', () => handlers.onClose())
  return {
    send(message) {
      if (socket.destroyed || !socket.writable) return false
      if (socket.writableLength > CHANNEL_LIMITS.bufferedBytesMax) {
        socket.destroy()
        return false
      }
      socket.write(`${JSON.stringify(message)}\n`)
      return true
    },
    close: () => socket.end(),
  }
}

/** Listens on a unix socket, clearing a stale one; only its owner can connect. */
export async function listenForChannels(path: string, onSocket: (socket: Socket) => void): Promise<Server> {
  rmSync(path, { force: true })
  const server = createServer(onSocket)
  const previousMask = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
    })
  } finally {
    process.umask(previousMask)
  }
  return server
}

/** Connects, trying again every 20 ms until the deadline: the listener may still be starting. */
export async function connectToChannel(path: string, timeoutMs: number): Promise<Socket> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    try {
      return await new Promise<Socket>((resolve, reject) => {
        const socket = connect(path, () => {
          socket.removeListener('error', reject)
          resolve(socket)
        })
        socket.once('error', reject)
      })
    } catch (error) {
      if (performance.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
