/**
 * Cloudflare's v4 API as far as wrangler calls it: a translation onto the operations of runtime/control, and no second way
 * to do anything. The token is asked for before anything else, also for paths that do not exist; a wrong one is refused
 * with Cloudflare's own code, on which wrangler says what to do.
 */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto'
import { CloudflareError, knownError } from './api-error.ts'
import { drainBody } from './drain-body.ts'
import type { ApiCall, Endpoints, Handler, OpenEndpoint } from './endpoint.ts'
import { ENDPOINTS } from './endpoints.ts'
import { errorResponse, successResponse } from './envelope.ts'
import type { WranglerApiPorts } from './ports.ts'

/** What is mounted on the control server. Also with the doubled slashes that a base URL with a slash at its end makes. */
export function isWranglerApiPath(path: string): boolean {
  return /^\/+client\/+v4(?:\/|$)/.test(path)
}

export function createWranglerApi(
  ports: WranglerApiPorts,
  tables: readonly Endpoints[] = ENDPOINTS,
): (request: Request) => Promise<Response> {
  const routes = compileRoutes(tables)
  const isToken = tokenCheck(ports.token)
  const onFault = ports.onFault ?? reportToStderr
  return async (request) => {
    const requestId = randomUUID()
    let response: Response
    let isTrusted = false
    try {
      const { pathname, searchParams: query } = new URL(request.url)
      const segments = pathSegments(pathname)
      const match = findRoute(routes, request.method, segments)
      if (match?.route?.auth !== 'own') checkToken(request, segments, isToken)
      isTrusted = true
      const { route, params } = checkRoute(match, request.method, pathname)
      checkAccount(ports, params)
      response = successResponse(await route.handle({ ports, request, query, params, requestId }))
    } catch (error) {
      if (knownError(error) === undefined) onFault(error, requestId)
      response = errorResponse(error, requestId)
      if (isTrusted && request.body !== null && !request.bodyUsed && !request.body.locked) {
        await drainBody(request.body[Symbol.asyncIterator]())
      }
    }
    if (response.status !== 101) {
      response.headers.set('cf-ray', requestId)
      response.headers.set('cache-control', 'no-store')
    }
    return response
  }
}

interface Route extends OpenEndpointLike {
  readonly segments: readonly string[]
}

interface OpenEndpointLike {
  readonly auth: 'own' | 'token'
  readonly handle: Handler
}

/** The routes of a method, those with literals in front of those with parameters. */
type Routes = ReadonlyMap<string, readonly Route[]>

function compileRoutes(tables: readonly Endpoints[]): Routes {
  const byMethod = new Map<string, Route[]>()
  for (const [key, endpoint] of tables.flatMap((table) => Object.entries(table))) {
    const [method = '', path = ''] = key.split(' ')
    const routes = byMethod.get(method) ?? []
    routes.push({ segments: path.slice(1).split('/'), ...normalEndpoint(endpoint) })
    byMethod.set(method, routes)
  }
  for (const routes of byMethod.values()) routes.sort((a, b) => rank(a) - rank(b))
  return byMethod
}

function normalEndpoint(endpoint: Handler | OpenEndpoint): OpenEndpointLike {
  return typeof endpoint === 'function' ? { auth: 'token', handle: endpoint } : endpoint
}

/** Parameters count, the earlier the more. */
function rank({ segments }: Route): number {
  return segments.reduce((sum, segment, index) => sum + (segment.startsWith(':') ? 2 ** (16 - index) : 0), 0)
}

/** Behind the API's own path. Doubled and trailing slashes mean nothing: a base URL may end with one. */
function pathSegments(pathname: string): string[] {
  const segments = pathname.split('/').filter((segment) => segment !== '')
  return segments[0] === 'client' && segments[1] === 'v4' ? segments.slice(2) : segments
}

interface RouteMatch {
  readonly route: Route | undefined
  readonly params: Readonly<Record<string, string>>
  /** Methods that the path has. */
  readonly methods: readonly string[]
}

function findRoute(routes: Routes, method: string, segments: readonly string[]): RouteMatch | undefined {
  for (const route of routes.get(method) ?? []) {
    const params = matchSegments(route.segments, segments)
    if (params !== undefined) return { route, params, methods: [] }
  }
  const methods = [...routes].flatMap(([other, theirs]) =>
    theirs.some((route) => matchSegments(route.segments, segments) !== undefined) ? [other] : [],
  )
  return methods.length === 0 ? undefined : { route: undefined, params: {}, methods }
}

function matchSegments(
  pattern: readonly string[],
  segments: readonly string[],
): Record<string, string> | undefined {
  if (pattern.length !== segments.length) return undefined
  const params: Record<string, string> = {}
  for (const [index, expected] of pattern.entries()) {
    const segment = segments[index] ?? ''
    if (expected.startsWith(':')) params[expected.slice(1)] = decodeSegment(segment)
    else if (expected !== segment) return undefined
  }
  return params
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    throw new CloudflareError(
      'malformed',
      `the path segment ${JSON.stringify(segment.slice(0, 100))} is not percent-encoded UTF-8: encode it again`,
    )
  }
}

function checkRoute(
  match: RouteMatch | undefined,
  method: string,
  pathname: string,
): { readonly route: Route; readonly params: ApiCall['params'] } {
  if (match?.route !== undefined) return { route: match.route, params: match.params }
  const path = pathname.slice(0, 200)
  if (match !== undefined) {
    throw new CloudflareError(
      'noMethod',
      `${method} is not a method of ${path} here: it has ${match.methods.join(', ')}`,
    )
  }
  throw new CloudflareError(
    'noRoute',
    `isola does not have ${method} ${path}: what Workers need of Cloudflare's API is there, other products are not`,
  )
}

function checkToken(
  request: Request,
  [first, second]: readonly string[],
  isToken: (authorization: string | null) => boolean,
): void {
  if (isToken(request.headers.get('authorization'))) return
  const asksWhoItIs =
    first === 'user' || first === 'memberships' || (first === 'accounts' && second === undefined)
  throw new CloudflareError(
    asksWhoItIs ? 'unknownToken' : 'authentication',
    'Authentication error: this is an isola node, and CLOUDFLARE_API_TOKEN is not its token; "isola wrangler-env" prints the right one (the file "token" of the node’s data directory)',
  )
}

function checkAccount({ accountId }: WranglerApiPorts, { account }: ApiCall['params']): void {
  if (account === undefined || account === accountId) return
  throw new CloudflareError(
    'forbidden',
    `Authentication error: this isola node has one account, "${accountId}", and not ${JSON.stringify(account.slice(0, 64))}: set CLOUDFLARE_ACCOUNT_ID=${accountId}, and leave "account_id" out of the configuration`,
  )
}

/** Digests are compared, so that no length and no common beginning can be told from the time it takes. */
function tokenCheck(token: string): (authorization: string | null) => boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  const expected = digest(token)
  return (authorization) => {
    const [, given] = /^Bearer +(\S+) *$/i.exec(authorization ?? '') ?? []
    return given !== undefined && timingSafeEqual(digest(given), expected)
  }
}

function reportToStderr(error: unknown, requestId: string): void {
  console.error(`isola: request ${requestId} of wrangler's API failed:`, error)
}
