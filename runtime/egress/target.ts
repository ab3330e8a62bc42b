import { IsolaError } from '../../sdk/model/errors.ts'

/** Where an instance wants to go. */
export interface Target {
  readonly secure: boolean
  /** As the WHATWG URL parser spells it: lower case, punycode, numbers as dotted IPv4, IPv6 without brackets. */
  readonly hostname: string
  readonly port: number
  /** `host[:port]` for the `Host` header: the port only where the scheme does not imply it. */
  readonly authority: string
  /** Path and query; `/` for a TCP connection. */
  readonly path: string
}

/** Reads the absolute form that workerd sends to a proxy: `http://host/path`. Throws `bad_request`. */
export function parseTarget(text: string): Target {
  const url = /^https?:\/\/[^/\\]/i.test(text) && URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || url.hostname === '') {
    throw new IsolaError(
      'bad_request',
      `${JSON.stringify(text.slice(0, 200))} is not a target for the egress proxy: send http://host/path or https://host/path`,
    )
  }
  return fromUrl(url)
}

/** Reads the `host:port` of a CONNECT. Throws `bad_request`. */
export function parseAuthority(text: string): Target {
  // The scheme is there for the parser; port 80, which it implies, comes back in `fromUrl`.
  const url =
    /^[^\s/?#@\\]+:\d+$/.test(text) && URL.canParse(`http://${text}`) ? new URL(`http://${text}`) : undefined
  const target = url === undefined ? undefined : fromUrl(url)
  if (target === undefined || target.port === 0) {
    throw new IsolaError(
      'bad_request',
      `${JSON.stringify(text.slice(0, 200))} is not an address to connect to: send host:port`,
    )
  }
  return target
}

function fromUrl(url: URL): Target {
  const secure = url.protocol === 'https:'
  return {
    secure,
    hostname: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
    authority: url.host,
    path: url.pathname + url.search,
  }
}

/** The name as routes and certificates spell it: without the dot that ends an absolute DNS name. */
export function withoutTrailingDot(hostname: string): string {
  return hostname.endsWith('.') ? hostname.slice(0, -1) : hostname
}
