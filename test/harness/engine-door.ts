import { rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'

/** A socket that leads to the real engine as long as it is open: an engine that can be away without stopping it for others. */
export interface EngineDoor {
  readonly socketPath: string
  open(): Promise<void>
  /** Breaks off what goes through it, too. */
  close(): Promise<void>
}

export function engineDoor(options: {
  readonly socketPath: string
  readonly enginePath: string
}): EngineDoor {
  const { socketPath, enginePath } = options
  const sockets = new Set<Socket>()
  let server: Server | undefined
  const pass = (inside: Socket): void => {
    const outside = connect(enginePath)
    for (const [socket, other] of [
      [inside, outside],
      [outside, inside],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
  }
  return {
    socketPath,
    async open() {
      rmSync(socketPath, { force: true })
      server = createServer({ allowHalfOpen: true }, pass)
      await new Promise<void>((resolve) => server?.listen(socketPath, resolve))
    },
    async close() {
      const closing = server
      server = undefined
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) =>
        closing === undefined ? resolve() : closing.close(() => resolve()),
      )
    },
  }
}
