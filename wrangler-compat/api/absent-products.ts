/**
 * Products that isola does not have yet, as far as wrangler asks for them while it deploys or deletes a script: there are
 * none of any, and making one is refused by name. What it would need them for is refused at the upload as well, as a
 * binding; here it is heard of before.
 */
import { z } from 'zod'
import { readJson } from '../../runtime/control/request-body.ts'
import { CloudflareError, type CloudflareErrorOptions } from './api-error.ts'
import { param, type ApiCall, type Endpoints, type Handler } from './endpoint.ts'
import { firstPage } from './identity.ts'

/** wrangler goes on where it hears these of one that is asked for by its name. */
const NO_SUCH = { r2: 10006, d1: 7404, workflow: 10200 } as const

const bodySchema = z.object({
  name: z.string().optional(),
  title: z.string().optional(),
  queue_name: z.string().optional(),
})

const ACCOUNT = '/accounts/:account'

export const absentProductEndpoints: Endpoints = {
  [`GET ${ACCOUNT}/storage/kv/namespaces`]: noneOf,
  [`POST ${ACCOUNT}/storage/kv/namespaces`]: refuse('KV namespaces', 'the KV namespace'),
  [`GET ${ACCOUNT}/r2/buckets`]: () => ({ buckets: [] }),
  [`POST ${ACCOUNT}/r2/buckets`]: refuse('R2 buckets', 'the R2 bucket'),
  [`GET ${ACCOUNT}/r2/buckets/:name`]: noSuch('R2 bucket', NO_SUCH.r2),
  [`GET ${ACCOUNT}/d1/database`]: noneOf,
  [`POST ${ACCOUNT}/d1/database`]: refuse('D1 databases', 'the D1 database'),
  [`GET ${ACCOUNT}/d1/database/:name`]: noSuch('D1 database', NO_SUCH.d1),
  [`GET ${ACCOUNT}/queues`]: queues,
  [`POST ${ACCOUNT}/queues`]: refuse('queues', 'the queue'),
  [`GET ${ACCOUNT}/workflows`]: noneOf,
  [`GET ${ACCOUNT}/workflows/:name`]: noSuch('Workflow', NO_SUCH.workflow),
  [`PUT ${ACCOUNT}/workflows/:name`]: refuse('Workflows', 'the Workflow'),
  [`GET ${ACCOUNT}/hyperdrive/configs`]: noneOf,
  [`POST ${ACCOUNT}/hyperdrive/configs`]: refuse('Hyperdrive', 'the Hyperdrive configuration'),
  [`GET ${ACCOUNT}/vectorize/v2/indexes`]: noneOf,
  [`POST ${ACCOUNT}/vectorize/v2/indexes`]: refuse('Vectorize', 'the index'),
  [`PUT ${ACCOUNT}/workers/triggers/:name`]: refuse('event triggers', 'the trigger of'),
}

/**
 * Asked for by name they are wanted by a configuration. An empty list would make wrangler say how to create them, which
 * cannot be done here.
 */
function queues(call: ApiCall): unknown {
  const names = call.query.getAll('name')
  if (names.length === 0) return noneOf(call)
  const quoted = names.slice(0, 5).map((name) => JSON.stringify(name.slice(0, 100)))
  throw new CloudflareError(
    'malformed',
    `the configuration names ${names.length === 1 ? 'the queue' : 'the queues'} ${quoted.join(', ')}, and isola does not have queues yet: remove ${names.length === 1 ? 'it' : 'them'}`,
  )
}

function noneOf(call: ApiCall): unknown {
  return firstPage(call, [])
}

function refuse(product: string, thing: string): Handler {
  return async (call) => {
    const name = call.params.name ?? (await nameInBody(call))
    const what = name === undefined ? thing : `${thing} ${JSON.stringify(name.slice(0, 100))}`
    throw new CloudflareError(
      'malformed',
      `${what} cannot be made: isola does not have ${product} yet; remove it from the configuration`,
    )
  }
}

function noSuch(thing: string, code: NonNullable<CloudflareErrorOptions['code']>): Handler {
  return (call) => {
    const name = JSON.stringify(param(call, 'name').slice(0, 100))
    throw new CloudflareError('noRoute', `there is no ${thing} ${name}: isola does not have any yet`, {
      code,
    })
  }
}

/** The name is for the message alone: what cannot be read is left out of it. */
async function nameInBody({ request }: ApiCall): Promise<string | undefined> {
  try {
    const { name, title, queue_name } = await readJson(request, bodySchema)
    return name ?? title ?? queue_name
  } catch {
    return undefined
  }
}
