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
  /** What `Host` says. */
  readonly authority: string
  /** True for an origin, whose addresses are not judged. */
  readonly trusted: boolean
}

/**
 * An origin given by name is asked for by that name, in TLS and in `Host`: it may be a host among many, this node's
 * own function included. One given by address, or as plain "localhost", has no name of its own and is asked for the
 * site it serves.
 */
export function destinationOf(target: Target, origin: Origin | undefined): Destination {
  const { secure, hostname, port } = origin ?? target
  const tlsName = isIP(hostname) === 0 ? hostname : target.hostname
  const isNamed = origin !== undefined && isIP(hostname) === 0 && hostname !== 'localhost'
  const isDefaultPort = port === (secure ? 443 : 80)
  const authority = isNamed ? (isDefaultPort ? hostname : placeOf(hostname, port)) : target.authority
  return { secure, hostname, port, tlsName, authority, trusted: origin !== undefined }
}

/** `host:port`, as people write it. */
export function placeOf(hostname: string, port: number): string {
  return `${hostname.includes(':') ? `[${hostname}]` : hostname}:${port}`
}
