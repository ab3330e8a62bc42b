/**
 * One instance's way out: an HTTP proxy on a unix socket that only its uid can open. The socket is who the caller
 * is; nothing that the caller sends is asked for it.
 */
import { lchownSync, lstatSync, renameSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import { answerError, asEgressError } from './answer.ts'
import { assetsVersionNamed, readAssetsCall } from './assets-call.ts'
import { ConnectionPool } from './connection-pool.ts'
import { Connections } from './connections.ts'
import { destinationOf, placeOf, type Destination } from './destination.ts'
import { dial, type DialContext } from './dial.ts'
import type { EgressLimits } from './egress-limits.ts'
import { forwardRequest } from './forward.ts'
import { checkReach } from './function-rule.ts'
import { requestHeaders } from './headers.ts'
import { readRateLimitCall, type RateLimits } from './rate-limits.ts'
import { Resolver, type Lookup } from './resolve.ts'
import { rpcCallee } from '../pool/inner-door.ts'
import { abortRpc, tunnelRpc } from './rpc-tunnel.ts'
import type { Origin, Rules } from './rules.ts'
import { checkService, readServiceCall, serviceNamed, type ServiceCall } from './service-call.ts'
import { ServiceDoor } from './service-door.ts'
import { SubrequestBudget } from './subrequest-budget.ts'
import { parseAuthority, parseTarget, withoutTrailingDot, type Target } from './target.ts'
import type { FunctionTraffic } from './traffic.ts'
import { responseOn, tunnelTcp, tunnelWebSocket, type TunnelOptions } from './tunnel.ts'

export interface InstanceSocketOptions {
  readonly id: string
  readonly socketPath: string
  readonly uid: number
  readonly limits: EgressLimits
  readonly lookup: Lookup
  /** Where functions are called by name. */
  readonly innerDoorPath: string
  readonly rules: () => Rules
  readonly trafficOf: (functionName: string) => FunctionTraffic
  readonly rateLimits: RateLimits
  /** An agent is there, which passes the router's reports on. */
  readonly isWatched: boolean
  /** Of an instance that has been claimed already. */
  readonly functionName: string | undefined
  /** Functions that it may call. */
  readonly services: readonly string[] | undefined
  readonly onRefused: (refusal: { id: string; functionName: string; message: string }) => void
}

/** Who asks, and for what. */
interface Asked {
  readonly kind: 'http' | 'tcp'
  readonly request: IncomingMessage
  /** The request is over when this closes. */
  readonly leaving: ServerResponse | Duplex
  readonly answer: (error: IsolaError) => void
}

/** Where a request goes. */
type Way =
  | { readonly type: 'outside'; readonly target: Target; readonly destination: Destination }
  | { readonly type: 'service'; readonly call: ServiceCall }
  /** Calls of a function's methods. */
  | { readonly type: 'methods'; readonly functionName: string }

export class InstanceSocket {
  readonly budget: SubrequestBudget
  #functionName: string | undefined
  #services: readonly string[] = []
  #traffic: FunctionTraffic | undefined
  readonly #options: InstanceSocketOptions
  readonly #server: Server
  readonly #pool: ConnectionPool
  readonly #door: ServiceDoor
  readonly #dialContext: DialContext
  /** The instance's own connections, tunnels included. */
  readonly #callers = new Set<Socket>()
  #openRequests = 0
  #inode: string | undefined

  constructor(options: InstanceSocketOptions) {
    const { limits, lookup, rules, functionName, services, isWatched } = options
    this.#options = options
    this.#dialContext = {
      resolver: new Resolver({
        lookup,
        timeoutMs: limits.lookupTimeoutMs,
        concurrencyMax: limits.lookupsPerInstanceMax,
      }),
      connectTimeoutMs: limits.connectTimeoutMs,
      addressPolicy: () => rules().addressPolicy(),
      connections: new Connections((bytesOut, bytesIn) => {
        if (this.#traffic === undefined) return
        this.#traffic.bytesOut += bytesOut
        this.#traffic.bytesIn += bytesIn
      }),
    }
    this.budget = new SubrequestBudget({
      limit: () => rules().ruleFor(this.#functionName ?? '').subrequests,
      holdMs: limits.subrequestHoldMs,
      holdReportsMax: limits.subrequestHoldReportsMax,
      nowMs: () => performance.now(),
      isWatched,
      isNew: functionName === undefined,
    })
    if (functionName !== undefined) this.assign(functionName, services)
    this.#pool = new ConnectionPool(this.#dialContext, limits)
    this.#door = new ServiceDoor(options.innerDoorPath, limits)
    this.#server = this.#makeServer()
  }

  get functionName(): string | undefined {
    return this.#functionName
  }

  get services(): readonly string[] {
    return this.#services
  }

  /** A version has claimed the instance; until then every request is refused. */
  assign(functionName: string, services: readonly string[] = []): void {
    this.countBytes()
    this.#services = services
    this.#functionName = functionName
    this.#traffic = this.#options.trafficOf(functionName)
  }

  /** Adds to the function's traffic what went over the open connections since the last time. */
  countBytes(): void {
    this.#dialContext.connections.count()
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
    this.#door.destroy()
    this.#dialContext.connections.destroy()
    this.budget.close()
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
    const limited = readRateLimitCall(request)
    // Answered here, at once: no way out, and so nothing to count as one.
    if (limited !== undefined && this.#functionName !== undefined) {
      request.resume()
      response.writeHead(this.#options.rateLimits.take(limited, performance.now()) ? 204 : 429)
      response.end()
      return
    }
    const answer = (error: IsolaError): void => answerError(response, error)
    this.#admit({ kind: 'http', request, leaving: response, answer }, (way) => {
      const { idleTimeoutMs, idleConnectionsPerInstanceMax } = this.#options.limits
      const common = { request, response, idleTimeoutMs, onError: this.#onError }
      if (way.type === 'methods') return
      if (way.type === 'service') {
        forwardRequest({ ...common, ...this.#door.sending(way.call) })
        return
      }
      // The request at hand is open and has no connection yet.
      const idle = this.#dialContext.connections.size - (this.#openRequests - 1)
      if (idle > idleConnectionsPerInstanceMax) this.#pool.recycle()
      const { destination, target } = way
      const headers = requestHeaders(request.rawHeaders, destination.authority)
      forwardRequest({
        ...common,
        send: (method, framing) =>
          this.#pool.request({ destination, method, path: target.path, headers: [...headers, ...framing] }),
        toError: (error) => asEgressError(error, placeOf(destination.hostname, destination.port)),
      })
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
    this.#admit({ kind: 'http', request, leaving: socket, answer }, (way) => {
      const common = this.#tunnel(request, socket, head)
      if (way.type === 'methods') return
      if (way.type === 'service') {
        void tunnelWebSocket({ ...common, ...this.#door.tunnelling(way.call) })
        return
      }
      const { destination, target } = way
      void tunnelWebSocket({
        ...common,
        ...this.#dialling(destination),
        headers: requestHeaders(request.rawHeaders, destination.authority),
        secure: destination.secure,
        path: target.path,
      })
    })
  }

  #onConnect(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy())
    const forMethods = rpcCallee(request.url ?? '') !== undefined
    const answer = (error: IsolaError): void => {
      if (forMethods) abortRpc(socket, error)
      else answerError(responseOn(request, socket), error)
    }
    this.#admit({ kind: 'tcp', request, leaving: socket, answer }, (way) => {
      const common = this.#tunnel(request, socket, head)
      if (way.type === 'methods') void tunnelRpc({ ...common, ...this.#door.calling(way.functionName) })
      else if (way.type === 'outside') void tunnelTcp({ ...common, ...this.#dialling(way.destination) })
    })
  }

  #tunnel(request: IncomingMessage, socket: Duplex, head: Buffer) {
    const { limits } = this.#options
    return { request, socket, head, limits, onError: this.#onError }
  }

  #dialling({ hostname, port, tlsName, trusted }: Destination): Pick<TunnelOptions, 'connect' | 'toError'> {
    return {
      connect: ({ secure, allowHalfOpen }) =>
        dial(
          { hostname, port, tlsName: secure ? tlsName : undefined, trusted, allowHalfOpen },
          this.#dialContext,
        ),
      toError: (error) => asEgressError(error, placeOf(hostname, port)),
    }
  }

  /** Counts the request in, finds its way and calls `go`, at once or when its budget is known; or answers why not. */
  #admit(asked: Asked, go: (way: Way) => void): void {
    const { leaving } = asked
    let way: Way
    try {
      way = this.#findWay(asked, this.#checkAllowance())
    } catch (error) {
      this.#refuse(asked, error)
      return
    }
    this.#openRequests += 1
    leaving.once('close', () => {
      this.#openRequests -= 1
    })
    const taken = this.budget.take()
    if (taken === 'taken') go(way)
    else if (taken === 'never') this.#refuse(asked, this.#overBudget())
    else {
      const held = this.budget.hold((isAllowed) => {
        if (isAllowed) go(way)
        else this.#refuse(asked, this.#overBudget())
      })
      leaving.once('close', () => this.budget.giveUp(held))
    }
  }

  #findWay({ kind, request }: Asked, functionName: string): Way {
    const callee = kind === 'tcp' ? rpcCallee(request.url ?? '') : undefined
    if (callee !== undefined) {
      checkService({ service: callee, functionName, services: this.#services })
      return { type: 'methods', functionName: callee }
    }
    const versionId = assetsVersionNamed(request)
    if (versionId !== undefined)
      return { type: 'service', call: readAssetsCall({ kind, request, versionId, functionName }) }
    const service = serviceNamed(request)
    if (service !== undefined) {
      const { scriptFunction } = this.#options.rules()
      const asked = { kind, request, service, functionName, services: this.#services, scriptFunction }
      return { type: 'service', call: readServiceCall(asked, this.#options.limits) }
    }
    const target = kind === 'tcp' ? parseAuthority(request.url ?? '') : parseTarget(request.url ?? '')
    const rules = this.#options.rules()
    // Origins are for HTTP: a TCP connection goes where it says.
    const origin = kind === 'tcp' ? undefined : originOf(rules, functionName, target)
    // An origin is the operator's own word on where the function goes.
    if (origin === undefined) checkReach(rules.ruleFor(functionName), { ...target, functionName })
    return { type: 'outside', target, destination: destinationOf(target, origin) }
  }

  #checkAllowance(): string {
    const { requestsPerInstanceMax } = this.#options.limits
    if (this.#functionName === undefined || this.#traffic === undefined) {
      throw new IsolaError('egress_refused', 'request refused: this instance has no function yet')
    }
    this.#traffic.requests += 1
    if (this.#openRequests >= requestsPerInstanceMax) {
      throw new IsolaError(
        'egress_refused',
        `request refused: this instance has ${requestsPerInstanceMax} outgoing requests open, which is the most: ` +
          'read or cancel responses and close sockets before opening more',
      )
    }
    return this.#functionName
  }

  #overBudget(): IsolaError {
    const functionName = this.#functionName ?? ''
    const limit = this.#options.rules().ruleFor(functionName).subrequests
    const { made, sharing } = this.budget
    return new IsolaError(
      'subrequest_limit_exceeded',
      `function "${functionName}" has made ${made} outgoing requests for ${sharing === 1 ? 'one request' : `${sharing} requests that ran together or one right after the other`} ` +
        `and its limit is ${limit} for each: make fewer, or raise the limit with: ` +
        `isola limits ${functionName} --subrequests N`,
      { details: { limit, made, requests: sharing } },
    )
  }

  #refuse({ answer }: Asked, error: unknown): void {
    const refusal = isIsolaError(error) ? error : new IsolaError('internal', String(error), { cause: error })
    this.#onError(refusal)
    answer(refusal)
  }

  readonly #onError = (error: IsolaError): void => {
    if (!REFUSALS.has(error.code)) return
    if (this.#traffic !== undefined) this.#traffic.refused += 1
    const { id, onRefused } = this.#options
    onRefused({ id, functionName: this.#functionName ?? '', message: error.message })
  }
}

const REFUSALS = new Set<string>(['egress_refused', 'subrequest_limit_exceeded', 'loop_detected'])

function originOf(rules: Rules, functionName: string, { hostname, path }: Target): Origin | undefined {
  return rules.originFor(functionName, withoutTrailingDot(hostname), path.split('?', 1)[0] ?? '/')
}

function inodeOf(path: string): string | undefined {
  const stats = lstatSync(path, { throwIfNoEntry: false, bigint: true })
  return stats === undefined ? undefined : `${stats.dev}:${stats.ino}`
}
