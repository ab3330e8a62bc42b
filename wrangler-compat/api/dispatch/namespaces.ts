import { z } from 'zod'
import {
  createNamespace,
  deleteNamespace,
  findNamespace,
  renameNamespace,
} from '../../../runtime/control/dispatch-namespaces.ts'
import { readJson } from '../../../runtime/control/request-body.ts'
import { isIsolaError } from '../../../sdk/model/errors.ts'
import type { DispatchNamespace } from '../../../sdk/model/wrangler.ts'
import { CloudflareError } from '../api-error.ts'
import { param, type ApiCall, type Endpoints } from '../endpoint.ts'
import { firstPage } from '../identity.ts'

const PATH = '/accounts/:account/workers/dispatch/namespaces'
const bodySchema = z.object({ name: z.string() })
const renameSchema = z.object({ name: z.string().optional() })

/** A namespace that is not there, and one whose name is taken or that is not empty: numbers that wrangler only prints. */
const NAMESPACE_NOT_FOUND = 100119
const NAMESPACE_CONFLICT = 100120

export const dispatchNamespaceEndpoints: Endpoints = {
  [`GET ${PATH}`]: async (call) => {
    const { dispatchNamespaces = {} } = await call.ports.registry.refresh()
    return firstPage(
      call,
      Object.entries(dispatchNamespaces).map(([name, namespace]) => showNamespace(call, name, namespace)),
    )
  },
  [`POST ${PATH}`]: (call) =>
    asNamespaceErrors(async () => {
      const { name } = await readJson(call.request, bodySchema)
      return showNamespace(call, name, await createNamespace(call.ports, name))
    }),
  [`GET ${PATH}/:namespace`]: (call) =>
    asNamespaceErrors(async () => {
      const name = param(call, 'namespace')
      return showNamespace(call, name, findNamespace(await call.ports.registry.refresh(), name))
    }),
  [`PUT ${PATH}/:namespace`]: rename,
  [`PATCH ${PATH}/:namespace`]: rename,
  [`DELETE ${PATH}/:namespace`]: (call) =>
    asNamespaceErrors(async () => {
      await deleteNamespace(call.ports, param(call, 'namespace'))
      return null
    }),
}

function rename(call: ApiCall): Promise<unknown> {
  return asNamespaceErrors(async () => {
    const name = param(call, 'namespace')
    const { name: newName = name } = await readJson(call.request, renameSchema)
    return showNamespace(call, newName, await renameNamespace(call.ports, { name, newName }))
  })
}

/** What is missing or in the way is a namespace, and no script. */
export async function asNamespaceErrors<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (!isIsolaError(error)) throw error
    if (error.code === 'not_found') {
      throw new CloudflareError('scriptNotFound', error.message, { cause: error, code: NAMESPACE_NOT_FOUND })
    }
    if (error.code === 'conflict') {
      throw new CloudflareError('conflict', error.message, { cause: error, code: NAMESPACE_CONFLICT })
    }
    if (error.code === 'invalid_argument') {
      throw new CloudflareError('malformed', error.message, { cause: error })
    }
    throw error
  }
}

function showNamespace(
  { ports }: ApiCall,
  name: string,
  { id, createdAt, modifiedAt, functionByScript }: DispatchNamespace,
): Record<string, unknown> {
  const account = ports.accountId
  return {
    namespace_id: id,
    namespace_name: name,
    created_on: createdAt,
    created_by: account,
    modified_on: modifiedAt,
    modified_by: account,
    script_count: Object.keys(functionByScript).length,
    trusted_workers: false,
  }
}
