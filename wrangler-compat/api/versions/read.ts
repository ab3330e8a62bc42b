import { param, type ApiCall, type Endpoints } from '../endpoint.ts'
import type { FunctionRecord, Version } from '../../../sdk/model/function.ts'
import { CloudflareError } from '../api-error.ts'
import { findScript } from '../script-record.ts'
import { parseVersionUuid, versionUuid } from '../version-uuid.ts'
import { showVersion } from './show-version.ts'

export const readVersionEndpoints: Endpoints = {
  'GET /accounts/:account/workers/scripts/:script/versions': async (call) => {
    const record = findScript(call.ports.registry.head, param(call, 'script'))
    const versions = await newestFirst(call, record)
    return { items: versions.map((version, index) => showVersion(record, version, versions.length - index)) }
  },
  'GET /accounts/:account/workers/scripts/:script/versions/:version': async (call) => {
    const record = findScript(call.ports.registry.head, param(call, 'script'))
    return showVersion(record, await findVersion(call, record, param(call, 'version')))
  },
}

/** Throws `versionNotFound`. */
export async function findVersion(
  { ports }: ApiCall,
  { name }: FunctionRecord,
  text: string,
): Promise<Version> {
  const id = parseVersionUuid(text)
  const version = await ports.registry.getVersion(name, id)
  if (version !== undefined) return version
  throw new CloudflareError(
    'versionNotFound',
    `"${name}" has no version ${versionUuid(id)}: "wrangler versions list" shows those it has`,
  )
}

/** One that was uploaded again is as new as that, though it was made before. */
async function newestFirst({ ports }: ApiCall, record: FunctionRecord): Promise<readonly Version[]> {
  const versions = await ports.registry.listVersions(record.name)
  const place = (id: string): number => {
    const index = record.recentVersionIds.indexOf(id)
    return index === -1 ? record.recentVersionIds.length : index
  }
  return versions.toSorted((a, b) => place(a.id) - place(b.id))
}
