/**
 * The public side of a node: accepts connections, reads requests, and decides what becomes of each (`#serve`: all of
 * it on one page). node:http parses what clients send and writes what they get; between router and instance the
 * forwarder speaks by itself, which is cheaper than any client library by more than routing costs.
 */
import { createServer, ServerResponse, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { ROUTER_LIMITS, type RouterLimits } from '../sdk/model/limits.ts'
import type { Snapshot } from '../sdk/model/snapshot.ts'
import type { PooledInstance, Refusal } from '../runtime/pool/pool.ts'
import { attachClient, clientOf, makeClient, type Client, type TrustedProxies } from './client.ts'
import { onClientError } from './client-error.ts'
import { EarlyRequests } from './early-requests.ts'
import { Exchange } from './forward/exchange.ts'
import type { ExchangePorts } from './forward/exchange-ports.ts'
import { bodyTooLarge } from './forward/refusals.ts'
import { InstanceLinks } from './forward/instance-link.ts'
import { TunnelEnd } from './forward/tunnel.ts'
import { chooseVersion } from './placement/placement.ts'
import type { Metrics } from './metrics.ts'
import type { Pools } from './pools.ts'
import type { ServedVersion } from './served-version.ts'
import { IncomingRequest } from './incoming-request.ts'
import { listenAtInnerDoor } from './inner-door.ts'
import { isWebSocketHandshake, readRequestHead, type InnerTarget, type RequestHead } from './request-head.ts'
import { answerError } from './error-answer.ts'
import { lingerAfterLastResponse } from './linger.ts'
import type { RequestRecord } from './request-log.ts'
import { AssetServer } from './assets/asset-server.ts'
import { compileTable, type RouteMatch, type RouteTable } from './table/table.ts'

export interface RouterOptions {
  readonly pools: Pools
  readonly metrics: Metrics
  readonly links: InstanceLinks
  readonly proxies: TrustedProxies
  readonly limits: RouterLimits
  /** What reached no version belongs to no function's log and is not told here. `headText`: where the function is tailed. */
  onRequest(record: RequestRecord, headText: string | undefined): void
  onUnreachable(instance: PooledInstance, message: string): void
}

export class Router implements ExchangePorts {
  readonly limits: RouterLimits
  readonly links: InstanceLinks
  draining = false
  readonly #options: RouterOptions
  readonly #server: Server
  readonly #clients = new Set<Client>()
  readonly #innerServer: Server
  readonly #innerClients = new Set<Client>()
  readonly #assets = new AssetServer()
  #table: RouteTable = compileTable({ generation: 0, baseDomain: 'localhost', functions: [] })
  /** Until the first snapshot. */
  #early: EarlyRequests | undefined
  #sweptAtMs = performance.now()
  #wallMsMin = Infinity

  constructor(options: RouterOptions) {
    this.#options = options
    this.limits = options.limits
    this.#early = new EarlyRequests(options.limits)
    this.links = options.links
    this.#server = this.#makeDoor({ clients: this.#clients, inner: false })
    this.#innerServer = this.#makeDoor({ clients: this.#innerClients, inner: true })
  }

  #makeDoor(door: Door): Server {
    const server = makeServer(this.limits)
    server.on('connection', (socket: Socket) => this.#accept(socket, door))
    const serve = (request: IncomingMessage, response: ServerResponse): void =>
      this.#serve(request, response, undefined)
    server.on('request', serve)
    server.on('checkContinue', serve)
    server.on('checkExpectation', serve)
    const takeOver = (request: IncomingMessage, socket: Socket, head: Buffer): void =>
      this.#takeOver(request, socket, head)
    server.on('upgrade', takeOver)
    server.on('connect', takeOver)
    server.on('clientError', (error: Error, socket: Socket) => {
      const code = onClientError(error, socket, this.limits)
      if (code !== undefined) this.#options.metrics.addUnrouted(code)
    })
    return server
  }

  get generation(): number {
    return this.#table.generation
  }

  /** False for a snapshot older than the one in force: it is not taken. */
  apply(snapshot: Snapshot): boolean {
    if (snapshot.generation < this.#table.generation) return false
    this.#table = compileTable(snapshot)
    this.#assets.apply(snapshot)
    this.#options.pools.apply(snapshot)
    const early = this.#early?.take() ?? []
    this.#early = undefined
    for (const exchange of early) this.place(exchange)
    this.#wallMsMin = snapshot.functions.reduce((min, { limits }) => Math.min(min, limits.wallMs), Infinity)
    return true
  }

  // Every branch of a request, top to bottom.
  #serve(request: IncomingMessage, response: ServerResponse, tunnel: TunnelEnd | undefined): void {
    const client = clientOf(request.socket)
    // A connection whose last answer is decided: what still follows was sent in vain, or to be taken for something else.
    if (client === undefined || client.closing) return
    const head = readRequestHead(request, client, { limits: this.limits, upgrade: tunnel !== undefined })
    if ('code' in head) {
      client.closing = true
      if (!request.complete) lingerAfterLastResponse(client.socket, this.limits.lingerMs)
      answerError(response, head, { close: true, inner: client.inner })
      this.#options.metrics.addUnrouted(head.code)
      return
    }
    const exchange = new Exchange({ ports: this, client, head, request, response, tunnel })
    if (client.excess) {
      exchange.refuse(
        {
          code: 'too_many_connections',
          message: `more than ${this.limits.connectionsMax} connections are open`,
        },
        CLOSE,
      )
      return
    }
    this.place(exchange)
  }

  /** Also called for a request whose first place turned out to be none. */
  place(exchange: Exchange): void {
    const { head } = exchange
    if (this.#early !== undefined) {
      const refusal = this.#early.hold(exchange, performance.now())
      if (refusal !== undefined) exchange.refuse(refusal)
      return
    }
    const match = this.#find(head)
    if ('code' in match) {
      exchange.refuse(match)
      return
    }
    const { entry } = match
    const assetsOf = head.inner?.assetsOf
    if (assetsOf !== undefined) {
      this.#serveOwnFiles(exchange, entry.name, assetsOf)
      return
    }
    if (head.rpc && entry.kind === 'container') {
      exchange.refuse({
        code: 'upgrade_refused',
        message: `the function "${entry.name}" runs in a container, which has no methods to call: use fetch() of the service binding`,
      })
      return
    }
    if (match.pinnedVersionId === undefined && entry.choices.length === 0) {
      exchange.refuse({
        code: 'no_deployment',
        message: `the function "${entry.name}" has no version that receives traffic`,
      })
      return
    }
    const versionId =
      match.pinnedVersionId ?? chooseVersion(entry, { random: Math.random(), stickyKey: head.stickyKey })
    const served = this.#options.pools.of(entry.name, versionId)
    exchange.assign(served)
    const length = head.contentLength
    if (
      length !== undefined &&
      length > Math.min(this.limits.requestBodyBytesMax, served.limits.requestBytes)
    ) {
      exchange.refuse(bodyTooLarge({ limits: this.limits, served }, length), CLOSE)
      return
    }
    if (this.#assets.has(versionId) && !head.rpc) {
      const again = (): void => this.place(exchange)
      if (this.#assets.serve(exchange, served, { filesOnly: false, again })) return
    }
    const refusal = exchange.enter(served)
    if (refusal !== undefined) {
      exchange.refuse(refusal)
      return
    }
    const instance = served.pool.take()
    if (instance !== undefined) exchange.start(instance)
    else exchange.enqueue()
  }

  #serveOwnFiles(exchange: Exchange, functionName: string, versionId: string): void {
    if (!this.#assets.isOf(functionName, versionId)) {
      exchange.refuse({
        code: 'asset_unavailable',
        message: `version ${versionId.slice(0, NAME_CHARS_SHOWN)} of function "${functionName}" has no static files that can be asked for any more`,
      })
      return
    }
    const served = this.#options.pools.of(functionName, versionId)
    exchange.assign({ ...served, isAside: true })
    const again = (): void => this.#serveOwnFiles(exchange, functionName, versionId)
    this.#assets.serve(exchange, served, { filesOnly: true, again })
  }

  #find({ host, hostHeader, target, inner }: RequestHead): RouteMatch | Refusal {
    if (inner !== undefined) return findNamed(this.#table, inner)
    const match = host === undefined ? undefined : this.#table.match(host, target)
    return match ?? { code: 'route_not_found', message: notFound(hostHeader, target) }
  }

  onFinish(record: RequestRecord, served: ServedVersion | undefined, head: RequestHead): void {
    if (served === undefined) {
      // A client that left before it had a version was refused nothing.
      if (record.error !== undefined) this.#options.metrics.addUnrouted(record.error)
      return
    }
    if (served.isAside) return
    served.meter.observe(record)
    this.#options.onRequest(record, served.tailed ? head.text : undefined)
  }

  onUnreachable(instance: PooledInstance, message: string): void {
    // Many requests may find it out at once; what is left out already has been reported, or is on its way out.
    if (!instance.draining) this.#options.onUnreachable(instance, message)
  }

  #accept(socket: Socket, { clients, inner }: Door): void {
    const excess = clients.size >= this.limits.connectionsMax
    const client = makeClient(socket, { proxies: this.#options.proxies, excess, inner })
    attachClient(socket, client)
    clients.add(client)
    socket.once('close', () => {
      clients.delete(client)
      // Each takes itself off the list.
      for (const exchange of client.live.slice()) exchange.onClientGone()
    })
  }

  /** node:http has handed the connection over: a WebSocket handshake, or CONNECT, which is refused like any request. */
  #takeOver(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const tunnel = new TunnelEnd(socket, {
      head,
      earlyBytesMax: this.limits.heldBodyBytesMax,
      lingerMs: this.limits.lingerMs,
    })
    const response = new ServerResponse(request)
    response.shouldKeepAlive = false
    response.assignSocket(socket)
    response.once('finish', () => socket.destroySoon())
    this.#serve(request, response, tunnel)
  }

  get connections(): number {
    return this.#clients.size
  }

  /** Often enough that no bound is exceeded by more than a fifth or so; short wall times by up to 100 ms, a look at all connections is not free. */
  get sweepMs(): number {
    const { socketIdleTimeoutMs, requestTimeoutMs, responseTimeoutMs } = this.limits
    const fixed = Math.max(10, Math.min(socketIdleTimeoutMs, requestTimeoutMs, responseTimeoutMs) / 5)
    return Math.min(1_000, fixed, Math.max(100, this.#wallMsMin / 5))
  }

  /** Ends what has waited too long; to be called every `sweepMs` or so. */
  sweep(nowMs: number): void {
    const elapsedMs = nowMs - this.#sweptAtMs
    this.#sweptAtMs = nowMs
    this.#early?.expire(nowMs)
    for (const clients of [this.#clients, this.#innerClients]) {
      for (const { live } of clients) {
        for (let index = live.length - 1; index >= 0; index--) live[index]?.expire(nowMs, elapsedMs)
      }
    }
  }

  async listen(options: {
    readonly host: string
    readonly port: number
    readonly reusePort: boolean
  }): Promise<number> {
    const server = this.#server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(options, resolve)
    })
    return (server.address() as AddressInfo).port
  }

  /** Also listens where the other processes of the node call functions by name. */
  async listenInside(path: string): Promise<void> {
    await listenAtInnerDoor(this.#innerServer, path)
  }

  /** No new connections, no new requests on the old ones; resolves when the last one is over, or cut at the deadline. */
  async drain(timeoutMs: number): Promise<void> {
    this.draining = true
    let closing = this.#server
    const closed = close(this.#server).then(() => {
      // Not before: what runs for the outside may call other functions until it has ended.
      closing = this.#innerServer
      return close(closing)
    })
    const closeIdle = setInterval(() => closing.closeIdleConnections(), 50)
    const deadline = setTimeout(() => {
      this.#options.pools.refuseAll('draining', 'this node is going down')
      this.#early?.refuseAll('this node is going down')
      // What was just answered leaves first.
      setImmediate(() => {
        for (const { socket } of [...this.#clients, ...this.#innerClients]) socket.destroy()
      })
    }, timeoutMs)
    await closed
    clearInterval(closeIdle)
    clearTimeout(deadline)
  }
}

const CLOSE = { close: true } as const

interface Door {
  readonly clients: Set<Client>
  readonly inner: boolean
}

/** Resolves when nothing is connected any more. */
function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
  })
}

