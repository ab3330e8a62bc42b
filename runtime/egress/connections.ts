import type { Socket } from 'node:net'

/**
 * The open connections of one instance to the outside, so that they can be ended and what goes over them counted. The
 * counts are those that Node keeps for each socket: nothing is added to the way of a chunk.
 */
export class Connections {
  readonly #countedBySocket = new Map<Socket, { out: number; in: number }>()
  readonly #onBytes: (bytesOut: number, bytesIn: number) => void

  /** `onBytes` gets heads and bodies as they are inside TLS. */
  constructor(onBytes: (bytesOut: number, bytesIn: number) => void) {
    this.#onBytes = onBytes
  }

  get size(): number {
    return this.#countedBySocket.size
  }

  add(socket: Socket): void {
    this.#countedBySocket.set(socket, { out: 0, in: 0 })
    socket.on('close', () => {
      this.#count(socket)
      this.#countedBySocket.delete(socket)
    })
  }

  /** Counts what went over the open ones since the last time. */
  count(): void {
    for (const socket of this.#countedBySocket.keys()) this.#count(socket)
  }

  destroy(): void {
    for (const socket of this.#countedBySocket.keys()) socket.destroy()
  }

  #count(socket: Socket): void {
    const counted = this.#countedBySocket.get(socket)
    if (counted === undefined) return
    const { bytesWritten, bytesRead } = socket
    if (bytesWritten === counted.out && bytesRead === counted.in) return
    this.#onBytes(bytesWritten - counted.out, bytesRead - counted.in)
    counted.out = bytesWritten
    counted.in = bytesRead
  }
}
