import { Agent, request as httpRequest } from 'node:http'
import { connect, type Socket } from 'node:net'
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import type { EgressLimits } from './egress-limits.ts'
import type { ForwardOptions } from './forward.ts'
import { serviceResponseHeaders } from './headers.ts'
import type { RpcTunnelOptions } from './rpc-tunnel.ts'
import type { ServiceCall } from './service-call.ts'
import type { TunnelOptions } from './tunnel.ts'

/** One instance's connections to the router's inner door; shared with no other instance, as those to the outside are not. */
export class ServiceDoor {
  readonly #path: string
  readonly #limits: EgressLimits
  readonly #agent: Agent

  constructor(path: string, limits: EgressLimits) {
    this.#path = path
    this.#limits = limits
    this.#agent = new Agent({ keepAlive: true, timeout: limits.keepAliveTimeoutMs })
  }

  sending({
    functionName,
    path,
    headers,
  }: ServiceCall): Pick<ForwardOptions, 'send' | 'toError' | 'headersBack'> {
    return {
      send: (method, framing) =>
        httpRequest({
          socketPath: this.#path,
          agent: this.#agent,
          method,
          path,
          headers: [...headers, ...framing],
          setHost: false,
          maxHeaderSize: this.#limits.headBytesMax,
          // The router knows how long this function may take, and always answers.
          timeout: 0,
        }),
      headersBack: serviceResponseHeaders,
      toError: (error) => unanswered(functionName, error),
    }
  }

  tunnelling({ functionName, path, headers }: ServiceCall): Pick<TunnelOptions, 'connect' | 'toError'> & {
    readonly path: string
    readonly secure: boolean
    readonly headers: readonly string[]
    readonly headersBack: (raw: readonly string[]) => string[]
  } {
    return {
      connect: () => this.#connect(),
      toError: (error) => unanswered(functionName, error),
      path,
      secure: false,
      headers,
      headersBack: serviceResponseHeaders,
    }
  }

  calling(functionName: string): Pick<RpcTunnelOptions, 'functionName' | 'connect' | 'toError'> {
    return {
      functionName,
      connect: () => this.#connect(),
      toError: (error) => unanswered(functionName, error),
    }
  }

  destroy(): void {
    this.#agent.destroy()
  }

  #connect(): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = connect({ path: this.#path }, () => {
        socket.removeListener('error', reject)
        socket.on('error', () => socket.destroy())
        resolve(socket)
      })
      socket.once('error', reject)
    })
  }
}

function unanswered(functionName: string, error: unknown): IsolaError {
  if (isIsolaError(error)) return error
  const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message
  return new IsolaError(
    'node_unreachable',
    `the call of function "${functionName}" was not answered (${why}): this node's router has gone and is about to be back`,
    { cause: error },
  )
}
