/**
 * Who watches which function, and what they are told. A session is made by the API, which gives out an address that
 * nobody can guess; who connects there needs no token. It ends with its connection. Functions that nobody watches cost
 * nothing: the router is told who is watched, and only then says more of requests.
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { IsolaError } from '../../../sdk/model/errors.ts'
import type { Head } from '../../../sdk/model/function.ts'
import { TAIL_LIMITS } from '../../../sdk/model/limits.ts'
import type { LogLine } from '../../../sdk/model/log-line.ts'
import type { TailFilter, TailPort, TailSession } from '../../../wrangler-compat/api/ports.ts'
import { versionUuid } from '../../../wrangler-compat/api/version-uuid.ts'
import type { Instance } from '../../pool/driver.ts'
import type { TailedRequest } from '../../pool/wire.ts'
import { handshakeFault, openServerSocket, refuseUpgrade } from './server-socket.ts'
import { consumersOf, type TailDelivery } from './tail-consumers.ts'
import { Session } from './tail-session.ts'
import { TraceAssembly, type Traced } from './trace-assembly.ts'

/** Below it are the addresses of sessions. Under the base URL of wrangler's API, so that a proxy passes both. */
export const TAIL_PATH = '/client/v4/tails/'
const PROTOCOL = 'trace-v1'

export interface TailHubOptions {
  instances(): readonly Instance[]
  /** All functions whose requests are to be told in detail. */
  setTailed(functionNames: readonly string[]): void
  readonly delivery: TailDelivery
  /** Milliseconds since 1970. @default the clock */
  readonly now?: () => number
}

export class TailHub implements TailPort {
  readonly #options: TailHubOptions
  /** By the digest of its secret: how long a look takes tells nothing of what is there. */
  readonly #sessionByDigest = new Map<string, Session>()
  readonly #assemblyByFunction = new Map<string, TraceAssembly>()
  #consumersByFunction: ReadonlyMap<string, readonly string[]> = new Map()
  readonly #timer: NodeJS.Timeout

  constructor(options: TailHubOptions) {
    this.#options = options
    this.#timer = setInterval(() => this.#look(), LOOK_MS)
    this.#timer.unref()
  }

  open(functionName: string, filter: TailFilter): TailSession & { readonly path: string } {
    const ofFunction = this.#sessionsOf(functionName)
    const { sessionsPerFunctionMax, sessionsMax } = TAIL_LIMITS
    if (ofFunction.length >= sessionsPerFunctionMax || this.#sessionByDigest.size >= sessionsMax) {
      throw new IsolaError(
        'conflict',
        `function "${functionName}" is watched by ${ofFunction.length} tails, and this node has ${this.#sessionByDigest.size}: at most ${sessionsPerFunctionMax} and ${sessionsMax} may be open. End another first`,
      )
    }
    const secret = randomBytes(32).toString('base64url')
    const digest = digestOf(secret)
    const expiresAtMs = this.#now() + TAIL_LIMITS.sessionMsMax
    const session = new Session({ id: randomUUID(), functionName, filter, expiresAtMs })
    this.#sessionByDigest.set(digest, session)
    setTimeout(() => {
      if (!session.isConnected) this.#end(digest, 1001, 'nobody connected')
    }, TAIL_LIMITS.connectWaitMs).unref()
    this.#watch()
    return { ...described(session), path: `${TAIL_PATH}${secret}` }
  }

  list(functionName: string): readonly TailSession[] {
    return this.#sessionsOf(functionName).map(([, session]) => described(session))
  }

  close(functionName: string, id: string): boolean {
    const found = this.#sessionsOf(functionName).find(([, session]) => session.id === id)
    if (found === undefined) return false
    this.#end(found[0], 1000, 'the tail was ended')
    return true
  }

  /** A WebSocket handshake at or below `TAIL_PATH`. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const digest = digestOf((request.url ?? '').slice(TAIL_PATH.length).replace(/[/?].*$/, ''))
    const session = this.#sessionByDigest.get(digest)
    if (session === undefined) {
      refuseUpgrade(socket, {
        status: '404 Not Found',
        message: 'there is no such tail: it has ended, begin another',
      })
      return
    }
    if (session.isConnected) {
      refuseUpgrade(socket, { status: '409 Conflict', message: 'somebody is connected to this tail already' })
      return
    }
    const fault = handshakeFault(request, PROTOCOL)
    if (fault !== undefined) {
      refuseUpgrade(socket, { status: '400 Bad Request', message: fault })
      return
    }
    const clientIp = request.socket.remoteAddress ?? ''
    const opened = openServerSocket(
      { request, socket, head },
      {
        protocol: PROTOCOL,
        onText: (text) => session.onText(text),
        onDrain: () => session.onRelief(),
        onClose: () => this.#end(digest, 1000, ''),
      },
    )
    session.connect(opened, { clientIp, random: () => Math.random() })
  }

  /** Every line of the node passes here. What comes out is what is kept: without what only tails are told. */
  pass(line: LogLine): LogLine {
    this.#assemblyByFunction.get(line.functionName)?.onLine(line)
    if (line.values === undefined) return line
    const { values: _, ...kept } = line
    return kept
  }

