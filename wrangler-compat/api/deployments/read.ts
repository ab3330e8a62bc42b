import { param, type ApiCall, type Endpoints } from '../endpoint.ts'
import type { Deployment, FunctionRecord } from '../../../sdk/model/function.ts'
import { WRANGLER_API_LIMITS } from '../../../sdk/model/limits.ts'
import { findScript } from '../script-record.ts'
import { showAnnotations } from '../versions/annotations.ts'
import { AUTHOR } from '../versions/show-version.ts'
import { versionUuid } from '../version-uuid.ts'

export const readDeploymentEndpoints: Endpoints = {
  'GET /accounts/:account/workers/scripts/:script/deployments': async (call) => {
    const record = findScript(call.ports.registry.head, param(call, 'script'))
    const deployments = await listDeployments(call, record)
    return { deployments: deployments.map((deployment) => showDeployment(record, deployment)) }
  },
}

/** Newest first: each names the one that it replaced. */
async function listDeployments({ ports }: ApiCall, record: FunctionRecord): Promise<readonly Deployment[]> {
  const found: Deployment[] = []
  const { deploymentsListedMax } = WRANGLER_API_LIMITS
  let next: Deployment | undefined = record.deployment
  while (next !== undefined && found.length < deploymentsListedMax) {
    // Its versions may be collected by now: who asks for them would be told that they are not there.
    if (next !== record.deployment && !(await hasVersions(ports, record.name, next))) break
    found.push(next)
    next =
      next.previousId === undefined
        ? undefined
        : await ports.registry.getDeployment(record.name, next.previousId)
  }
  return found
}

async function hasVersions(
  { registry }: ApiCall['ports'],
  functionName: string,
  { shares }: Deployment,
): Promise<boolean> {
  for (const { versionId } of shares) {
    if ((await registry.getVersion(functionName, versionId)) === undefined) return false
  }
  return true
}

export function showDeployment(record: FunctionRecord, deployment: Deployment): Record<string, unknown> {
  const { id, createdAt, shares, message } = deployment
  const newest = shares[0]?.versionId ?? ''
  return {
    id,
    created_on: createdAt,
    source: 'wrangler',
    strategy: 'percentage',
    author_email: AUTHOR.author_email,
    versions: shares.map(({ versionId, percent }) => ({
      version_id: versionUuid(versionId),
      percentage: percent,
    })),
    annotations: {
      'workers/triggered_by': showAnnotations(record, newest)['workers/triggered_by'],
      ...(message !== '' && { 'workers/message': message }),
    },
  }
}
