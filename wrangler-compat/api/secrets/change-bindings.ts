import { createVersion, type AmendRecord } from '../../../runtime/control/create-version.ts'
import { deploy } from '../../../runtime/control/deploy.ts'
import type { Binding, WorkerContent } from '../../../sdk/model/function.ts'
import type { VersionAnnotations } from '../../../sdk/model/wrangler.ts'
import { CloudflareError } from '../api-error.ts'
import type { ApiCall } from '../endpoint.ts'
import { findScript } from '../script-record.ts'
import { hostingOf } from '../scripts/deploy-upload.ts'
import { asScriptErrors } from '../upload/script-error.ts'
import { requestOf } from '../upload/version-request.ts'
import { withAnnotations } from '../versions/annotations.ts'
import { onNewestVersion } from '../versions/newest-version.ts'

/**
 * A version as the newest with other bindings, put into service or not. Its id is answered. Throws `scriptNotFound`,
 * `noVersions`, and `latestNotDeployed` where putting it into service would also put there what nobody deployed.
 */
export async function changeBindings(
  { ports }: ApiCall,
  options: {
    readonly script: string
    readonly isDeployed: boolean
    readonly annotations: VersionAnnotations
    readonly change: (content: WorkerContent) => readonly Binding[]
  },
): Promise<string> {
  const { script, isDeployed, annotations, change } = options
  return await asScriptErrors(() =>
    onNewestVersion(ports, script, async ({ record, version, checkStillNewest }) => {
      if (record === undefined) return findScript(ports.registry.head, script).name
      if (version === undefined) {
        throw new CloudflareError('noVersions', `"${script}" has no version to change: deploy it first`)
      }
      const [share] = record.deployment.shares
      if (isDeployed && (record.deployment.shares.length > 1 || share?.versionId !== version.id)) {
        throw new CloudflareError(
          'latestNotDeployed',
          `the newest version of "${script}" is not deployed as its only one, and changing a secret would deploy it: deploy it first (wrangler versions deploy), or make a version with the secret (wrangler versions secret put)`,
        )
      }
      const request = {
        ...requestOf(version.content, annotations.message ?? ''),
        bindings: change(version.content),
      }
      const amend: AmendRecord = (next, versionId) => {
        const checked = checkStillNewest(next, versionId)
        // Nothing changed: what is said of the version that there is stays.
        return versionId === version.id ? checked : withAnnotations(checked, versionId, annotations)
      }
      if (!isDeployed) return (await createVersion(ports, script, request, amend)).id
      const { deployment } = await deploy(ports, script, { ...request, ...hostingOf(record) }, amend)
      return deployment.shares[0]?.versionId ?? ''
    }),
  )
}
