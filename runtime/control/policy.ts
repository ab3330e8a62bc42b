import type { PolicyView } from '../../sdk/model/control.ts'
import type { FunctionRecord, Head } from '../../sdk/model/function.ts'
import { checkPolicy, mergePolicy, parsePolicyPatch, type PolicyPatch } from '../../sdk/model/policy.ts'
import { findFunction } from './find-function.ts'
import { untilLive } from './go-live.ts'
import type { ControlPorts } from './ports.ts'
import { checkSchedule } from './schedule.ts'
import { applyPatch, withChanges, type ChangeRequest } from './setting-change.ts'
import { swapFunction } from './swap-function.ts'

export function getPolicy(ports: ControlPorts, functionName: string): PolicyView {
  const { head } = ports.registry
  return viewOf(ports, head, findFunction(head, functionName))
}

/**
 * Sets and unsets fields of a function's policy. Throws `invalid_argument`, and changes nothing, for a field that is wrong
 * and for a policy that cannot be kept once it lies over the fleet's.
 */
export async function setPolicy(
  ports: ControlPorts,
  functionName: string,
  { patch, by }: ChangeRequest,
): Promise<PolicyView> {
  findFunction(ports.registry.head, functionName)
  const parsed = parsePolicyChange(patch)
  const author = { at: new Date().toISOString(), by, what: 'policy' } as const
  const { head, record } = await swapFunction(ports, (head) => {
    const record = findFunction(head, functionName)
    const applied = applyPatch(record.policy, parsed, author)
    if (applied === undefined) return record
    checkPolicy(mergePolicy(head.settings?.policy, applied.next))
    return { ...record, policy: applied.next, changes: withChanges(record.changes, applied.change) }
  })
  await untilLive(ports, head)
  return viewOf(ports, head, record)
}

/** Throws `invalid_argument` also for a schedule that is none. */
export function parsePolicyChange(
  patch: Readonly<Record<string, unknown>>,
): ReturnType<typeof parsePolicyPatch> {
  const parsed = parsePolicyPatch(patch)
  for (const { schedule } of parsed.set.prewarm ?? []) checkSchedule(schedule)
  return parsed
}

function viewOf(ports: ControlPorts, head: Head, record: FunctionRecord): PolicyView {
  const fleet: PolicyPatch = head.settings?.policy ?? {}
  return {
    functionName: record.name,
    policy: mergePolicy(fleet, record.policy),
    set: record.policy,
    fleet,
    scaling: ports.status().scaling.filter(({ functionName }) => functionName === record.name),
    changes: (record.changes ?? []).filter(({ what }) => what === 'policy'),
  }
}
