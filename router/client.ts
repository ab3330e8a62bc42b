import { BlockList, isIP, type Socket } from 'node:net'
import { IsolaError } from '../sdk/model/errors.ts'
import { directLines } from './forwarded.ts'

/** What a request in progress must hear of its connection. */
export interface LiveRequest {
  /** Its head and body have been read to the end. */
  readonly isReceived: boolean
  onClientGone(): void
  /** The rest of the request cannot be read: malformed, or too slow. */
  onRequestBroken(code: 'bad_request' | 'request_timeout' | 'body_too_large', message: string): void
  /** To be called every now and then; ends what has waited too long. */
  expire(nowMs: number, elapsedMs: number): void
}

/** One connection from a client: what is worth knowing once instead of at every request. */
export interface Client {
  readonly socket: Socket
  /** Of the peer, IPv4 without its IPv6 wrapping. */
  readonly address: string
  /** The peer is one of our own proxies: what it says about the client is taken. */
  readonly trusted: boolean
  readonly proxies: TrustedProxies
  /** Header lines about this client for the instance. */
  readonly forwardedLines: string
  /** More than one only where the client pipelines. */
  readonly live: LiveRequest[]
  /** By the inner door: it names a function instead of a host, and what it says about the client is taken as it is. */
  readonly inner: boolean
  /** The last response has been decided: what follows on this connection is not served. */
  closing: boolean
  /** Too many connections are open: each request is refused. */
  readonly excess: boolean
  /** The last Host header and what it parsed to: on a kept-alive connection nearly always the next one's too. */
  hostHeader: string | undefined
  host: string | undefined
}

export function makeClient(
  socket: Socket,
  options: { readonly proxies: TrustedProxies; readonly excess: boolean; readonly inner: boolean },
): Client {
  const { proxies, excess, inner } = options
  const address = peerAddress(socket)
  return {
    socket,
    address,
    proxies,
    trusted: proxies.includes(address),
    forwardedLines: directLines(address),
    live: [],
    inner,
    closing: false,
    excess,
    hostHeader: undefined,
    host: undefined,
  }
}

export interface TrustedProxies {
  includes(address: string): boolean
}

/** Comma-separated addresses and CIDR blocks. Throws `invalid_argument`. */
export function parseTrustedProxies(text: string): TrustedProxies {
  const list = new BlockList()
  for (const item of text.split(',').map((item) => item.trim())) {
    if (item === '') continue
    const slash = item.indexOf('/')
    const address = slash === -1 ? item : item.slice(0, slash)
    const version = isIP(address)
    const prefix = slash === -1 ? (version === 6 ? 128 : 32) : Number(item.slice(slash + 1))
    if (version === 0 || !Number.isInteger(prefix) || prefix < 0 || prefix > (version === 6 ? 128 : 32)) {
      throw new IsolaError(
        'invalid_argument',
        `trusted proxy ${JSON.stringify(item)} is no address block: write e.g. "10.0.0.0/8,fd00::/8"`,
      )
    }
    list.addSubnet(address, prefix, version === 6 ? 'ipv6' : 'ipv4')
  }
  return {
    includes: (address) => {
      const version = isIP(address)
      return version !== 0 && list.check(address, version === 6 ? 'ipv6' : 'ipv4')
    },
  }
}

function peerAddress(socket: Socket): string {
  const address = socket.remoteAddress ?? ''
  return address.startsWith('::ffff:') ? address.slice(7) : address
}

const CLIENT = Symbol('client')

/** Kept on the socket itself: a lookup in a WeakMap would be paid at each request. */
export function attachClient(socket: Socket, client: Client): void {
  ;(socket as Socket & { [CLIENT]?: Client })[CLIENT] = client
}

export function clientOf(socket: Socket): Client | undefined {
  return (socket as Socket & { [CLIENT]?: Client })[CLIENT]
}
