import { showBinding, type ShownBinding } from '../../bindings/show-binding.ts'
import { isWorkerVersion, type FunctionRecord, type Version } from '../../../sdk/model/function.ts'
import { wranglerRecord } from '../script-record.ts'
import { versionUuid } from '../version-uuid.ts'
import { showAnnotations } from './annotations.ts'

/** Whoever holds the node's token: there are no others. */
export const AUTHOR = { author_id: 'isola', author_email: 'isola' } as const

/** A version as wrangler reads it. `number` counts from the oldest that is kept. */
export function showVersion(
  record: FunctionRecord,
  version: Version,
  number?: number,
): Record<string, unknown> {
  const { id, createdAt } = version
  return {
    id: versionUuid(id),
    ...(number !== undefined && { number }),
    metadata: {
      created_on: createdAt,
      modified_on: createdAt,
      source: 'wrangler',
      has_preview: record.previewHosts && record.recentVersionIds.includes(id),
      ...AUTHOR,
    },
    annotations: showAnnotations(record, id),
    resources: {
      script: { etag: id, handlers: ['fetch'], last_deployed_from: 'wrangler' },
      script_runtime: runtimeOf(record, version),
      bindings: showBindings(version),
    },
  }
}

export function showBindings(version: Version): readonly ShownBinding[] {
  const modules = isWorkerVersion(version) ? version.content.modules : []
  const kindByName = new Map(modules.map(({ name, kind }) => [name, kind]))
  return version.content.bindings.map((binding) => showBinding(binding, kindByName))
}

function runtimeOf(record: FunctionRecord, version: Version): Record<string, unknown> {
  const { placement } = wranglerRecord(record).annotations[version.id] ?? {}
  const { cpuMs } = version.content.limits
  return {
    usage_model: 'standard',
    ...(isWorkerVersion(version) && {
      compatibility_date: version.content.compatibilityDate,
      compatibility_flags: version.content.compatibilityFlags,
    }),
    ...(cpuMs !== undefined && { limits: { cpu_ms: cpuMs } }),
    ...(placement !== undefined && { placement }),
  }
}
