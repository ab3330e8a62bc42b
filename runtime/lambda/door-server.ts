/**
 * The HTTP server behind one door. It has no time limits: runtimes poll for as long as nothing happens, and the router
 * has limits of its own. What bounds a hostile runtime are the number of its connections and the size of a head.
 */
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

export interface DoorServerOptions {
  readonly headBytesMax: number
  /** Absent: only the router connects. */
  readonly connectionsMax?: number
  readonly onRequest: RequestListener
}

export class DoorServer {
  readonly server: Server
  readonly #sockets = new Set<Socket>()
  readonly #responses = new Set<ServerResponse>()
  readonly #connectionsMax: number

  constructor({ headBytesMax, connectionsMax = Infinity, onRequest }: DoorServerOptions) {
    this.#connectionsMax = connectionsMax
    const serve: RequestListener = (request, response) => {
      this.#responses.add(response)
      response.once('close', () => this.#responses.delete(response))
      onRequest(request, response)
    }
    this.server = createServer(
      {
        maxHeaderSize: headBytesMax,
        requestTimeout: 0,
        headersTimeout: 0,
        keepAliveTimeout: 0,
        noDelay: true,
      },
      serve,
    )
    this.server.on('checkContinue', serve)
    this.server.on('connection', (socket: Socket) => this.#onConnection(socket))
    this.server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
      if (socket.writable && error.code !== 'ECONNRESET') {
        socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
      }
      ;(socket as Socket).destroySoon()
    })
  }

  /** A connection that was accepted elsewhere. */
  take(socket: Socket): void {
    this.server.emit('connection', socket)
  }

  /** No more connections, and none that waits for a request; what is under way goes on. */
  retire(): void {
    for (const response of this.#responses) response.shouldKeepAlive = false
    this.server.close()
    this.server.closeIdleConnections()
  }

  close(): void {
    this.server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #onConnection(socket: Socket): void {
    if (this.#sockets.size >= this.#connectionsMax) {
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
  }
}
