import type { FunctionKind, TrafficShare } from '../../sdk/model/function.ts'
import type { Policy } from '../../sdk/model/policy.ts'
import type { SnapshotFunction } from '../../sdk/model/snapshot.ts'
import { hashText } from '../placement/hash.ts'

/** A function as requests need it: computed once a snapshot, shared by all requests. */
export interface FunctionEntry {
  readonly name: string
  readonly kind: FunctionKind
  readonly policy: Policy
  readonly shares: readonly TrafficShare[]
  /** What `chooseVersion` draws from, in the order of `shares`. */
  readonly choices: readonly VersionChoice[]
}

export interface VersionChoice {
  readonly versionId: string
  readonly percent: number
  /** Of all percents, those up to and with this one; above 0, the last is 1. */
  readonly cumulative: number
  readonly seed: number
}

export function compileFunction(record: SnapshotFunction): FunctionEntry {
  const shares = record.shares.filter(({ percent }) => percent > 0)
  const total = shares.reduce((sum, { percent }) => sum + percent, 0)
  let sum = 0
  const choices = shares.map(({ versionId, percent }, index) => {
    sum += percent
    const cumulative = index === shares.length - 1 ? 1 : sum / total
    return { versionId, percent, cumulative, seed: hashText(versionId) }
  })
  return { name: record.name, kind: record.kind, policy: record.policy, shares: record.shares, choices }
}
