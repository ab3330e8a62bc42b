import type { WranglerApiPorts } from './ports.ts'

/** One request to one endpoint. */
export interface ApiCall {
  readonly ports: WranglerApiPorts
  readonly request: Request
  readonly query: URLSearchParams
  /** Of the `:names` in the endpoint's path, percent-decoded. The account is checked already. */
  readonly params: Readonly<Record<string, string>>
  readonly requestId: string
}

/** What it returns is the envelope's `result`; an `Enveloped` says more, a `Response` is answered as it is. */
export type Handler = (call: ApiCall) => unknown

/** An endpoint that does not want the node's token: it checks its own credentials. */
export interface OpenEndpoint {
  readonly auth: 'own'
  readonly handle: Handler
}

/**
 * By method and path under the base URL: `GET /accounts/:account/workers/scripts/:script`. A segment that begins with a
 * colon is a parameter; a literal segment goes before a parameter.
 */
export type Endpoints = Readonly<Record<string, Handler | OpenEndpoint>>

/** The value of a parameter that the endpoint's own path has. */
export function param(call: ApiCall, name: string): string {
  const value = call.params[name]
  if (value === undefined) throw new Error(`the endpoint's path has no ":${name}"`)
  return value
}
