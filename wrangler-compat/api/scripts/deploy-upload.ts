/**
 * An upload that serves at once. A function that it makes answers on no host: wrangler says where a Worker answers in calls
 * of their own, and one that is only being prepared (a draft for its secrets) is to answer nowhere.
 */
import { deploy } from '../../../runtime/control/deploy.ts'
import type { AmendRecord } from '../../../runtime/control/create-version.ts'
import type { DeployResult, Hosting } from '../../../sdk/model/control.ts'
import type { FunctionRecord } from '../../../sdk/model/function.ts'
import type { ApiCall } from '../endpoint.ts'
import { newWranglerRecord, withWrangler } from '../script-record.ts'
import { asScriptErrors } from '../upload/script-error.ts'
import { settingsOf, uploadAnnotations, versionRequest, type Upload } from '../upload/version-request.ts'
import { withAnnotations } from '../versions/annotations.ts'
import { onNewestVersion } from '../versions/newest-version.ts'

const NOWHERE: Hosting = { routes: [], baseDomainHost: false, previewHosts: false }

export async function deployUpload(
  call: ApiCall,
  options: {
    readonly functionName: string
    readonly upload: Upload
    /** What else becomes of the record in the same swap. */
    readonly amend?: AmendRecord
  },
): Promise<DeployResult> {
  const { functionName, upload, amend } = options
  const { ports } = call
  const { metadata } = upload
  const at = new Date().toISOString()
  return await asScriptErrors(() =>
    onNewestVersion(ports, functionName, async (newest) => {
      const request = versionRequest(ports, functionName, { upload, newest })
      const hosting = newest.record === undefined ? NOWHERE : hostingOf(newest.record)
      return await deploy(ports, functionName, { ...request, ...hosting }, (planned, versionId) => {
        const checked = newest.checkStillNewest(planned, versionId)
        const begun =
          newest.record === undefined
            ? { ...checked, wrangler: newWranglerRecord(functionName, at) }
            : checked
        const annotated = withAnnotations(begun, versionId, uploadAnnotations(metadata))
        const next = withWrangler(annotated, ({ settings, tags }) => ({
          // As by the other path, where wrangler turns off what its configuration does not have.
          settings: { ...settings, observability: { enabled: false }, ...settingsOf(metadata) },
          tags: metadata.tags ?? tags,
        }))
        return amend?.(next, versionId) ?? next
      })
    }),
  )
}

/** As it is: no upload moves a function. */
export function hostingOf(record: FunctionRecord): Hosting {
  const { routes, baseDomainHost, previewHosts } = record
  return {
    routes: routes.filter(({ source }) => source === 'config').map(({ pattern }) => ({ pattern })),
    baseDomainHost,
    previewHosts,
  }
}
