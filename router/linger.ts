import type { Socket } from 'node:net'

/**
 * Ends a connection on which the client may still be sending. Closing it outright would make the kernel answer the
 * client's next bytes with a reset, and a reset throws away the answer that the client has not read yet. So only our
 * direction ends; what still comes is read and dropped for a moment.
 */
export function linger(socket: Socket, lingerMs: number): void {
  if (socket.destroyed) return
  const timer = setTimeout(() => socket.destroy(), lingerMs)
  socket.once('end', () => socket.destroySoon())
  socket.once('close', () => clearTimeout(timer))
  socket.end()
  socket.resume()
}

/** Makes node:http, which calls `destroySoon` after the last response of a connection, linger on this one. */
export function lingerAfterLastResponse(socket: Socket, lingerMs: number): void {
  socket.destroySoon = () => {
    Reflect.deleteProperty(socket, 'destroySoon')
    linger(socket, lingerMs)
  }
}
