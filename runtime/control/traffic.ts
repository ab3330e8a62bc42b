import { IsolaError } from '../../sdk/model/errors.ts'
import type { DeployResult, TrafficRequest } from '../../sdk/model/control.ts'
import type { FunctionRecord } from '../../sdk/model/function.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { findFunction } from './find-function.ts'
import { findVersionIds } from './find-version.ts'
import { deployResult, newDeployment } from './go-live.ts'
import type { ControlPorts } from './ports.ts'
import { swapFunction } from './swap-function.ts'

/** What percents may miss 100 by: 33.33 three times is meant as everything. */
const SUM_TOLERANCE_PERCENT = 0.011

/** Divides a function's traffic over versions it has. Throws `invalid_argument`, `version_not_found`. */
export async function setTraffic(
  ports: ControlPorts,
  functionName: string,
  request: TrafficRequest,
  amend: (record: FunctionRecord) => FunctionRecord = (record) => record,
): Promise<DeployResult> {
  const startedAtMs = performance.now()
  findFunction(ports.registry.head, functionName)
  checkPercents(request.shares)
  const ids = await findVersionIds(
    ports.registry,
    functionName,
    request.shares.map((share) => share.versionId),
  )
  const twice = ids.find((id, index) => ids.indexOf(id) !== index)
  if (twice !== undefined) {
    throw new IsolaError('invalid_argument', `version ${twice} is there twice: give it one share`)
  }
  const shares = request.shares.map(({ percent }, index) => ({ versionId: ids[index] ?? '', percent }))
  const { head, record } = await swapFunction(ports, (head) => {
    const record = findFunction(head, functionName)
    const deployment = newDeployment({ shares, message: request.message, previous: record.deployment })
    return amend({ ...record, deployment })
  })
  return deployResult(ports, { head, record, startedAtMs })
}

function checkPercents(shares: TrafficRequest['shares']): void {
  if (shares.length === 0 || shares.length > CONTROL_LIMITS.trafficSharesMax) {
    throw new IsolaError(
      'invalid_argument',
      `traffic is divided over ${shares.length} versions: give 1 to ${CONTROL_LIMITS.trafficSharesMax}`,
    )
  }
  for (const { versionId, percent } of shares) {
    if (percent > 0 && percent <= 100) continue
    throw new IsolaError(
      'invalid_argument',
      `version ${versionId.slice(0, 32)} is to receive ${percent} percent: give more than 0 and at most 100, and leave out what receives nothing`,
    )
  }
  const sum = shares.reduce((total, share) => total + share.percent, 0)
  if (Math.abs(sum - 100) > SUM_TOLERANCE_PERCENT) {
    throw new IsolaError(
      'invalid_argument',
      `the shares sum to ${Math.round(sum * 1000) / 1000} percent: make them sum to 100`,
    )
  }
}
