/** Instances as the router sees them: a unix socket behind which a test decides every byte. */
import { once } from 'node:events'
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type RequestListener,
  type Server as HttpServer,
} from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'

export interface RawInstance {
  /** Everything that arrived, over all connections. */
  received(): string
  readonly connections: readonly Socket[]
  /** How many connections there have been. */
  readonly accepted: number
  until(accept: (received: string) => boolean): Promise<string>
  /** Resolves when so many connections are open. */
  openConnections(count: number): Promise<void>
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** `onData` gets each read, with all that has arrived on that connection so far. */
export async function startRawInstance(
  socketPath: string,
  onData: (socket: Socket, received: string, chunk: Buffer) => void = () => undefined,
): Promise<RawInstance> {
  let all = ''
  let accepted = 0
  const connections: Socket[] = []
  const listeners = new Set<() => void>()
  const notify = (): void => {
    for (const listener of listeners) listener()
  }
  const server: Server = createServer((socket) => {
    accepted++
    connections.push(socket)
    let received = ''
    socket.on('error', () => undefined)
    socket.on('close', () => {
      connections.splice(connections.indexOf(socket), 1)
      notify()
    })
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      all += chunk.toString('latin1')
      onData(socket, received, chunk)
      notify()
    })
    notify()
  })
  server.listen(socketPath)
  await once(server, 'listening')
  const when = <Value>(find: () => Value | undefined): Promise<Value> =>
    new Promise((resolve) => {
      const look = (): void => {
        const value = find()
        if (value === undefined) return
        listeners.delete(look)
        resolve(value)
      }
      listeners.add(look)
      look()
    })
  const instance: RawInstance = {
    received: () => all,
    connections,
    get accepted() {
      return accepted
    },
    until: (accept) => when(() => (accept(all) ? all : undefined)),
    openConnections: async (count) =>
      void (await when(() => (connections.length === count ? true : undefined))),
    async stop() {
      for (const socket of connections) socket.destroy()
      server.close()
      await once(server, 'close')
    },
    [Symbol.asyncDispose]: () => instance.stop(),
  }
  return instance
}

export interface HttpInstance {
  readonly server: HttpServer
  readonly requests: readonly IncomingMessage[]
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export async function startHttpInstance(
  socketPath: string,
  listener: RequestListener,
): Promise<HttpInstance> {
  const requests: IncomingMessage[] = []
  const server = createHttpServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    requests.push(request)
    request.on('error', () => undefined)
    listener(request, response)
  })
  server.listen(socketPath)
  await once(server, 'listening')
  const instance: HttpInstance = {
    server,
    requests,
    async stop() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close').catch(() => undefined)
    },
    [Symbol.asyncDispose]: () => instance.stop(),
  }
  return instance
}

/** Answers each whole request head with 200 and the head it got. */
export function echoHeads(socket: Socket, received: string): void {
  if (!received.endsWith('\r\n\r\n')) return
  const head = received.slice(received.lastIndexOf('\r\n\r\n', received.length - 5) + 1).trim()
  socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${head.length}\r\n\r\n${head}`, 'latin1')
}

/** Resolves with the request once its stream is closed, whole or not. */
export function closeOf(request: IncomingMessage): Promise<IncomingMessage> {
  return new Promise((resolve) => {
    if (request.closed) resolve(request)
    else request.once('close', () => resolve(request))
  })
}
