import type { LimitsView } from '../../sdk/model/control.ts'
import type { FunctionRecord, Head, VersionLimits } from '../../sdk/model/function.ts'
import {
  checkCeiling,
  LIMITS_BY_KIND,
  mergeFunctionLimits,
  parseFunctionLimitsPatch,
} from '../../sdk/model/function-limits.ts'
import { findFunction } from './find-function.ts'
import { untilLive } from './go-live.ts'
import type { ControlPorts } from './ports.ts'
import { applyPatch, withChanges, type ChangeRequest } from './setting-change.ts'
import { swapFunction } from './swap-function.ts'

export async function getLimits(ports: ControlPorts, functionName: string): Promise<LimitsView> {
  const { head } = ports.registry
  return await viewOf(ports, head, findFunction(head, functionName))
}

/** Sets and unsets limits of a function. Throws `invalid_argument`, also for what is above the fleet's ceiling. */
export async function setLimits(
  ports: ControlPorts,
  functionName: string,
  { patch, by }: ChangeRequest,
): Promise<LimitsView> {
  const author = { at: new Date().toISOString(), by, what: 'limits' } as const
  const { head, record } = await swapFunction(ports, (head) => {
    const record = findFunction(head, functionName)
    const parsed = parseFunctionLimitsPatch(patch, head.settings?.ceiling)
    const applied = applyPatch(record.limits ?? {}, parsed, author)
    if (applied === undefined) return record
    return { ...record, limits: applied.next, changes: withChanges(record.changes, applied.change) }
  })
  await untilLive(ports, head)
  return await viewOf(ports, head, record)
}

/**
 * A new version may not ask for more than the ceiling. One that is stored may: a ceiling that is lowered later holds it
 * down. Throws `invalid_argument` with both values.
 */
export function checkVersionLimits(head: Head, limits: Partial<VersionLimits>): void {
  for (const field of ['cpuMs', 'memoryMib'] as const) {
    const wanted = limits[field]
    if (wanted !== undefined) checkCeiling(field, wanted, head.settings?.ceiling ?? {})
  }
}

/** What the versions in service ask for, most traffic first. */
export async function limitsInService(
  ports: ControlPorts,
  record: FunctionRecord,
): Promise<LimitsView['versions']> {
  const shares = record.deployment.shares.toSorted((a, b) => b.percent - a.percent)
  const versions: { versionId: string; limits: Partial<VersionLimits> }[] = []
  for (const { versionId } of shares) {
    const version = await ports.registry.getVersion(record.name, versionId)
    if (version !== undefined) versions.push({ versionId, limits: version.content.limits })
  }
  return versions
}

async function viewOf(ports: ControlPorts, head: Head, record: FunctionRecord): Promise<LimitsView> {
  const { limits: fleet = {}, ceiling = {} } = head.settings ?? {}
  const set = record.limits ?? {}
  const versions = await limitsInService(ports, record)
  return {
    functionName: record.name,
    limits: mergeFunctionLimits(ceiling, LIMITS_BY_KIND[record.kind], fleet, versions[0]?.limits, set),
    set,
    versions,
    fleet,
    ceiling,
    changes: (record.changes ?? []).filter(({ what }) => what === 'limits'),
  }
}
