/**
 * Routes of functions. A pattern belongs to one function; two patterns clash when their normal spellings are equal.
 * `config` routes come with a deploy and go with the next; `operator` routes are added and removed by hand, and stay.
 * A pattern for a host that a function also has by name (`shop.<base-domain>/*`) is no clash: the router tries explicit
 * routes first, so an operator can put something else in front of a function's own host.
 */
import { IsolaError } from '../../sdk/model/errors.ts'
import type { RouteEntry } from '../../sdk/model/control.ts'
import type { FunctionRoute, Head } from '../../sdk/model/function.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { formatRoutePattern, parseOrigin, parseRoutePattern } from '../../sdk/model/route.ts'
import { findFunction } from './find-function.ts'
import { untilLive } from './go-live.ts'
import type { ControlPorts } from './ports.ts'
import { swapFunction } from './swap-function.ts'

export function listRoutes(head: Head): RouteEntry[] {
  return Object.values(head.functions).flatMap((record) =>
    record.routes.map((route) => ({ ...route, functionName: record.name })),
  )
}

/** Adds an operator route, or sets the origin of the one that is there. Throws `route_taken`, `invalid_argument`. */
export async function addRoute(
  ports: ControlPorts,
  functionName: string,
  route: { readonly pattern: string; readonly origin?: string | undefined },
): Promise<{ readonly generation: number }> {
  const added: FunctionRoute = {
    pattern: normalPattern(route.pattern),
    source: 'operator',
    ...(route.origin !== undefined && { origin: parseOrigin(route.origin) }),
  }
  const { head } = await swapFunction(ports, (head) => {
    const record = findFunction(head, functionName)
    const others = record.routes.filter((other) => other.pattern !== added.pattern)
    const routes = [...others, added]
    checkRoutesFree(head, functionName, routes)
    return { ...record, routes }
  })
  await untilLive(ports, head)
  return { generation: head.generation }
}

/** Throws `not_found` for a pattern the function does not have. */
export async function removeRoute(
  ports: ControlPorts,
  functionName: string,
  route: { readonly pattern: string },
): Promise<{ readonly generation: number }> {
  const pattern = normalPattern(route.pattern)
  const { head } = await swapFunction(ports, (head) => {
    const record = findFunction(head, functionName)
    const routes = record.routes.filter((other) => other.pattern !== pattern)
    if (routes.length === record.routes.length) {
      const has = record.routes.map((other) => other.pattern).join(', ')
      throw new IsolaError(
        'not_found',
        `"${functionName}" has no route "${pattern}": ${has === '' ? 'it has none' : `it has ${has}`}`,
      )
    }
    return { ...record, routes }
  })
  await untilLive(ports, head)
  return { generation: head.generation }
}

/** Patterns in normal spelling, each once. Throws `invalid_argument`. */
export function parsePatterns(routes: readonly { readonly pattern: string }[]): string[] {
  return [...new Set(routes.map((route) => normalPattern(route.pattern)))]
}

/** The routes after a deploy: config routes replaced; an operator's route of the same pattern wins, with its origin. */
export function configRoutes(
  existing: readonly FunctionRoute[],
  patterns: readonly string[],
): FunctionRoute[] {
  const operator = existing.filter((route) => route.source === 'operator')
  const taken = new Set(operator.map((route) => route.pattern))
  const config = patterns.filter((pattern) => !taken.has(pattern))
  return [...operator, ...config.map((pattern) => ({ pattern, source: 'config' as const }))]
}

/** Throws `route_taken` that names the other function, `invalid_argument` for too many routes. */
export function checkRoutesFree(head: Head, functionName: string, routes: readonly FunctionRoute[]): void {
  if (routes.length > CONTROL_LIMITS.routesPerFunctionMax) {
    throw new IsolaError(
      'invalid_argument',
      `"${functionName}" would have ${routes.length} routes and ${CONTROL_LIMITS.routesPerFunctionMax} is the most: join some with a wildcard host or a path prefix`,
    )
  }
  const wanted = new Set(routes.map((route) => route.pattern))
  for (const other of Object.values(head.functions)) {
    if (other.name === functionName) continue
    const clash = other.routes.find((route) => wanted.has(route.pattern))
    if (clash === undefined) continue
    throw new IsolaError(
      'route_taken',
      `route "${clash.pattern}" already belongs to function "${other.name}": remove it there or choose a narrower pattern`,
      { details: { pattern: clash.pattern, functionName: other.name } },
    )
  }
}

function normalPattern(text: string): string {
  return formatRoutePattern(parseRoutePattern(text))
}
