import { IsolaError } from './errors.ts'

/**
 * A route pattern is `host/path`: an exact host or `*.host` (any depth of subdomain, not the host itself), and a
 * path that is exact or a prefix ending in `*`. No path means the whole host. Case of the host does not matter.
 */
export interface RoutePattern {
  /** Lower case, without port; for a wildcard the part after `*.`. */
  readonly host: string
  readonly wildcardHost: boolean
  /** Begins with `/`; for a prefix, what stands before the `*`. */
  readonly path: string
  readonly prefixPath: boolean
}

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/

/** Throws `invalid_argument` that says what is wrong with the pattern and what a right one looks like. */
export function parseRoutePattern(text: string): RoutePattern {
  const refuse = (why: string): never => {
    throw new IsolaError(
      'invalid_argument',
      `route ${JSON.stringify(text)} ${why}: write host/path, e.g. "shop.example/api/*" or "*.shop.example/*"`,
    )
  }
  if (text.length > 1_024) refuse('is longer than 1024 characters')
  if (text.includes('://')) refuse('has a scheme; routes match both http and https')
  const slash = text.indexOf('/')
  let host = (slash === -1 ? text : text.slice(0, slash)).toLowerCase()
  let path = slash === -1 ? '/*' : text.slice(slash)
  const wildcardHost = host.startsWith('*.')
  if (wildcardHost) host = host.slice(2)
  if (host === '' || host.length > 253) refuse('has no usable host')
  if (host.includes(':')) refuse('has a port; routes match the host on every port')
  if (!host.split('.').every((label) => LABEL.test(label)))
    refuse(`has the host "${host}", which is not a host name`)
  if (/[?#\s]/.test(path)) refuse('has a query, fragment or space in its path')
  const prefixPath = path.endsWith('*')
  if (prefixPath) path = path.slice(0, -1)
  if (path.includes('*')) refuse('has a "*" inside its path; only the end may be one')
  return { host, wildcardHost, path, prefixPath }
}

/** The one spelling of a pattern: two routes clash exactly when their spellings are equal. */
export function formatRoutePattern(pattern: RoutePattern): string {
  return `${pattern.wildcardHost ? '*.' : ''}${pattern.host}${pattern.path}${pattern.prefixPath ? '*' : ''}`
}

/** `http(s)://host[:port]` without path, query or credentials. Throws `invalid_argument`. */
export function parseOrigin(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (
    url === undefined ||
    (url.protocol !== 'http:' && url.protocol !== 'https:') ||
    url.pathname !== '/' ||
    url.search !== '' ||
    url.hash !== '' ||
    url.username !== '' ||
    url.password !== ''
  ) {
    throw new IsolaError(
      'invalid_argument',
      `origin ${JSON.stringify(text)} is not usable: write http://host[:port] or https://host[:port], without a path`,
    )
  }
  return url.origin
}
