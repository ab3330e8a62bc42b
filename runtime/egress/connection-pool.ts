import { Agent, request as httpRequest, type ClientRequest } from 'node:http'
import type { Socket } from 'node:net'
import type { Destination } from './destination.ts'
import { dial, type DialContext } from './dial.ts'
import type { EgressLimits } from './egress-limits.ts'

export interface OutgoingOptions {
  readonly destination: Destination
  readonly method: string
  readonly path: string
  /** Names and values in turn; `Host` among them. */
  readonly headers: readonly string[]
}

/**
 * Kept-alive connections of one instance, on Node's own client: undici keeps back the head of a streamed request until
 * the first byte of its body, and fails on a 100 that it did not ask for.
 *
 * No connection is shared between instances (what one function sends must not decide what another reads), nor between
 * judged and trusted requests: a connection to an origin on 10.0.0.5 would else carry a plain `fetch('http://10.0.0.5/')`.
 */
export class ConnectionPool {
  readonly #limits: EgressLimits
  readonly #agent: Agent
  /** Part of every connection's name: those of an earlier one are not found again. */
  #generation = 0

  constructor(dialContext: DialContext, limits: EgressLimits) {
    this.#limits = limits
    // `timeout` is that of idle connections; a request brings its own.
    const agent = new Agent({ keepAlive: true, timeout: limits.keepAliveTimeoutMs })
    agent.getName = (options) => (options as { name?: string } | undefined)?.name ?? ''
    agent.createConnection = (options, callback) => {
      const { secure, hostname, port, tlsName, trusted } = (
        options as unknown as { destination: Destination }
      ).destination
      const place = { hostname, port, tlsName: secure ? tlsName : undefined, trusted, allowHalfOpen: false }
      dial(place, dialContext).then(
        (socket: Socket) => callback?.(null, socket),
        (error: Error) => callback?.(error, undefined as never),
      )
      return undefined
    }
    this.#agent = agent
  }

  request({ destination, method, path, headers }: OutgoingOptions): ClientRequest {
    const { secure, hostname, port, tlsName, trusted } = destination
    const name = [this.#generation, trusted, secure, hostname, port, tlsName].join('|')
    // The agent passes what it does not know on to its own two functions above.
    const forAgent = { name, destination }
    return httpRequest({
      ...forAgent,
      agent: this.#agent,
      method,
      path,
      headers,
      setHost: false,
      maxHeaderSize: this.#limits.headBytesMax,
      timeout: this.#limits.idleTimeoutMs,
    })
  }

  /** Closes idle connections now and the others after their request: for new rules, or when too many are idle. */
  recycle(): void {
    this.#generation += 1
    for (const sockets of Object.values(this.#agent.freeSockets)) {
      for (const socket of sockets ?? []) socket.destroy()
    }
  }

  destroy(): void {
    this.#agent.destroy()
  }
}
