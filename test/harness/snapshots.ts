import { DEFAULT_FUNCTION_LIMITS } from '../../sdk/model/function-limits.ts'
import { DEFAULT_POLICY } from '../../sdk/model/policy.ts'
import type { Snapshot, SnapshotFunction } from '../../sdk/model/snapshot.ts'
import type { RouteTable } from '../../router/table/table.ts'

/** A function on no host at all, but for what is given. */
export function aFunction(name: string, options: Partial<SnapshotFunction> = {}): SnapshotFunction {
  return {
    name,
    kind: 'worker',
    shares: [{ versionId: `${name}-v1`, percent: 100 }],
    patterns: [],
    baseDomainHost: false,
    previewVersionIds: [],
    policy: DEFAULT_POLICY,
    limits: DEFAULT_FUNCTION_LIMITS,
    ...options,
  }
}

export function aSnapshot(functions: readonly SnapshotFunction[]): Snapshot {
  return { generation: 1, baseDomain: 'localhost', functions }
}

export function nameAt(table: RouteTable, host: string, target: string): string | undefined {
  return table.match(host, target)?.entry.name
}
