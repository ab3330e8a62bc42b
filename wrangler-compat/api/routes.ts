/**
 * Routes of scripts. Custom domains are routes of isola as well, and so are kept apart here: a new list of routes is none
 * of custom domains, which wrangler sets by a call of its own.
 */
import { z } from 'zod'
import { setHosting } from '../../runtime/control/hosting.ts'
import { readJson } from '../../runtime/control/request-body.ts'
import type { FunctionRecord, FunctionRoute } from '../../sdk/model/function.ts'
import { WRANGLER_API_LIMITS } from '../../sdk/model/limits.ts'
import { param, type ApiCall, type Endpoints } from './endpoint.ts'
import { wholeList } from './envelope.ts'
import { domainPattern } from './domains.ts'
import { findScript, withWrangler, wranglerRecord } from './script-record.ts'

/** Zones are made up from host names, so what is said of one (`zone_id`, `zone_name`) has no effect. */
const routeSchema = z.object({ pattern: z.string() })
const routesSchema = z.array(routeSchema).max(WRANGLER_API_LIMITS.triggersPerCallMax)

export const routeEndpoints: Endpoints = {
  'GET /accounts/:account/workers/scripts/:script/routes': (call) =>
    wholeList(
      plainRoutes(findScript(call.ports.registry.head, param(call, 'script'))).map(({ pattern }) => ({
        pattern,
      })),
    ),
  'PUT /accounts/:account/workers/scripts/:script/routes': async (call) => {
    const wanted = await readJson(call.request, routesSchema)
    const record = await setRoutes(call, param(call, 'script'), () => wanted)
    return plainRoutes(record).map(({ pattern }) => ({ pattern, script: record.name }))
  },
}

/** Replaces the routes that are no custom domains. Throws `routeTaken`, `malformed`. */
export async function setRoutes(
  { ports }: ApiCall,
  script: string,
  change: (routes: readonly FunctionRoute[]) => readonly { readonly pattern: string }[],
): Promise<FunctionRecord> {
  const { name } = findScript(await ports.registry.refresh(), script)
  return await setHosting(ports, name, {
    change: (record) => {
      const plain = plainRoutes(record)
      const domains = record.routes.filter((route) => route.source === 'config' && !plain.includes(route))
      const config = plain.filter(({ source }) => source === 'config')
      return { routes: [...domains, ...change(config)] }
    },
    amend: (record) => withWrangler(record, () => ({})),
  })
}

/** Those that are no custom domains. */
function plainRoutes(record: FunctionRecord): readonly FunctionRoute[] {
  const domains = new Set(wranglerRecord(record).customDomains.map(domainPattern))
  return record.routes.filter(({ pattern }) => !domains.has(pattern))
}
