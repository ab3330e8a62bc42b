import { z } from 'zod'
import { setHosting } from '../../runtime/control/hosting.ts'
import { readJson } from '../../runtime/control/request-body.ts'
import type { FunctionRecord } from '../../sdk/model/function.ts'
import { CloudflareError } from './api-error.ts'
import { param, type Endpoints } from './endpoint.ts'
import { findScript, withWrangler } from './script-record.ts'

const bodySchema = z.object({ enabled: z.boolean(), previews_enabled: z.boolean().nullish() })

/** `workers_dev` and preview URLs: the function's hosts under the base domain. */
export const subdomainEndpoints: Endpoints = {
  /** Of the account: what stands behind a script's name. wrangler appends ".workers.dev" only where a script has no URL. */
  'GET /accounts/:account/workers/subdomain': ({ ports }) => ({ subdomain: ports.baseDomain }),
  'PUT /accounts/:account/workers/subdomain': ({ ports }) => {
    throw new CloudflareError(
      'conflict',
      `functions answer under "${ports.baseDomain}" here, which is set where the node is started: isola up --base-domain DOMAIN`,
    )
  },
  'GET /accounts/:account/workers/scripts/:script/subdomain': (call) =>
    showSubdomain(findScript(call.ports.registry.head, param(call, 'script'))),
  'POST /accounts/:account/workers/scripts/:script/subdomain': async (call) => {
    const { name } = findScript(await call.ports.registry.refresh(), param(call, 'script'))
    const { enabled, previews_enabled: previews } = await readJson(call.request, bodySchema)
    const record = await setHosting(call.ports, name, {
      change: () => ({ baseDomainHost: enabled, previewHosts: previews ?? enabled }),
      amend: (next) => withWrangler(next, () => ({})),
    })
    return showSubdomain(record)
  },
  'DELETE /accounts/:account/workers/scripts/:script/subdomain': async (call) => {
    const { name } = findScript(await call.ports.registry.refresh(), param(call, 'script'))
    const record = await setHosting(call.ports, name, {
      change: () => ({ baseDomainHost: false, previewHosts: false }),
      amend: (next) => withWrangler(next, () => ({})),
    })
    return showSubdomain(record)
  },
}

function showSubdomain({ baseDomainHost, previewHosts }: FunctionRecord): Record<string, boolean> {
  return { enabled: baseDomainHost, previews_enabled: previewHosts }
}
