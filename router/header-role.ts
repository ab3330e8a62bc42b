import { INSTANCE_HEADERS } from '../runtime/pool/driver.ts'
import { INNER_DOOR_HEADERS } from '../runtime/pool/inner-door.ts'

/**
 * What the router does with a header, by its name: most are copied as they came. One look a header on the hot path,
 * so the length decides first and only names of a length that matters are lower-cased. `_` counts as `-`: CGI-like
 * servers in containers take `X_Forwarded_For` for `X-Forwarded-For`.
 */
export const ROLE = {
  copy: 0,
  /** Hop-by-hop, or a name that only the router may say. */
  drop: 1,
  host: 2,
  connection: 3,
  contentLength: 4,
  transferEncoding: 5,
  expect: 6,
  upgrade: 7,
  requestId: 8,
  traceparent: 9,
  tracestate: 10,
  stickyKey: 11,
  forwardedFor: 12,
  forwardedProto: 13,
  forwardedHost: 14,
  /** Others that tell of the client: a trusted proxy may say them. */
  proxyOnly: 15,
} as const

export type Role = (typeof ROLE)[keyof typeof ROLE]

const REQUEST_ROLES: Readonly<Record<string, Role>> = {
  te: ROLE.drop,
  host: ROLE.host,
  // httpoxy: CGI-like servers take it for the environment variable HTTP_PROXY.
  proxy: ROLE.drop,
  expect: ROLE.expect,
  trailer: ROLE.drop,
  upgrade: ROLE.upgrade,
  forwarded: ROLE.proxyOnly,
  'x-real-ip': ROLE.drop,
  connection: ROLE.connection,
  'keep-alive': ROLE.drop,
  tracestate: ROLE.tracestate,
  traceparent: ROLE.traceparent,
  'x-request-id': ROLE.requestId,
  'content-length': ROLE.contentLength,
  'http2-settings': ROLE.drop,
  'true-client-ip': ROLE.drop,
  'x-forwarded-for': ROLE.forwardedFor,
  'x-forwarded-host': ROLE.forwardedHost,
  'cf-connecting-ip': ROLE.drop,
  'proxy-connection': ROLE.drop,
  'x-forwarded-proto': ROLE.forwardedProto,
  'transfer-encoding': ROLE.transferEncoding,
  'cf-connecting-ipv6': ROLE.drop,
  'proxy-authorization': ROLE.drop,
  'x-isola-version-key': ROLE.stickyKey,
  'cloudflare-workers-version-key': ROLE.stickyKey,
}

/** Whether a request by the inner door carries it on. Who speaks there is a process of this node, or a function that passes a request on. */
export function isCopiedWithin(role: Role, name: string): boolean {
  switch (role) {
    case ROLE.copy:
    case ROLE.forwardedFor:
    case ROLE.forwardedProto:
    case ROLE.forwardedHost:
    case ROLE.proxyOnly:
      return true
    case ROLE.drop: {
      const lower = name.toLowerCase()
      return ABOUT_CLIENT.has(lower) || (lower.startsWith(OWN_PREFIX) && !NEVER_COPIED.has(lower))
    }
    default:
      return false
  }
}

export const OWN_PREFIX = 'isola-'

const ABOUT_CLIENT = new Set(['x-real-ip', 'true-client-ip', 'cf-connecting-ip', 'cf-connecting-ipv6'])
const NEVER_COPIED = new Set<string>([
  INNER_DOOR_HEADERS.functionName,
  INNER_DOOR_HEADERS.versionId,
  INNER_DOOR_HEADERS.assetsOf,
  INSTANCE_HEADERS.cf,
])

const RESPONSE_ROLES: Readonly<Record<string, Role>> = {
  te: ROLE.drop,
  trailer: ROLE.drop,
  upgrade: ROLE.upgrade,
  connection: ROLE.connection,
  'keep-alive': ROLE.drop,
  'x-request-id': ROLE.drop,
  'content-length': ROLE.contentLength,
  'x-isola-version': ROLE.drop,
  'proxy-connection': ROLE.drop,
  'transfer-encoding': ROLE.transferEncoding,
}

/** One more than the longest name above. */
const LENGTHS = 32

export const requestRole = roleFinder(REQUEST_ROLES, (name) => {
  if (name.startsWith('x-forwarded-')) return ROLE.proxyOnly
  return name.startsWith('isola-') ? ROLE.drop : ROLE.copy
})

export const responseRole = roleFinder(RESPONSE_ROLES, (name) =>
  name.startsWith('isola-') ? ROLE.drop : ROLE.copy,
)

function roleFinder(
  roles: Readonly<Record<string, Role>>,
  byPrefix: (name: string) => Role,
): (name: string) => Role {
  const roleByName = new Map(Object.entries(roles))
  // For each length, with which letters the names of that length begin (bit 0: a).
  const bitsByLength = new Int32Array(LENGTHS)
  for (const name of roleByName.keys()) bitsByLength[name.length]! |= 1 << (name.charCodeAt(0) - 97)
  const X_AND_I = (1 << 23) | (1 << 8)
  return (name) => {
    const letter = (name.charCodeAt(0) | 32) - 97
    if (letter < 0 || letter > 25) return ROLE.copy
    const bit = 1 << letter
    const known = name.length < LENGTHS && (bitsByLength[name.length]! & bit) !== 0
    if (!known && (X_AND_I & bit) === 0) return ROLE.copy
    const lower = canonical(name)
    return roleByName.get(lower) ?? byPrefix(lower)
  }
}

function canonical(name: string): string {
  const lower = name.toLowerCase()
  return lower.includes('_') ? lower.replaceAll('_', '-') : lower
}
