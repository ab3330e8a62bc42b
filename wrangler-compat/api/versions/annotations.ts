import type { FunctionRecord } from '../../../sdk/model/function.ts'
import { WRANGLER_API_LIMITS } from '../../../sdk/model/limits.ts'
import type { VersionAnnotations, WranglerRecord } from '../../../sdk/model/wrangler.ts'
import { withWrangler, wranglerRecord } from '../script-record.ts'

/** The record with what is said of a version; of the oldest versions it is forgotten. */
export function withAnnotations(
  record: FunctionRecord,
  versionId: string,
  annotations: VersionAnnotations,
): FunctionRecord {
  return withWrangler(record, (wrangler) => ({
    annotations: bounded({ ...without(wrangler.annotations, versionId), [versionId]: annotations }),
  }))
}

/** What a client reads of a version's annotations. */
export function showAnnotations(record: FunctionRecord, versionId: string): Record<string, string> {
  const { message, tag, triggeredBy = 'upload' } = wranglerRecord(record).annotations[versionId] ?? {}
  return {
    'workers/triggered_by': triggeredBy,
    ...(message !== undefined && { 'workers/message': message }),
    ...(tag !== undefined && { 'workers/tag': tag }),
  }
}

function without(annotations: WranglerRecord['annotations'], id: string): WranglerRecord['annotations'] {
  const { [id]: _replaced, ...others } = annotations
  return others
}

/** Objects keep the order in which ids were added, the oldest first. */
function bounded(annotations: WranglerRecord['annotations']): WranglerRecord['annotations'] {
  return Object.fromEntries(Object.entries(annotations).slice(-WRANGLER_API_LIMITS.annotatedVersionsMax))
}
