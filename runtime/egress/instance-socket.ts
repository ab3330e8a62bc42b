/**
 * One instance's way out: an HTTP proxy on a unix socket that only its uid can open. The socket is who the caller
 * is; nothing that the caller sends is asked for it.
 */
import { lchownSync, lstatSync, renameSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import { answerError } from './answer.ts'
import { ConnectionPool } from './connection-pool.ts'
import { destinationOf, type Destination } from './destination.ts'
import type { DialContext } from './dial.ts'
import type { EgressLimits } from './egress-limits.ts'
import { forwardRequest } from './forward.ts'
import { Resolver, type Lookup } from './resolve.ts'
import type { Rules } from './rules.ts'
import { parseAuthority, parseTarget, withoutTrailingDot, type Target } from './target.ts'
import { responseOn, tunnelTcp, tunnelWebSocket } from './tunnel.ts'

export interface InstanceSocketOptions {
  readonly id: string
  readonly socketPath: string
  readonly uid: number
  readonly limits: EgressLimits
  readonly lookup: Lookup
  readonly rules: () => Rules
  readonly onRefused: (refusal: { id: string; functionName: string; message: string }) => void
}

export class InstanceSocket {
  /** Set when a version claims the instance; until then every request is refused. */
  functionName: string | undefined
  readonly #options: InstanceSocketOptions
  readonly #server: Server
  readonly #pool: ConnectionPool
  readonly #dialContext: DialContext
  /** The instance's own connections, tunnels included. */
  readonly #callers = new Set<Socket>()
  #openRequests = 0
  #inode: string | undefined

  constructor(options: InstanceSocketOptions) {
    const { limits, lookup, rules } = options
    this.#options = options
    this.#dialContext = {
      resolver: new Resolver({
        lookup,
        timeoutMs: limits.lookupTimeoutMs,
        concurrencyMax: limits.lookupsPerInstanceMax,
      }),
      connectTimeoutMs: limits.connectTimeoutMs,
      addressPolicy: () => rules().addressPolicy(),
      connections: new Set(),
    }
    this.#pool = new ConnectionPool(this.#dialContext, limits)
    this.#server = this.#makeServer()
  }

  get id(): string {
    return this.#options.id
  }

  /** Whether this is the socket asked for, and its file is still the one made here. */
  serves({ socketPath, uid }: { socketPath: string; uid: number }): boolean {
    const same = socketPath === this.#options.socketPath && uid === this.#options.uid
    return same && this.#inode !== undefined && this.#inode === inodeOf(socketPath)
  }

  /**
   * Made beside its place and moved there when it is complete, so that no one can connect before it has its owner.
   * Also, libuv unlinks the path it bound when it closes: that must not be the path a successor has taken over.
   */
  async listen(): Promise<void> {
    const { socketPath, uid } = this.#options
    const staging = `${socketPath}~`
    rmSync(staging, { force: true })
    await new Promise<void>((resolve, reject) => {
      this.#server.on('error', reject)
      const previousMask = process.umask(0o177)
      try {
        this.#server.listen(staging, resolve)
      } finally {
        process.umask(previousMask)
      }
    })
    if (uid !== process.getuid?.()) lchownSync(staging, uid, lstatSync(staging).gid)
    renameSync(staging, socketPath)
    this.#inode = inodeOf(socketPath)
  }

  /** For new rules: what is under way goes on, the next request connects anew. */
  recycle(): void {
    this.#pool.recycle()
  }

  /** Ends everything at once. */
  close(): void {
    if (this.serves(this.#options)) rmSync(this.#options.socketPath, { force: true })
    this.#server.close()
    for (const socket of this.#callers) socket.destroy()
    this.#pool.destroy()
    for (const socket of this.#dialContext.connections) socket.destroy()
  }

  #makeServer(): Server {
    const { limits } = this.#options
    const server = createServer({
      maxHeaderSize: limits.headBytesMax,
      headersTimeout: limits.headTimeoutMs,
      connectionsCheckingInterval: limits.headTimeoutMs / 2,
      // Uploads may take as long as they move; and workerd closes its idle connections itself.
      requestTimeout: 0,
      keepAliveTimeout: 0,
      // workerd names the host in the target only.
      requireHostHeader: false,
      noDelay: true,
    })
    server.maxHeadersCount = 0
    server.maxConnections = 2 * limits.requestsPerInstanceMax
    server.on('connection', (socket: Socket) => {
      this.#callers.add(socket)
      socket.on('close', () => this.#callers.delete(socket))
    })
    server.on('request', (request, response) => this.#onRequest(request, response))
    server.on('upgrade', (request, socket, head) => this.#onUpgrade(request, socket, head))
    server.on('connect', (request, socket, head) => this.#onConnect(request, socket, head))
    return server
  }

  #onRequest(request: IncomingMessage, response: ServerResponse): void {
    response.sendDate = false
    const answer = (error: IsolaError): void => answerError(response, error)
    const admitted = this.#admit({ request, parse: parseTarget, leaving: response, answer })
    if (admitted === undefined) return
    const { target, destination } = admitted
    const { limits } = this.#options
    const idle = this.#dialContext.connections.size - this.#openRequests
    if (idle > limits.idleConnectionsPerInstanceMax) this.#pool.recycle()
    forwardRequest({
      request,
      response,
      destination,
      authority: destination.authority,
      path: target.path,
      pool: this.#pool,
      idleTimeoutMs: limits.idleTimeoutMs,
      onError: this.#onError,
    })
  }

  #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy())
    const answer = (error: IsolaError): void => answerError(responseOn(request, socket), error)
    const { upgrade, 'content-length': length, 'transfer-encoding': encoding } = request.headers
    const plain = request.method === 'GET' && Number(length ?? 0) === 0 && encoding === undefined
    if (upgrade?.toLowerCase() !== 'websocket' || !plain) {
      answer(
        new IsolaError(
          'bad_request',
          `upgrade to ${JSON.stringify(upgrade)} is not possible: only a GET without body can be upgraded, and only to "websocket"`,
        ),
      )
      return
    }
    const admitted = this.#admit({ request, parse: parseTarget, leaving: socket, answer })
    if (admitted === undefined) return
    const { target, destination } = admitted
    const { path } = target
    void tunnelWebSocket({
      ...this.#tunnel(request, socket, head),
      destination,
      authority: destination.authority,
      path,
    })
  }

  #onConnect(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy())
    const answer = (error: IsolaError): void => answerError(responseOn(request, socket), error)
    const admitted = this.#admit({ request, parse: parseAuthority, leaving: socket, answer })
    if (admitted === undefined) return
    // Origins are for HTTP: a TCP connection goes where it says.
    const destination = destinationOf(admitted.target, undefined)
    void tunnelTcp({ ...this.#tunnel(request, socket, head), destination })
  }

  #tunnel(request: IncomingMessage, socket: Duplex, head: Buffer) {
    const { limits } = this.#options
    return { request, socket, head, limits, dialContext: this.#dialContext, onError: this.#onError }
  }

  /** Counts the request in and finds its way, or answers why not. It is counted out when `leaving` closes. */
  #admit(options: {
    readonly request: IncomingMessage
    readonly parse: (text: string) => Target
    readonly leaving: ServerResponse | Duplex
    readonly answer: (error: IsolaError) => void
  }): { target: Target; destination: Destination } | undefined {
    const { request, parse, leaving, answer } = options
    try {
      const functionName = this.#checkAllowance()
      const target = parse(request.url ?? '')
      const host = withoutTrailingDot(target.hostname)
      const path = target.path.split('?', 1)[0] ?? '/'
      const destination = destinationOf(target, this.#options.rules().originFor(functionName, host, path))
      this.#openRequests += 1
      leaving.once('close', () => {
        this.#openRequests -= 1
      })
      return { target, destination }
    } catch (error) {
      const refusal = isIsolaError(error)
        ? error
        : new IsolaError('internal', String(error), { cause: error })
      this.#onError(refusal)
      answer(refusal)
      return undefined
    }
  }

  #checkAllowance(): string {
    const { requestsPerInstanceMax } = this.#options.limits
    if (this.functionName === undefined) {
      throw new IsolaError('egress_refused', 'request refused: this instance has no function yet')
    }
    if (this.#openRequests >= requestsPerInstanceMax) {
      throw new IsolaError(
        'egress_refused',
        `request refused: this instance has ${requestsPerInstanceMax} outgoing requests open, which is the most: ` +
          'read or cancel responses and close sockets before opening more',
      )
    }
    return this.functionName
  }

  readonly #onError = (error: IsolaError): void => {
    if (error.code !== 'egress_refused') return
    const { id, onRefused } = this.#options
    onRefused({ id, functionName: this.functionName ?? '', message: error.message })
  }
}

function inodeOf(path: string): string | undefined {
  const stats = lstatSync(path, { throwIfNoEntry: false, bigint: true })
  return stats === undefined ? undefined : `${stats.dev}:${stats.ino}`
}
