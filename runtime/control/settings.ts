/**
 * What holds for every function of the fleet that does not say otherwise. A change that would make any function's policy
 * impossible is refused. A ceiling is not: lowering it must work when it is needed, so it holds down what is above it,
 * and the answer names what that is.
 */
import type { HeldLimit, SettingsView } from '../../sdk/model/control.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { FunctionRecord, Head } from '../../sdk/model/function.ts'
import {
  FUNCTION_LIMIT_BOUNDS,
  parseCeilingPatch,
  parseFunctionLimitsPatch,
  type FunctionLimitsPatch,
} from '../../sdk/model/function-limits.ts'
import { checkPolicy, mergePolicy, type PolicyPatch } from '../../sdk/model/policy.ts'
import { NO_SETTINGS, type FleetSettings, type SettingChange } from '../../sdk/model/settings.ts'
import { inTurns } from '../registry/in-turns.ts'
import { limitsInService } from './function-limits.ts'
import { untilLive } from './go-live.ts'
import { parsePolicyChange } from './policy.ts'
import type { ControlPorts } from './ports.ts'
import { applyPatch, withChanges, type ChangeRequest } from './setting-change.ts'

type Patch = ChangeRequest['patch']

/** Patches of the three, and who sent them. */
export interface SettingsChangeRequest {
  readonly policy?: Patch | undefined
  readonly limits?: Patch | undefined
  readonly ceiling?: Patch | undefined
  readonly by: string
}

export async function getSettings(ports: ControlPorts): Promise<SettingsView> {
  return await viewOf(ports, ports.registry.head)
}

/** All of it or nothing. Throws `invalid_argument`, which names the function whose policy would be impossible. */
export async function setSettings(
  ports: ControlPorts,
  { policy = {}, limits = {}, ceiling = {}, by }: SettingsChangeRequest,
): Promise<SettingsView> {
  const parsedPolicy = parsePolicyChange(policy)
  const parsedCeiling = parseCeilingPatch(ceiling)
  const at = new Date().toISOString()
  const head = await ports.registry.swapSettings((head) => {
    const current = head.settings ?? NO_SETTINGS
    const changes: SettingChange[] = []
    const apply = <T extends object>(
      what: SettingChange['what'],
      set: T,
      patch: { readonly set: T; readonly unset: readonly (keyof T)[] },
    ): T => {
      const applied = applyPatch(set, patch, { at, by, what })
      if (applied === undefined) return set
      changes.unshift(applied.change)
      return applied.next
    }
    const nextPolicy = apply('policy', current.policy, parsedPolicy)
    if (nextPolicy !== current.policy) checkPolicies(head, nextPolicy)
    const nextCeiling = apply('ceiling', current.ceiling, parsedCeiling)
    const nextLimits = apply('limits', current.limits, parseFunctionLimitsPatch(limits, nextCeiling))
    if (changes.length === 0) return undefined
    const next: FleetSettings = {
      ...current,
      policy: nextPolicy,
      limits: nextLimits,
      ceiling: nextCeiling,
      changes: withChanges(current.changes, ...changes),
    }
    return next
  })
  await untilLive(ports, head)
  return await viewOf(ports, head)
}

function checkPolicies(head: Head, fleet: PolicyPatch): void {
  checkPolicy(mergePolicy(fleet))
  for (const record of Object.values(head.functions)) {
    try {
      checkPolicy(mergePolicy(fleet, record.policy))
    } catch (error) {
      throw new IsolaError(
        'invalid_argument',
        `function "${record.name}" could not keep its policy under this one of the fleet: ${(error as Error).message}`,
        { cause: error, details: { functionName: record.name } },
      )
    }
  }
}

async function viewOf(ports: ControlPorts, head: Head): Promise<SettingsView> {
  const settings = head.settings ?? NO_SETTINGS
  const fleet = heldOf(settings, settings.limits)
  const functions = await inTurns(Object.values(head.functions), (record) =>
    heldOfFunction(ports, settings, record),
  )
  return { ...settings, held: [...fleet, ...functions.flat()] }
}

async function heldOfFunction(
  ports: ControlPorts,
  settings: FleetSettings,
  record: FunctionRecord,
): Promise<HeldLimit[]> {
  const { ceiling } = settings
  const set = record.limits ?? {}
  const held = heldOf(settings, set).map((limit) => ({ functionName: record.name, ...limit }))
  // Only these two can be asked for by a version, and reading its document costs a read of the bucket.
  const asked = (['cpuMs', 'memoryMib'] as const).some(
    (field) => ceiling[field] !== undefined && set[field] === undefined,
  )
  if (!asked) return held
  for (const { versionId, limits } of await limitsInService(ports, record)) {
    const limit = heldOf(settings, limits).filter(({ field }) => set[field] === undefined)
    held.push(...limit.map((limit) => ({ functionName: record.name, versionId, ...limit })))
  }
  return held
}

function heldOf({ ceiling }: FleetSettings, limits: FunctionLimitsPatch): HeldLimit[] {
  const fields = Object.keys(FUNCTION_LIMIT_BOUNDS) as (keyof typeof FUNCTION_LIMIT_BOUNDS)[]
  return fields.flatMap((field) => {
    const wanted = limits[field]
    const most = ceiling[field]
    if (wanted === undefined || most === undefined || wanted <= most) return []
    return [{ field, wanted, ceiling: most }]
  })
}
