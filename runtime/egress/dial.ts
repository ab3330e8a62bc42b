/**
 * The one place where a connection to the outside is made. The name is resolved once, each address judged, and the
 * socket is given those addresses and no name: between the check and the connect there is nothing left to change.
 */
import type { LookupAddress } from 'node:dns'
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { IsolaError } from '../../sdk/model/errors.ts'
import { classifyAddress, type AddressPolicy } from './addresses.ts'
import { placeOf } from './destination.ts'
import type { Connections } from './connections.ts'
import type { Resolver } from './resolve.ts'
import { withoutTrailingDot } from './target.ts'

export interface DialOptions {
  readonly hostname: string
  readonly port: number
  /** Name for TLS, both sent and checked against the certificate; absent for plain TCP. */
  readonly tlsName?: string | undefined
  /** The operator chose the place (an origin): its addresses are not judged. */
  readonly trusted: boolean
  /** True for TCP tunnels, where one side may end while the other goes on. */
  readonly allowHalfOpen: boolean
}

export interface DialContext {
  readonly resolver: Resolver
  readonly connectTimeoutMs: number
  addressPolicy(): AddressPolicy
  /** Every open connection, so that closing the instance's socket ends them. */
  readonly connections: Connections
}

/** Throws `egress_refused` or `egress_failed`. */
export async function dial(options: DialOptions, context: DialContext): Promise<Socket> {
  const startedAtMs = performance.now()
  const resolved = await context.resolver.resolve(options.hostname)
  const addresses = options.trusted ? resolved : permitted(options, resolved, context.addressPolicy())
  const spentMs = performance.now() - startedAtMs
  return open(options, addresses, context, Math.max(1, context.connectTimeoutMs - spentMs))
}

function permitted(
  { hostname, port }: DialOptions,
  resolved: readonly LookupAddress[],
  policy: AddressPolicy,
): readonly LookupAddress[] {
  const verdicts = resolved.map(({ address }) => classifyAddress(address, policy))
  const good = resolved.filter((_address, index) => verdicts[index]?.allowed)
  if (good.length > 0) return good
  const address = resolved[0]?.address
  const verdict = verdicts[0]
  if (verdict === undefined || verdict.allowed) throw new IsolaError('internal', 'no address to judge')
  const subject = address === hostname ? 'it' : `it resolves to ${address}, which`
  throw new IsolaError(
    'egress_refused',
    `connection to ${placeOf(hostname, port)} refused: ${subject} is ${verdict.why}: if functions may reach it, ` +
      `the operator can allow it with: isola up --allow-egress ${verdict.cidr ?? 'CIDR'}`,
    { details: { host: hostname, port, address } },
  )
}

function open(
  options: DialOptions,
  addresses: readonly LookupAddress[],
  { connections }: DialContext,
  timeoutMs: number,
): Promise<Socket> {
  const { hostname, port, tlsName, allowHalfOpen } = options
  const only = addresses.length === 1 ? addresses[0]?.address : undefined
  const place = { host: only ?? hostname, port, lookup: pinned(addresses), allowHalfOpen, noDelay: true }
  const name = tlsName === undefined ? '' : withoutTrailingDot(tlsName)
  const socket =
    tlsName === undefined
      ? connectTcp(place)
      : connectTls({ ...place, servername: isIP(name) === 0 ? name : '', ALPNProtocols: ['http/1.1'] })
  connections.add(socket)
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => socket.destroy(new Error(`no connection in ${Math.round(timeoutMs)} ms`)),
      timeoutMs,
    )
    const fail = (error: Error): void => {
      clearTimeout(timer)
      reject(failed(placeOf(hostname, port), error))
    }
    socket.once('error', fail)
    socket.once('close', () => fail(new Error('the connection was closed')))
    socket.once(tlsName === undefined ? 'connect' : 'secureConnect', () => {
      clearTimeout(timer)
      // From here on the error belongs to whoever uses the socket; one that comes in between must not be unhandled.
      socket.on('error', () => socket.destroy())
      socket.removeListener('error', fail)
      resolve(socket)
    })
  })
}

/** A `lookup` that knows the answer. */
function pinned(addresses: readonly LookupAddress[]): LookupFunction {
  return (_hostname, options, callback) => {
    const [first] = addresses
    if (options.all === true) callback(null, [...addresses])
    else callback(null, first?.address ?? '', first?.family)
  }
}

/** `egress_failed` for whatever went wrong on the way to `place`. */
export function failed(place: string, error: unknown): IsolaError {
  const causes = error instanceof AggregateError ? (error.errors as Error[]) : [error as Error]
  const why = causes.map(({ message }) => message).join('; ')
  return new IsolaError('egress_failed', `request to ${place} failed: ${why}`, { cause: error })
}
