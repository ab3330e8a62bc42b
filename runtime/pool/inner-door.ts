/**
 * The router's inner door: a unix socket beside its control socket, for the other processes of the node. A request there
 * names its function in a header instead of by host and path, and takes the same course as any other: admission, queue,
 * slots, limits, metrics, log. Headers that start with `isola-` pass both ways, which no client can send or see; and what
 * a request says about its client (`x-forwarded-for` and its like) is passed on as it is.
 */
import type { ErrorCode } from '../../sdk/model/errors.ts'

/** In the run directory; mode 0600. */
export const INNER_DOOR_SOCKET = 'invoke.sock'

export const INNER_DOOR_HEADERS = {
  /** Request: the function. */
  functionName: 'isola-function',
  /** Request: one of its versions by its whole id. Absent: whatever the deployment says. */
  versionId: 'isola-version',
  /** Request: a function asks for its own static files, of the version whose id this is. */
  assetsOf: 'isola-assets-of',
  /** Answer: an `ErrorCode`, where the router or the Lambda process answers because the function did not. */
  error: 'isola-error',
} as const

/** Headers of calls between functions, from an instance to the egress proxy and on to the callee. */
export const SERVICE_HEADERS = {
  /** From the instance: it asks for its own static files, of the version whose id this is. */
  assetsOf: 'isola-assets-of',
  /** From the instance: the function that the binding stands for. */
  service: 'isola-service',
  /** From the instance, and on to the callee: which of its named entrypoints is called. Absent: the default one. */
  entrypoint: 'isola-entrypoint',
  /** From the instance, and on to the callee: JSON that the entrypoint finds in `ctx.props`. */
  props: 'isola-props',
  /** To the callee, and with its own calls back to the proxy: how many calls of functions by functions led to this one. Absent: 0. */
  depth: 'isola-depth',
} as const

/**
 * Calls of methods go over CONNECT, all the way: from an instance to the egress proxy for a host that names the callee, to
 * the inner door and on to the callee for `RPC_HOST`. None of these hosts has a port, and what a function connects to does.
 */
export const RPC_HOST = 'isola-rpc'

/** An instance listens for them beside the socket that its requests come by. */
export const RPC_SOCKET = 'rpc.sock'

/** `stub`: of several connections that an instance may have to one function. */
export function rpcHost(functionName: string, stub: number): string {
  return `${RPC_HOST}.${functionName}.${stub}`
}

/** `undefined` where the host is not one for calls of methods. */
export function rpcCallee(host: string): string | undefined {
  return /^isola-rpc\.([a-z0-9-]+)\.\d$/.exec(host)?.[1]
}

/**
 * To an instance. `lines`: somebody tails the function, so its log lines carry what was logged as values, too. `events`:
 * the body is a JSON array of trace events for its `tail` handler; whose they are stands in the header `scripts`.
 */
export const TAIL_HEADER = {
  name: 'isola-tail',
  lines: 'lines',
  events: 'events',
  scripts: 'isola-tail-scripts',
} as const

/** A call of a function of protocol `lambda` by its event instead of by HTTP. */
export interface Invocation {
  readonly functionName: string
  /** Absent: whatever the deployment says. */
  readonly versionId?: string
  /** JSON. */
  readonly payload: Uint8Array
  /** `event`: the result is collected first. `stream`: it comes as it is made. */
  readonly mode: 'event' | 'stream'
  /** Base64 of JSON. */
  readonly clientContext?: string
  readonly invokedArn?: string
  readonly requestId: string
  readonly signal?: AbortSignal
}

export interface InvocationAnswer {
  /** Of a function that failed by itself it is 200, too. */
  readonly status: number
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  /** Set where the router or the Lambda process answers because the function did not. The body is then an `ErrorBody`. */
  readonly error: ErrorCode | undefined
  /** Set where the function failed by its own words: `Unhandled`. */
  readonly functionError: string | undefined
  /** To be read to its end or left (`return`). */
  readonly body: AsyncIterable<Uint8Array>
}

export interface Invoker {
  /**
   * Throws `node_unreachable` where no router answers, `instance_crashed` where the connection broke before an answer
   * came, and whatever `signal` was aborted with.
   */
  invoke(invocation: Invocation): Promise<InvocationAnswer>
  close(): void
}
