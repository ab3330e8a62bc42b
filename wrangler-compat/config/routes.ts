import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { formatRoutePattern, parseRoutePattern } from '../../sdk/model/route.ts'
import type { ConfigPath } from '../../sdk/config/document.ts'
import { formatPath, type Problem } from '../../sdk/config/problem.ts'
import type { ChosenFields } from './environment.ts'
import type { ConfigRoute } from './schema.ts'

interface ReadRoutes {
  readonly routes: readonly { readonly pattern: string }[]
  readonly problems: readonly Problem[]
  readonly warnings: readonly { readonly path: ConfigPath; readonly message: string }[]
}

/** `route` or `routes` as patterns in their one spelling. A custom domain is a whole host. */
export function readRoutes({ fields, pathOf }: ChosenFields): ReadRoutes {
  const problems: Problem[] = []
  const warnings: { path: ConfigPath; message: string }[] = []
  const refuse = (path: ConfigPath, message: string): void => {
    problems.push({ code: 'config_invalid', path, message })
  }
  if (fields.route !== undefined && fields.routes !== undefined) {
    refuse(pathOf('route'), 'both "route" and "routes" are set: move the one into the other')
  }
  const given: readonly { route: ConfigRoute; path: ConfigPath }[] = [
    ...(fields.route === undefined ? [] : [{ route: fields.route, path: pathOf('route') }]),
    ...(fields.routes ?? []).map((route, index) => ({ route, path: [...pathOf('routes'), index] })),
  ]
  if (given.length > CONTROL_LIMITS.routesPerFunctionMax) {
    refuse(
      pathOf('routes'),
      `"routes" has ${given.length} routes, more than ${CONTROL_LIMITS.routesPerFunctionMax}: use wildcards`,
    )
    return { routes: [], problems, warnings }
  }
  const patterns = new Set<string>()
  for (const { route, path } of given) {
    const pattern = readRoute(route, path)
    if ('message' in pattern) {
      refuse(path, pattern.message)
      continue
    }
    if (patterns.has(pattern.text)) warnings.push({ path, message: `route "${pattern.text}" is there twice` })
    patterns.add(pattern.text)
    for (const message of pattern.warnings) warnings.push({ path, message })
  }
  return { routes: [...patterns].map((pattern) => ({ pattern })), problems, warnings }
}

function readRoute(
  route: ConfigRoute,
  path: ConfigPath,
): { text: string; warnings: string[] } | { message: string } {
  const given = typeof route === 'string' ? { pattern: route } : route
  const warnings: string[] = []
  for (const field of ['zone_id', 'zone_name'] as const) {
    if (given[field] === undefined) continue
    warnings.push(`"${formatPath([...path, field])}" has no effect: isola matches host names, not zones`)
  }
  if (given.custom_domain === true && /[/*]/.test(given.pattern)) {
    return {
      message: `custom domain "${given.pattern}" is not a host name: write the host alone, e.g. "shop.example", or leave "custom_domain" out`,
    }
  }
  if (given.custom_domain !== true && !given.pattern.includes('/')) {
    warnings.push(`route "${given.pattern}" has no path and so means the whole host, "${given.pattern}/*"`)
  }
  try {
    return { text: formatRoutePattern(parseRoutePattern(given.pattern)), warnings }
  } catch (error) {
    return { message: (error as Error).message }
  }
}
