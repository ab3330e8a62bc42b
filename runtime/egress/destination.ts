import { isIP } from 'node:net'
import type { Origin } from './rules.ts'
import type { Target } from './target.ts'

/** Where a request goes once the operator's origins are applied. */
export interface Destination {
  readonly secure: boolean
  readonly hostname: string
  readonly port: number
  /** The name that TLS sends and the certificate must be for. */
  readonly tlsName: string
  /** True for an origin, whose addresses are not judged. */
  readonly trusted: boolean
}

/**
 * An origin's certificate is for the origin's own name; one given by address shows the certificate of the site it
 * serves, as it has no name.
 */
export function destinationOf(target: Target, origin: Origin | undefined): Destination {
  const { secure, hostname, port } = origin ?? target
  const tlsName = isIP(hostname) === 0 ? hostname : target.hostname
  return { secure, hostname, port, tlsName, trusted: origin !== undefined }
}

/** `host:port`, as people write it. */
export function placeOf(hostname: string, port: number): string {
  return `${hostname.includes(':') ? `[${hostname}]` : hostname}:${port}`
}