  onTailed(
    requests: readonly { readonly line: LogLine; readonly told: TailedRequest }[],
    untold: number,
  ): void {
    const byFunction = Map.groupBy(requests, ({ line }) => line.functionName)
    for (const [functionName, theirs] of byFunction) {
      this.#assemblyByFunction.get(functionName)?.onRequests(theirs)
      if (untold > 0) for (const [, session] of this.#sessionsOf(functionName)) session.onDropped(untold)
    }
  }

  /** Functions may be gone, and others may have tail consumers. */
  applyHead(head: Head): void {
    this.#consumersByFunction = consumersOf(head)
    for (const [digest, { functionName }] of this.#sessionByDigest) {
      if (!Object.hasOwn(head.functions, functionName))
        this.#end(digest, 1000, `function "${functionName}" was deleted`)
    }
    this.#watch()
  }

  /** The clients are told to come again: there is another agent soon. */
  end(): void {
    clearInterval(this.#timer)
    for (const digest of this.#sessionByDigest.keys()) this.#end(digest, 1001, 'the node is going down')
    for (const assembly of this.#assemblyByFunction.values()) assembly.close()
    this.#assemblyByFunction.clear()
    this.#options.delivery.close()
  }

  #end(digest: string, code: number, reason: string): void {
    const session = this.#sessionByDigest.get(digest)
    if (session === undefined) return
    this.#sessionByDigest.delete(digest)
    session.end(code, reason)
    this.#watch()
  }

  /** Exactly those functions are watched that somebody wants to hear of. */
  #watch(): void {
    const wanted = new Set(this.#consumersByFunction.keys())
    for (const { functionName } of this.#sessionByDigest.values()) wanted.add(functionName)
    let changed = false
    for (const [functionName, assembly] of this.#assemblyByFunction) {
      if (wanted.has(functionName)) continue
      assembly.close()
      this.#assemblyByFunction.delete(functionName)
      changed = true
    }
    for (const functionName of wanted) {
      if (this.#assemblyByFunction.has(functionName)) continue
      this.#assemblyByFunction.set(functionName, this.#assemble(functionName))
      changed = true
    }
    if (changed) this.#options.setTailed([...wanted])
  }

  #assemble(functionName: string): TraceAssembly {
    const { instances } = this.#options
    const find = (id: string): Instance | undefined => instances().find((instance) => instance.id === id)
    const ids = instances().flatMap((instance) =>
      instance.functionName === functionName ? [instance.id] : [],
    )
    return new TraceAssembly(
      {
        functionName,
        scriptVersionOf: versionUuid,
        cpuMsOf: (id) => find(id)?.usage().cpuMs,
        pendingWork: async (id) => (await find(id)?.pendingWork()) ?? 0,
        onEvent: (traced) => this.#tell(functionName, traced),
        onDropped: (count) => {
          for (const [, session] of this.#sessionsOf(functionName)) session.onDropped(count)
        },
      },
      ids,
    )
  }

  #tell(functionName: string, traced: Traced): void {
    let json: string | undefined
    const text = (): string => (json ??= JSON.stringify(traced.event))
    for (const [, session] of this.#sessionsOf(functionName)) session.send(traced, text)
    // Not what a consumer's own handler does: consumers of each other would never come to rest.
    if (traced.request?.delivered !== undefined) return
    for (const consumer of this.#consumersByFunction.get(functionName) ?? [])
      this.#options.delivery.add(consumer, traced.event)
  }

  #look(): void {
    const nowMs = this.#now()
    for (const [digest, session] of this.#sessionByDigest) {
      // Not 1000, at which a client would believe that there is nothing more to watch.
      if (session.expiresAtMs <= nowMs) this.#end(digest, 1001, 'the tail has expired, begin another')
      else session.onRelief()
    }
  }

  #sessionsOf(functionName: string): readonly (readonly [string, Session])[] {
    return [...this.#sessionByDigest].filter(([, session]) => session.functionName === functionName)
  }

  #now(): number {
    return this.#options.now?.() ?? Date.now()
  }
}

const LOOK_MS = 2_000

function described({ id, expiresAtMs }: Session): TailSession {
  return { id, expiresAt: new Date(expiresAtMs).toISOString() }
}

function digestOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}
