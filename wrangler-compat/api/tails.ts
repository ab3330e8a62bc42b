import { z } from 'zod'
import { readBody, parseJson } from '../../runtime/control/request-body.ts'
import { CONTROL_LIMITS, TAIL_LIMITS } from '../../sdk/model/limits.ts'
import { CloudflareError } from './api-error.ts'
import { param, type ApiCall, type Endpoints, type Handler } from './endpoint.ts'
import { wholeList } from './envelope.ts'
import type { TailFilter, TailPort, TailSession } from './ports.ts'
import { findScript } from './script-record.ts'
import { parseVersionUuid } from './version-uuid.ts'

/** What wrangler calls a filter: one object for each of its flags. */
const text = z.string().max(TAIL_LIMITS.filterTextCharsMax)
const texts = z.array(text).min(1).max(TAIL_LIMITS.filterValuesMax)
const OUTCOMES = ['ok', 'canceled', 'exception', 'exceededCpu', 'exceededMemory', 'unknown'] as const

const filterSchema = z.strictObject({
  sampling_rate: z.number().gt(0).max(1).optional(),
  // As it is on Cloudflare, others are there that no request here ever ends with.
  outcome: z.union([texts, text]).optional(),
  method: z.union([texts, text]).optional(),
  header: z.strictObject({ key: text.min(1), query: text.optional() }).optional(),
  client_ip: z.union([texts, text]).optional(),
  query: text.optional(),
  scriptVersion: text.optional(),
})

const bodySchema = z.object({ filters: z.array(filterSchema).max(TAIL_LIMITS.filtersMax).nullish() })

type WranglerFilter = z.infer<typeof filterSchema>

const openTail: Handler = async (call) => {
  const { record, tails } = scriptOf(call)
  const filter = readFilters(await readBody(call.request, CONTROL_LIMITS.jsonBytesMax))
  const session = tails.open(record.name, filter)
  return { ...shown(session), url: socketUrl(call.request, session.path) }
}

const listTails: Handler = (call) => {
  const { record, tails } = scriptOf(call)
  // Without their addresses: who knows one may watch.
  return wholeList(tails.list(record.name).map(shown))
}

const closeTail: Handler = (call) => {
  const { ports } = call
  const id = param(call, 'tail')
  // wrangler ends its session also when the script is gone, which ended it already.
  if (ports.tails?.close(param(call, 'script'), id) === true) return null
  throw new CloudflareError(
    'noRoute',
    `there is no tail ${JSON.stringify(id.slice(0, 64))} of this script: it has ended already`,
  )
}

const SCRIPT = '/accounts/:account/workers/scripts/:script/tails'
/** Where wrangler up to 4.100 looks with `--env` in service environments. */
const SERVICE = '/accounts/:account/workers/services/:script/environments/:environment/tails'

export const tailEndpoints: Endpoints = {
  [`POST ${SCRIPT}`]: openTail,
  [`GET ${SCRIPT}`]: listTails,
  [`DELETE ${SCRIPT}/:tail`]: closeTail,
  [`POST ${SERVICE}`]: openTail,
  [`GET ${SERVICE}`]: listTails,
  [`DELETE ${SERVICE}/:tail`]: closeTail,
}

function scriptOf(call: ApiCall): {
  readonly record: ReturnType<typeof findScript>
  readonly tails: TailPort
} {
  const { registry, tails } = call.ports
  const record = findScript(registry.head, param(call, 'script'))
  if (tails !== undefined) return { record, tails }
  throw new CloudflareError(
    'noRoute',
    'this isola node has no tails: read the lines with "isola logs --follow"',
  )
}

function shown({ id, expiresAt }: TailSession): { readonly id: string; readonly expires_at: string } {
  return { id, expires_at: expiresAt }
}

/** Where the client already is: how it reaches this node, the node does not know. */
function socketUrl(request: Request, path: string): string {
  const url = new URL(request.url)
  const isSecure = url.protocol === 'https:' || request.headers.get('x-forwarded-proto') === 'https'
  return `${isSecure ? 'wss' : 'ws'}://${url.host}${path}`
}

function readFilters(body: Uint8Array): TailFilter {
  const result = bodySchema.safeParse(parseJson(body))
  if (!result.success) {
    const issue = result.error.issues[0]
    const at = issue === undefined || issue.path.length === 0 ? 'the body' : issue.path.join('.')
    throw new CloudflareError(
      'malformed',
      `the filters of this tail are not right: ${at}: ${issue?.message ?? ''}. Known are sampling_rate (above 0, at most 1), outcome (${OUTCOMES.join(', ')}), method, header, client_ip, query and scriptVersion`,
    )
  }
  const filters = result.data.filters ?? []
  const headers = filters.flatMap(({ header }) =>
    header === undefined
      ? []
      : [
          {
            name: header.key.toLowerCase(),
            ...(header.query !== undefined && header.query !== '' && { text: header.query }),
          },
        ],
  )
  const {
    sampling_rate: samplingRate,
    query,
    scriptVersion,
  } = Object.assign({}, ...filters) as WranglerFilter
  const methods = listOf(filters, 'method').map((method) => method.toUpperCase())
  const outcomes = listOf(filters, 'outcome')
  const clientIps = listOf(filters, 'client_ip')
  return {
    ...(samplingRate !== undefined && { samplingRate }),
    ...(outcomes.length > 0 && { outcomes }),
    ...(methods.length > 0 && { methods }),
    ...(headers.length > 0 && { headers }),
    ...(clientIps.length > 0 && { clientIps }),
    ...(query !== undefined && query !== '' && { text: query }),
    ...(scriptVersion !== undefined && { versionId: parseVersionUuid(scriptVersion) }),
  }
}

function listOf(filters: readonly WranglerFilter[], key: 'outcome' | 'method' | 'client_ip'): string[] {
  return filters.flatMap((filter) => filter[key] ?? [])
}
