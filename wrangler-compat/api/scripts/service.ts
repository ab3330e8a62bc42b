import { deleteFunction } from '../../../runtime/control/delete-function.ts'
import type { FunctionRecord } from '../../../sdk/model/function.ts'
import { CloudflareError } from '../api-error.ts'
import { param, type Endpoints } from '../endpoint.ts'
import { wholeList } from '../envelope.ts'
import { findScript, wranglerRecord } from '../script-record.ts'
import { callersOf } from './references.ts'

/** Deleting is refused without `force` while others name it. */
const STILL_REFERENCED = 10064

export const serviceEndpoints: Endpoints = {
  'GET /accounts/:account/workers/services/:script': (call) => {
    const { head } = call.ports.registry
    const script = param(call, 'script')
    // wrangler takes this code, too, for "a new Worker".
    if (!Object.hasOwn(head.functions, script)) {
      throw new CloudflareError(
        'serviceNotFound',
        `This Worker does not exist on your account: there is no function ${JSON.stringify(script.slice(0, 100))} (workers.api.error.service_not_found)`,
      )
    }
    const record = findScript(head, script)
    const { createdAt, modifiedAt } = wranglerRecord(record)
    return {
      id: record.name,
      created_on: createdAt,
      modified_on: modifiedAt,
      default_environment: {
        environment: 'production',
        created_on: createdAt,
        modified_on: modifiedAt,
        script: showScript(record),
      },
    }
  },
  'DELETE /accounts/:account/workers/services/:script': async (call) => {
    const functionName = param(call, 'script')
    const record = findScript(call.ports.registry.head, functionName)
    if (call.query.get('force') !== 'true') {
      const callers = await callersOf(call, record.name)
      if (callers.length > 0) {
        throw new CloudflareError(
          'conflict',
          `"${record.name}" is called by ${callers.map((name) => `"${name}"`).join(', ')}: remove the service bindings first, or delete it all the same with --force`,
          { code: STILL_REFERENCED },
        )
      }
    }
    await deleteFunction(call.ports, functionName)
    return { id: functionName }
  },
  'DELETE /accounts/:account/workers/scripts/:script': async (call) => {
    const functionName = param(call, 'script')
    findScript(call.ports.registry.head, functionName)
    await deleteFunction(call.ports, functionName)
    return { id: functionName }
  },
  'GET /accounts/:account/workers/scripts': (call) =>
    wholeList(Object.values(call.ports.registry.head.functions).map(showScript)),
}

/** `last_deployed_from` is always wrangler: of others it would ask whether to overwrite what they did. */
export function showScript(record: FunctionRecord): Record<string, unknown> {
  const { tag, tags, createdAt, modifiedAt, settings } = wranglerRecord(record)
  return {
    id: record.name,
    tag,
    tags,
    etag: record.deployment.shares[0]?.versionId ?? '',
    handlers: ['fetch'],
    last_deployed_from: 'wrangler',
    created_on: createdAt,
    modified_on: modifiedAt,
    usage_model: 'standard',
    logpush: settings.logpush ?? false,
  }
}
