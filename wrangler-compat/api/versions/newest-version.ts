/**
 * Secrets, `keep_bindings` and `inherit` build on the newest version of a script, whether it serves or not. Two changes that
 * build on the same one would lose what the first of them made; so each is tried again on what is newest by then. It is
 * the swap of the head that tells, and nothing is locked meanwhile.
 */
import { isStillNewest, type AmendRecord } from '../../../runtime/control/create-version.ts'
import { isWorkerVersion, type FunctionRecord, type WorkerVersion } from '../../../sdk/model/function.ts'
import { WRANGLER_API_LIMITS } from '../../../sdk/model/limits.ts'
import { CloudflareError } from '../api-error.ts'
import type { WranglerApiPorts } from '../ports.ts'

export interface NewestVersion {
  /** Absent: there is no such function yet. */
  readonly record?: FunctionRecord
  readonly version?: WorkerVersion
  /** For the swap: throws where another version came meanwhile, so that the work is done again. */
  readonly checkStillNewest: AmendRecord
}

class NewerVersion extends Error {}

export async function onNewestVersion<Result>(
  ports: WranglerApiPorts,
  functionName: string,
  work: (newest: NewestVersion) => Promise<Result>,
): Promise<Result> {
  for (let attempt = 1; attempt <= WRANGLER_API_LIMITS.newestVersionAttemptsMax; attempt++) {
    const head = await ports.registry.refresh()
    const record = Object.hasOwn(head.functions, functionName) ? head.functions[functionName] : undefined
    const version = record && (await newestVersionOf(ports, record))
    try {
      return await work({
        ...(record !== undefined && { record }),
        ...(version !== undefined && { version }),
        checkStillNewest: (next, versionId) => {
          if (!isStillNewest(record, next, versionId)) throw new NewerVersion()
          return next
        },
      })
    } catch (error) {
      if (!(error instanceof NewerVersion)) throw error
    }
  }
  throw new CloudflareError(
    'conflict',
    `"${functionName}" got ${WRANGLER_API_LIMITS.newestVersionAttemptsMax} versions of others while this one was made: try again`,
  )
}

/** Of those that there are: the one that was made or uploaded again last. */
export function newestVersionId(record: FunctionRecord): string | undefined {
  return record.recentVersionIds[0] ?? record.deployment.shares[0]?.versionId
}

/** Throws `conflict` for what is no Worker. */
async function newestVersionOf(
  { registry }: WranglerApiPorts,
  record: FunctionRecord,
): Promise<WorkerVersion | undefined> {
  const id = newestVersionId(record)
  const version = id === undefined ? undefined : await registry.getVersion(record.name, id)
  if (version === undefined || isWorkerVersion(version)) return version
  throw new CloudflareError(
    'conflict',
    `"${record.name}" is a container function, and no Worker: choose another name, or change it with "isola deploy"`,
  )
}
