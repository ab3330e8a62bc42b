import type { ApiCall, Endpoints } from '../endpoint.ts'
import { param } from '../endpoint.ts'
import { parseScriptName } from '../script-name.ts'
import { wranglerRecord } from '../script-record.ts'
import { readUpload } from '../upload/read-upload.ts'
import type { Upload } from '../upload/version-request.ts'
import { versionUuid } from '../version-uuid.ts'
import { deployUpload } from './deploy-upload.ts'
import type { DeployResult } from '../../../sdk/model/control.ts'

export const putScriptEndpoints: Endpoints = {
  'PUT /accounts/:account/workers/scripts/:script': async (call) => {
    const functionName = parseScriptName(param(call, 'script'))
    const upload = await readUpload(call, functionName)
    return showUpload(call, { upload, result: await deployUpload(call, { functionName, upload }) })
  },
}

/** `deployment_id` is the version's id: so wrangler calls it, and prints it as that. */
export function showUpload(
  { ports }: ApiCall,
  { upload, result }: { readonly upload: Upload; readonly result: DeployResult },
): Record<string, unknown> {
  const { functionName, trialMs } = result
  const id = result.deployment.shares[0]?.versionId ?? ''
  const record = ports.registry.head.functions[functionName]
  const wrangler = record && wranglerRecord(record)
  return {
    id: functionName,
    tag: wrangler?.tag,
    tags: wrangler?.tags ?? [],
    deployment_id: versionUuid(id),
    etag: id,
    handlers: ['fetch'],
    has_modules: typeof upload.metadata.main_module === 'string',
    has_assets: upload.assets !== undefined,
    created_on: wrangler?.createdAt,
    modified_on: wrangler?.modifiedAt,
    last_deployed_from: 'wrangler',
    usage_model: 'standard',
    ...(trialMs !== undefined && { startup_time_ms: Math.round(trialMs) }),
  }
}