function findNamed(table: RouteTable, { functionName, versionId }: InnerTarget): RouteMatch | Refusal {
  const found = table.named(functionName)
  const shown = JSON.stringify(functionName.slice(0, NAME_CHARS_SHOWN))
  if (found === undefined) {
    return {
      code: 'function_not_found',
      message: `there is no function ${shown} on this node: deploy it, or correct the name`,
    }
  }
  if (versionId === undefined) return found.match
  return (
    found.pinnedByVersionId.get(versionId) ?? {
      code: 'version_not_found',
      message: `function ${shown} has no version ${JSON.stringify(versionId.slice(0, NAME_CHARS_SHOWN))} that can be called: deploy it again`,
    }
  )
}

const NAME_CHARS_SHOWN = 100

function makeServer(limits: RouterLimits): Server {
  const server = createServer({
    // The URL counts too.
    maxHeaderSize: limits.headerBytesMax + limits.urlBytesMax,
    headersTimeout: limits.headersTimeoutMs,
    connectionsCheckingInterval: Math.max(20, Math.min(5_000, Math.floor(limits.headersTimeoutMs / 3))),
    // Bodies have a bound of their own, which knows whose fault a pause is.
    requestTimeout: 0,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    // A peer that vanished without a word is found, whatever the connection is used for.
    keepAlive: true,
    keepAliveInitialDelay: limits.socketIdleTimeoutMs,
    // Answered by us, with a body that says why.
    requireHostHeader: false,
    IncomingMessage: IncomingRequest,
    optimizeEmptyRequests: true,
    shouldUpgradeCallback: isWebSocketHandshake,
  })
  // One more than allowed: node:http drops what is above without a word.
  server.maxHeadersCount = limits.headersCountMax + 1
  // Some above the bound get an answer; the rest is closed at once.
  server.maxConnections = limits.connectionsMax + 100
  return server
}

function notFound(hostHeader: string, target: string): string {
  if (hostHeader === '') return 'the request names no host, and functions are found by host'
  const query = target.indexOf('?')
  const path = (query === -1 ? target : target.slice(0, query)).slice(0, ROUTER_LIMITS.logPathCharsMax)
  return `no function answers at ${hostHeader}${path}: add a route for it, or check the host`
}
