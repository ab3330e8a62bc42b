import { CONTROL_LIMITS } from '../model/limits.ts'
import { formatRoutePattern, parseRoutePattern } from '../model/route.ts'
import type { ConfigPath } from './document.ts'
import type { Problem } from './problem.ts'
import type { ConfigFields } from './schema.ts'

/** Patterns in their one spelling, each once. */
export function readRoutes(
  given: NonNullable<ConfigFields['routes']>,
  path: ConfigPath,
): { readonly routes: readonly { readonly pattern: string }[]; readonly problems: readonly Problem[] } {
  const problems: Problem[] = []
  const refuse = (path: ConfigPath, message: string): void => {
    problems.push({ code: 'config_invalid', path, message })
  }
  if (given.length > CONTROL_LIMITS.routesPerFunctionMax) {
    refuse(
      path,
      `"routes" has ${given.length} routes, more than ${CONTROL_LIMITS.routesPerFunctionMax}: use wildcards`,
    )
    return { routes: [], problems }
  }
  const patterns = new Set<string>()
  for (const [index, route] of given.entries()) {
    try {
      const pattern = parseRoutePattern(typeof route === 'string' ? route : route.pattern)
      patterns.add(formatRoutePattern(pattern))
    } catch (error) {
      refuse([...path, index], (error as Error).message)
    }
  }
  return { routes: [...patterns].map((pattern) => ({ pattern })), problems }
}
