/**
 * Custom domains: whole hosts of one script. wrangler first asks what a list would change, then sets it, and says in the
 * second call whether a domain may be taken from another script; a route that is no custom domain is never taken.
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { setHosting, type HostingChange } from '../../runtime/control/hosting.ts'
import { readJson } from '../../runtime/control/request-body.ts'
import type { FunctionRecord, Head } from '../../sdk/model/function.ts'
import { WRANGLER_API_LIMITS } from '../../sdk/model/limits.ts'
import { parseRoutePattern } from '../../sdk/model/route.ts'
import { CloudflareError } from './api-error.ts'
import { param, type ApiCall, type Endpoints } from './endpoint.ts'
import { wholeList } from './envelope.ts'
import { findScript, withWrangler, wranglerRecord } from './script-record.ts'
import { zoneId, zoneNameOf } from './zone-id.ts'

const originSchema = z.object({ hostname: z.string(), enabled: z.boolean().nullish() })
const originsSchema = z.array(originSchema).max(WRANGLER_API_LIMITS.triggersPerCallMax)
const recordsSchema = z.object({
  override_existing_origin: z.boolean().nullish(),
  origins: originsSchema,
})

export const domainEndpoints: Endpoints = {
  'POST /accounts/:account/workers/scripts/:script/domains/changeset': async (call) => {
    const { head } = call.ports.registry
    const record = findScript(head, param(call, 'script'))
    const wanted = hostsOf(await readJson(call.request, originsSchema))
    const current = domainsOf(record)
    const added = wanted.filter((host) => !current.includes(host))
    const removed =
      call.query.get('replace_state') === 'true' ? current.filter((host) => !wanted.includes(host)) : []
    const holders = added.map((host) => ({ host, holder: holderOf(head, host) }))
    return {
      added: holders
        .filter(({ holder }) => holder === undefined)
        .map(({ host }) => showDomain(record.name, host)),
      removed: removed.map((host) => showDomain(record.name, host)),
      /** Of another script: wrangler asks for each before it goes on. */
      updated: holders.flatMap(({ host, holder }) =>
        holder === undefined ? [] : [{ ...showDomain(holder, host), modified: true }],
      ),
      conflicting: [],
    }
  },
  'PUT /accounts/:account/workers/scripts/:script/domains/records': async (call) => {
    const script = param(call, 'script')
    const { origins, override_existing_origin: override } = await readJson(call.request, recordsSchema)
    const record = await setDomains(call, script, { hosts: hostsOf(origins), mayTake: override === true })
    return domainsOf(record).map((host) => showDomain(record.name, host))
  },
  'GET /accounts/:account/workers/scripts/:script/domains/records': (call) => {
    const record = findScript(call.ports.registry.head, param(call, 'script'))
    return wholeList(domainsOf(record).map((host) => showDomain(record.name, host)))
  },
  'GET /accounts/:account/workers/domains': (call) => wholeList(listDomains(call)),
  'GET /accounts/:account/workers/domains/records': (call) => wholeList(listDomains(call)),
  'GET /accounts/:account/workers/domains/records/:id': (call) => {
    const id = param(call, 'id')
    const found = allDomains(call.ports.registry.head).find(({ host }) => domainId(host) === id)
    if (found !== undefined) return showDomain(found.script, found.host)
    throw new CloudflareError(
      'noRoute',
      `there is no custom domain with the id ${JSON.stringify(id.slice(0, 64))}: it may have been removed meanwhile`,
    )
  },
}

/** The route that a custom domain is. */
export function domainPattern(host: string): string {
  return `${host}/*`
}

/** The custom domains of a function that it still has the routes of: `isola deploy` may have set others. */
function domainsOf(record: FunctionRecord): readonly string[] {
  const patterns = new Set(record.routes.map(({ pattern }) => pattern))
  return wranglerRecord(record).customDomains.filter((host) => patterns.has(domainPattern(host)))
}

async function setDomains(
  { ports }: ApiCall,
  script: string,
  { hosts, mayTake }: { readonly hosts: readonly string[]; readonly mayTake: boolean },
): Promise<FunctionRecord> {
  const { name } = findScript(await ports.registry.refresh(), script)
  const change = (record: FunctionRecord, head: Head): HostingChange => {
    const before = new Set(domainsOf(record).map(domainPattern))
    const others = record.routes.filter(({ source, pattern }) => source === 'config' && !before.has(pattern))
    const taken = hosts.flatMap((host) => {
      const holder = mayTake ? holderOf(head, host) : undefined
      return holder === undefined || holder === name ? [] : [[domainPattern(host), holder] as const]
    })
    return {
      routes: [...others, ...hosts.map((host) => ({ pattern: domainPattern(host) }))],
      ...(taken.length > 0 && { takenFrom: new Map(taken) }),
    }
  }
  return await setHosting(ports, name, {
    change,
    amend: (record) => withWrangler(record, () => ({ customDomains: hosts })),
  })
}

/** Who has the host as a custom domain. */
function holderOf(head: Head, host: string): string | undefined {
  return allDomains(head).find((each) => each.host === host)?.script
}

function allDomains(head: Head): readonly { readonly script: string; readonly host: string }[] {
  return Object.values(head.functions).flatMap((record) =>
    domainsOf(record).map((host) => ({ script: record.name, host })),
  )
}

function listDomains({ ports, query }: ApiCall): readonly Record<string, unknown>[] {
  const service = query.get('service')
  const hostname = query.get('hostname')
  return allDomains(ports.registry.head)
    .filter(({ script, host }) => script === (service ?? script) && host === (hostname ?? host))
    .map(({ script, host }) => showDomain(script, host))
}

function showDomain(script: string, host: string): Record<string, unknown> {
  const zone = zoneNameOf(host)
  return {
    id: domainId(host),
    hostname: host,
    service: script,
    environment: 'production',
    zone_id: zoneId(zone),
    zone_name: zone,
    enabled: true,
    previews_enabled: false,
  }
}

function domainId(host: string): string {
  return createHash('sha256').update(`custom domain ${host}`).digest('hex').slice(0, 32)
}

/** In normal spelling, each once. Throws `malformed` for what is no host. */
function hostsOf(origins: z.infer<typeof originsSchema>): readonly string[] {
  const hosts = origins.filter(({ enabled }) => enabled !== false).map(({ hostname }) => readHost(hostname))
  return [...new Set(hosts)]
}

function readHost(hostname: string): string {
  if (!/[/*]/.test(hostname)) return parseRoutePattern(domainPattern(hostname)).host
  throw new CloudflareError(
    'malformed',
    `custom domain ${JSON.stringify(hostname.slice(0, 253))} is not a host name: write the host alone, e.g. "shop.example", or make it a route`,
  )
}
