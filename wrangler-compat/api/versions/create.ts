import { createVersion } from '../../../runtime/control/create-version.ts'
import type { Version } from '../../../sdk/model/function.ts'
import { param, type ApiCall, type Endpoints } from '../endpoint.ts'
import { findScript } from '../script-record.ts'
import { readUpload } from '../upload/read-upload.ts'
import { asScriptErrors } from '../upload/script-error.ts'
import { uploadAnnotations, versionRequest } from '../upload/version-request.ts'
import { withAnnotations } from './annotations.ts'
import { onNewestVersion } from './newest-version.ts'
import { showVersion } from './show-version.ts'

export const createVersionEndpoints: Endpoints = {
  'POST /accounts/:account/workers/scripts/:script/versions': async (call) => {
    const functionName = param(call, 'script')
    const { registry } = call.ports
    findScript(registry.head, functionName)
    const upload = await readUpload(call, functionName)
    let startupMs: number | undefined
    // Told to who uploads, and kept nowhere.
    const ports: ApiCall['ports'] = {
      ...call.ports,
      trialStart: async (version) => {
        const { trialMs } = await call.ports.trialStart(version)
        startupMs = Math.round(trialMs)
        return { trialMs }
      },
    }
    const version: Version = await asScriptErrors(() =>
      onNewestVersion(ports, functionName, async (newest) => {
        findScript(registry.head, functionName)
        const request = versionRequest(ports, functionName, { upload, newest })
        return await createVersion(ports, functionName, request, (record, versionId) =>
          withAnnotations(
            newest.checkStillNewest(record, versionId),
            versionId,
            uploadAnnotations(upload.metadata),
          ),
        )
      }),
    )
    return {
      ...showVersion(findScript(registry.head, functionName), version),
      ...(startupMs !== undefined && { startup_time_ms: startupMs }),
    }
  },
}
