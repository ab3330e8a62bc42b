import type { VersionRequest } from '../../sdk/model/control.ts'
import { parseFunctionName, type FunctionRecord, type Version } from '../../sdk/model/function.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { versionId } from '../registry/version-id.ts'
import { checkAssetFiles } from './check-assets.ts'
import { checkBlobs, checkServices, checkVersion } from './check-version.ts'
import { checkNamespaces } from './dispatch-namespaces.ts'
import { findFunction } from './find-function.ts'
import { checkVersionLimits } from './function-limits.ts'
import { untilLive } from './go-live.ts'
import type { ControlPorts } from './ports.ts'
import { swapFunction } from './swap-function.ts'

/**
 * What else becomes of the record in the swap that puts a version into it: what another API keeps of it. Pure, as the swap
 * may run it more than once; what it throws passes through.
 */
export type AmendRecord = (record: FunctionRecord, versionId: string) => FunctionRecord

/**
 * A version of a function that is deployed already, to be given traffic later; its preview host answers at once.
 * Throws what `startVersion` throws, and `function_not_found`.
 */
export async function createVersion(
  ports: ControlPorts,
  functionName: string,
  request: VersionRequest,
  amend: AmendRecord = (record) => record,
): Promise<Version> {
  const { registry } = ports
  findFunction(registry.head, functionName)
  const { version } = await startVersion(ports, functionName, request)
  await registry.putVersion(version)
  const { head } = await swapFunction(ports, (head) => {
    const record = findFunction(head, functionName)
    const recentVersionIds = withRecentVersion(record.recentVersionIds, version.id)
    return amend({ ...record, recentVersionIds }, version.id)
  })
  await untilLive(ports, head)
  return (await registry.getVersion(functionName, version.id)) ?? version
}

/**
 * The version asked for, checked and started once. Nothing is written. Throws `invalid_argument`, `function_not_found`,
 * `config_unsupported`, `bundle_too_large`, `blob_missing`, and `version_refused` with the function's own message.
 */
export async function startVersion(
  ports: ControlPorts,
  functionName: string,
  request: VersionRequest,
): Promise<{ readonly version: Version; readonly trialMs: number }> {
  const content = checkVersion(request)
  checkVersionLimits(ports.registry.head, content.limits)
  checkServices(ports.registry.head, functionName, content)
  checkNamespaces(ports.registry.head, content)
  await checkBlobs(ports.registry, content)
  await checkAssetFiles(ports.registry, content)
  const version: Version = {
    id: versionId(parseFunctionName(functionName), content),
    functionName,
    content,
    createdAt: new Date().toISOString(),
    message: request.message ?? '',
    ...(request.kind === 'worker' && request.tag !== undefined && { tag: request.tag }),
  }
  const { trialMs } = await ports.trialStart(version)
  return { version, trialMs }
}

/** Newest first, each once, bounded. */
export function withRecentVersion(recent: readonly string[], id: string): string[] {
  return [id, ...recent.filter((other) => other !== id)].slice(0, CONTROL_LIMITS.recentVersionsMax)
}

/**
 * For the swap of a version that was made on top of the newest one of `before`: whether that still is the newest. By the
 * version behind the planned one, since what was made may be what there was already.
 */
export function isStillNewest(
  before: FunctionRecord | undefined,
  planned: FunctionRecord,
  versionId: string,
): boolean {
  const behind = (ids: readonly string[]): string | undefined => ids.find((id) => id !== versionId)
  return behind(before?.recentVersionIds ?? []) === behind(planned.recentVersionIds)
}
