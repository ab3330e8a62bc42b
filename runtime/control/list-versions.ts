import type { VersionSummary } from '../../sdk/model/control.ts'
import { findFunction } from './find-function.ts'
import type { ControlPorts } from './ports.ts'
import { previewUrl } from './urls.ts'

/** Newest first, with what each receives now. */
export async function listVersions(ports: ControlPorts, functionName: string): Promise<VersionSummary[]> {
  const record = findFunction(ports.registry.head, functionName)
  const percentById = new Map(record.deployment.shares.map((share) => [share.versionId, share.percent]))
  const address = { baseDomain: ports.baseDomain, port: ports.httpPort() }
  const versions = await ports.registry.listVersions(functionName)
  return versions.map(({ id, createdAt, message, content }) => {
    const url = previewUrl(record, id, address)
    return {
      id,
      createdAt,
      message,
      content,
      percent: percentById.get(id) ?? 0,
      ...(url !== undefined && { previewUrl: url }),
    }
  })
}
