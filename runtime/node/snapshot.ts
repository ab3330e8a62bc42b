import type { Head } from '../../sdk/model/function.ts'
import type { Snapshot } from '../../sdk/model/snapshot.ts'
import type { EgressRules } from '../pool/wire.ts'

/** What the router needs of a head. */
export function snapshotOf(head: Head, baseDomain: string): Snapshot {
  return {
    generation: head.generation,
    baseDomain,
    functions: Object.values(head.functions).map((record) => ({
      name: record.name,
      kind: record.kind,
      shares: record.deployment.shares,
      patterns: record.routes.map(({ pattern }) => pattern),
      baseDomainHost: record.baseDomainHost,
      previewVersionIds: record.previewHosts ? record.recentVersionIds : [],
      policy: record.policy,
    })),
  }
}

/** Which hosts of which function lead to an origin instead of public DNS. */
export function originsOf(head: Head): EgressRules['origins'] {
  return Object.fromEntries(
    Object.values(head.functions).flatMap((record) => {
      const origins = record.routes.flatMap(({ pattern, origin }) =>
        origin === undefined ? [] : [{ pattern, origin }],
      )
      return origins.length === 0 ? [] : [[record.name, origins]]
    }),
  )
}
