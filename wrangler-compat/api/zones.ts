/**
 * Zones are made up: isola matches host names, and whoever can point a name at the node has it. wrangler looks for the zone
 * of every route before it sets it, and asks that zone for its routes to see whether another script has one.
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { readJson } from '../../runtime/control/request-body.ts'
import { listRoutes } from '../../runtime/control/routes.ts'
import { parseRoutePattern } from '../../sdk/model/route.ts'
import { CloudflareError } from './api-error.ts'
import { param, type ApiCall, type Endpoints } from './endpoint.ts'
import { wholeList } from './envelope.ts'
import { firstPage } from './identity.ts'
import { setRoutes } from './routes.ts'
import { zoneId } from './zone-id.ts'

const routeSchema = z.object({ pattern: z.string(), script: z.string() })

export const zoneEndpoints: Endpoints = {
  'GET /zones': (call) => {
    const name = call.query.get('name')
    const names = name === null ? routedZones(call) : isHost(name) ? [name.toLowerCase()] : []
    return firstPage(
      call,
      names.map((each) => showZone(call, each)),
    )
  },
  'GET /zones/:zone': (call) => {
    const zone = param(call, 'zone')
    const name = routedZones(call).find((each) => zoneId(each) === zone)
    if (name !== undefined) return showZone(call, name)
    throw new CloudflareError(
      'noRoute',
      `no route lies in a zone with the id ${JSON.stringify(zone.slice(0, 64))}: name the zone, as in /zones?name=shop.example`,
    )
  },
  'GET /zones/:zone/workers/routes': (call) =>
    wholeList(routesOfZone(call).map(({ pattern, functionName }) => showRoute(pattern, functionName))),
  'POST /zones/:zone/workers/routes': async (call) => {
    const { pattern, script } = await readJson(call.request, routeSchema)
    await setRoutes(call, script, (routes) => [...routes, { pattern }])
    return showRoute(pattern, script)
  },
  'DELETE /zones/:zone/workers/routes/:id': async (call) => {
    const id = param(call, 'id')
    const found = routesOfZone(call).find(({ pattern }) => routeId(pattern) === id)
    if (found === undefined) {
      throw new CloudflareError(
        'noRoute',
        `the zone has no route with the id ${JSON.stringify(id.slice(0, 64))}`,
      )
    }
    await setRoutes(call, found.functionName, (routes) =>
      routes.filter(({ pattern }) => pattern !== found.pattern),
    )
    return { id }
  },
}

function routesOfZone(call: ApiCall): ReturnType<typeof listRoutes> {
  const zone = param(call, 'zone')
  return listRoutes(call.ports.registry.head).filter(({ pattern }) =>
    suffixes(parseRoutePattern(pattern).host).some((name) => zoneId(name) === zone),
  )
}

function routedZones({ ports }: ApiCall): readonly string[] {
  const hosts = listRoutes(ports.registry.head).map(({ pattern }) => parseRoutePattern(pattern).host)
  return [...new Set(hosts.flatMap(suffixes))]
}

/** A host and all that it lies in, but the last label alone. */
function suffixes(host: string): readonly string[] {
  const labels = host.split('.')
  return labels.slice(0, Math.max(1, labels.length - 1)).map((_, index) => labels.slice(index).join('.'))
}

function isHost(name: string): boolean {
  try {
    const { wildcardHost } = parseRoutePattern(name)
    return !wildcardHost && !name.includes('/')
  } catch {
    return false
  }
}

function showZone({ ports }: ApiCall, name: string): Record<string, unknown> {
  return {
    id: zoneId(name),
    name,
    status: 'active',
    paused: false,
    account: { id: ports.accountId, name: ports.accountId },
  }
}

function showRoute(pattern: string, script: string): Record<string, string> {
  return { id: routeId(pattern), pattern, script }
}

function routeId(pattern: string): string {
  return createHash('sha256').update(`route ${pattern}`).digest('hex').slice(0, 32)
}
