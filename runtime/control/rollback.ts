import { IsolaError } from '../../sdk/model/errors.ts'
import type { DeployResult } from '../../sdk/model/control.ts'
import type { Deployment, FunctionRecord, TrafficShare } from '../../sdk/model/function.ts'
import { findFunction } from './find-function.ts'
import { findVersionIds } from './find-version.ts'
import { deployResult, newDeployment } from './go-live.ts'
import type { ControlPorts } from './ports.ts'
import { swapFunction } from './swap-function.ts'

/**
 * Back to the deployment before the current one, with its shares, or to a named version at 100 %. Routes, hosts and
 * policy stay. It is a deployment like any other: rolling back twice returns to where it began.
 * Throws `conflict` where there is nothing to go back to, `version_not_found`, `invalid_argument`.
 */
export async function rollback(
  ports: ControlPorts,
  functionName: string,
  request: { readonly versionId?: string | undefined; readonly message?: string | undefined },
): Promise<DeployResult> {
  const startedAtMs = performance.now()
  const target = await findTarget(ports, functionName, request.versionId)
  const { head, record } = await swapFunction(ports, (head) => {
    const record = findFunction(head, functionName)
    if (target.replaces !== undefined && record.deployment.id !== target.replaces) {
      throw new IsolaError(
        'conflict',
        `"${functionName}" was deployed by someone else at the same moment: look at what serves now, then roll back again`,
      )
    }
    const message = request.message ?? target.message
    const deployment = newDeployment({ shares: target.shares, message, previous: record.deployment })
    return { ...record, deployment }
  })
  return deployResult(ports, { head, record, startedAtMs })
}

interface RollbackTarget {
  readonly shares: readonly TrafficShare[]
  readonly message: string
  /** The deployment it was chosen against; absent where the target was named and does not depend on it. */
  readonly replaces?: string
}

async function findTarget(
  ports: ControlPorts,
  functionName: string,
  versionId: string | undefined,
): Promise<RollbackTarget> {
  const { registry } = ports
  const record = findFunction(await registry.refresh(), functionName)
  if (versionId !== undefined) {
    const [id = ''] = await findVersionIds(registry, functionName, [versionId])
    return { shares: [{ versionId: id, percent: 100 }], message: `rollback to ${id.slice(0, 8)}` }
  }
  const previous = await previousDeployment(ports, record)
  return {
    shares: previous.shares.map(({ versionId, percent }) => ({ versionId, percent })),
    message: `rollback to deployment ${previous.id.slice(0, 8)}`,
    replaces: record.deployment.id,
  }
}

async function previousDeployment(ports: ControlPorts, record: FunctionRecord): Promise<Deployment> {
  const { previousId } = record.deployment
  const previous =
    previousId === undefined ? undefined : await ports.registry.getDeployment(record.name, previousId)
  if (previous !== undefined) return previous
  throw new IsolaError(
    'conflict',
    `"${record.name}" has no earlier deployment to go back to: name a version ("isola versions ${record.name}" lists them)`,
  )
}
