import { numberedVersionIds, type FunctionRecord, type Head } from '../../sdk/model/function.ts'
import {
  DEFAULT_FUNCTION_LIMITS,
  LIMITS_BY_KIND,
  mergeFunctionLimits,
} from '../../sdk/model/function-limits.ts'
import { mergePolicy } from '../../sdk/model/policy.ts'
import type { Snapshot } from '../../sdk/model/snapshot.ts'
import type { EgressRules } from '../pool/wire.ts'
import type { AssetFiles } from './asset-files.ts'

/** What the router needs of a head: policy and limits as they are in force. */
export function snapshotOf(
  head: Head,
  baseDomain: string,
  assets?: Pick<AssetFiles, 'directory' | 'versionIdsOf'>,
): Snapshot {
  return {
    generation: head.generation,
    baseDomain,
    ...(assets && { assetsDirectory: assets.directory }),
    functions: Object.values(head.functions).map((record) => {
      const { wallMs, requestBytes, responseBytes } = limitsOf(head, record)
      const assetVersionIds = assets?.versionIdsOf(record) ?? []
      return {
        name: record.name,
        kind: record.kind,
        shares: record.deployment.shares,
        patterns: record.routes.map(({ pattern }) => pattern),
        baseDomainHost: record.baseDomainHost,
        previewVersionIds: record.previewHosts ? record.recentVersionIds : [],
        pinnedVersionIds: numberedVersionIds(record),
        ...(assetVersionIds.length > 0 && { assetVersionIds }),
        policy: mergePolicy(head.settings?.policy, record.policy),
        limits: {
          wallMs,
          requestBytes,
          responseBytes,
          // Long work is what containers are for; what they answer with is collected first.
          ...(record.kind === 'container' && { firstByteMs: wallMs }),
        },
      }
    }),
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

/** What functions may send out, of those that do not have the defaults: the rules are read anew with every head. */
export function egressLimitsOf(head: Head): EgressRules['limits'] {
  const limits: Record<string, EgressRules['limits'][string]> = {}
  for (const record of Object.values(head.functions)) {
    const { subrequests, egress } = limitsOf(head, record)
    const isDefault =
      subrequests === DEFAULT_FUNCTION_LIMITS.subrequests && egress === DEFAULT_FUNCTION_LIMITS.egress
    if (!isDefault) limits[record.name] = { subrequests, egress }
  }
  return limits
}

/** Scripts of dispatch namespaces, as far as their functions are there. */
export function dispatchOf({
  functions,
  dispatchNamespaces = {},
}: Head): NonNullable<EgressRules['dispatch']> {
  return Object.fromEntries(
    Object.entries(dispatchNamespaces).map(([name, { functionByScript }]) => [
      name,
      Object.fromEntries(
        Object.entries(functionByScript).filter(([, functionName]) => Object.hasOwn(functions, functionName)),
      ),
    ]),
  )
}

/** Of all versions alike: what a version asks for itself is CPU and memory only. */
function limitsOf(head: Head, record: FunctionRecord): ReturnType<typeof mergeFunctionLimits> {
  return mergeFunctionLimits(
    head.settings?.ceiling,
    LIMITS_BY_KIND[record.kind],
    head.settings?.limits,
    record.limits,
  )
}
