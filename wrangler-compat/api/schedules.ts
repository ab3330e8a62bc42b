import { z } from 'zod'
import { readJson } from '../../runtime/control/request-body.ts'
import { WRANGLER_API_LIMITS } from '../../sdk/model/limits.ts'
import { CloudflareError } from './api-error.ts'
import { param, type Endpoints } from './endpoint.ts'
import { findScript } from './script-record.ts'

const schedulesSchema = z.array(z.object({ cron: z.string() })).max(WRANGLER_API_LIMITS.triggersPerCallMax)

/** There are no crons yet. wrangler sends the list whenever the configuration has one, also an empty one. */
export const scheduleEndpoints: Endpoints = {
  'GET /accounts/:account/workers/scripts/:script/schedules': (call) => {
    findScript(call.ports.registry.head, param(call, 'script'))
    return { schedules: [] }
  },
  'PUT /accounts/:account/workers/scripts/:script/schedules': async (call) => {
    const { name } = findScript(await call.ports.registry.refresh(), param(call, 'script'))
    const schedules = await readJson(call.request, schedulesSchema)
    const [first] = schedules
    if (first === undefined) return { schedules: [] }
    throw new CloudflareError(
      'malformed',
      `"${name}" is deployed, but isola does not have cron triggers yet: it will not run at ${JSON.stringify(first.cron.slice(0, 100))}${schedules.length > 1 ? ` and ${schedules.length - 1} more` : ''}; remove "triggers.crons", or call it from a cron of your own`,
    )
  },
}
