/**
 * Traffic for versions that are there. Going back to a version from before a secret was changed would take the secret back
 * as well; that is refused once, with the code on which wrangler asks, and done with `force`.
 */
import { z } from 'zod'
import { readJson } from '../../../runtime/control/request-body.ts'
import { setTraffic } from '../../../runtime/control/traffic.ts'
import type { FunctionRecord, Version } from '../../../sdk/model/function.ts'
import { CONTROL_LIMITS } from '../../../sdk/model/limits.ts'
import { CloudflareError } from '../api-error.ts'
import { param, type ApiCall, type Endpoints } from '../endpoint.ts'
import { findScript, withWrangler } from '../script-record.ts'
import { annotationsSchema } from '../upload/metadata.ts'
import { findVersion } from '../versions/read.ts'
import { showDeployment } from './read.ts'

const bodySchema = z.object({
  strategy: z.literal('percentage').nullish(),
  versions: z
    .array(z.object({ version_id: z.string(), percentage: z.number() }))
    .min(1, 'name at least one version')
    .max(CONTROL_LIMITS.trafficSharesMax),
  annotations: annotationsSchema,
})

export const createDeploymentEndpoints: Endpoints = {
  'POST /accounts/:account/workers/scripts/:script/deployments': async (call) => {
    const { ports } = call
    const functionName = param(call, 'script')
    const record = findScript(await ports.registry.refresh(), functionName)
    const { versions, annotations } = await readJson(call.request, bodySchema)
    const found: Version[] = []
    for (const { version_id: text } of versions) found.push(await findVersion(call, record, text))
    if (call.query.get('force') !== 'true') await checkSecrets(call, record, found)
    const shares = found.map(({ id }, index) => ({
      versionId: id,
      percent: versions[index]?.percentage ?? 0,
    }))
    const { deployment } = await setTraffic(
      ports,
      functionName,
      { shares, message: annotations?.['workers/message'] ?? '' },
      (next) => withWrangler(next, () => ({})),
    )
    return showDeployment(findScript(ports.registry.head, functionName), deployment)
  },
}

/** Only of going back as a whole: a split holds the version that has the newer secrets, too. */
async function checkSecrets(
  { ports }: ApiCall,
  record: FunctionRecord,
  wanted: readonly Version[],
): Promise<void> {
  const [target, another] = wanted
  const main = record.deployment.shares.toSorted((a, b) => b.percent - a.percent)[0]
  if (target === undefined || another !== undefined || main === undefined) return
  const current = await ports.registry.getVersion(record.name, main.versionId)
  if (current === undefined || !isOlder(record, target, current)) return
  const before = secretsOf(current)
  const after = secretsOf(target)
  const names = [...new Set([...before.keys(), ...after.keys()])].filter(
    (name) => before.get(name) !== after.get(name),
  )
  if (names.length === 0) return
  throw new CloudflareError(
    'secretsChanged',
    `secrets were changed since that version was made, and it has its own: ${names.slice(0, 10).join(', ')}. Deploy it with "wrangler rollback", which asks for this, or set the secrets again afterwards`,
  )
}

/** By what was uploaded last; of those that are not recent any more, by when they were made. */
function isOlder({ recentVersionIds }: FunctionRecord, version: Version, than: Version): boolean {
  const place = ({ id }: Version): number => {
    const index = recentVersionIds.indexOf(id)
    return index === -1 ? Number.POSITIVE_INFINITY : index
  }
  if (place(version) !== place(than)) return place(version) > place(than)
  return version.createdAt < than.createdAt
}

function secretsOf({ content }: Version): ReadonlyMap<string, string> {
  return new Map(
    content.bindings.flatMap((each) => (each.type === 'secret' ? [[each.name, each.sealed]] : [])),
  )
}
