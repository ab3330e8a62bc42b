/**
 * What a script is to wrangler, from the record of the function that it is. Functions that `isola deploy` made are scripts
 * as well: what they lack of `WranglerRecord` is derived, so that it stays the same until it is written.
 */
import { createHash } from 'node:crypto'
import type { FunctionRecord, Head } from '../../sdk/model/function.ts'
import type { WranglerRecord } from '../../sdk/model/wrangler.ts'
import { CloudflareError } from './api-error.ts'

/** Throws `scriptNotFound` (10007), on which wrangler goes on as for a new script. */
export function findScript(head: Head, script: string): FunctionRecord {
  const record = Object.hasOwn(head.functions, script) ? head.functions[script] : undefined
  if (record !== undefined) return record
  throw new CloudflareError(
    'scriptNotFound',
    `This Worker does not exist on this account: there is no function ${JSON.stringify(script.slice(0, 100))} (workers.api.error.script_not_found)`,
  )
}

export function wranglerRecord(record: FunctionRecord): WranglerRecord {
  return record.wrangler ?? { ...newWranglerRecord(record.name, ''), ...deployedAt(record) }
}

function deployedAt({ deployment }: FunctionRecord): Pick<WranglerRecord, 'createdAt' | 'modifiedAt'> {
  return { createdAt: deployment.createdAt, modifiedAt: deployment.createdAt }
}

/** Of a script that is just being made; `at` is the time of that, ISO 8601. */
export function newWranglerRecord(script: string, at: string): WranglerRecord {
  return {
    tag: createHash('sha256').update(`script ${script} ${at}`).digest('hex').slice(0, 32),
    tags: [],
    createdAt: at,
    modifiedAt: at,
    settings: {},
    annotations: {},
    customDomains: [],
  }
}

/** The record with its wrangler part changed; `modifiedAt` is now. */
export function withWrangler(
  record: FunctionRecord,
  change: (wrangler: WranglerRecord) => Partial<WranglerRecord>,
): FunctionRecord {
  const wrangler = wranglerRecord(record)
  return {
    ...record,
    wrangler: { ...wrangler, modifiedAt: new Date().toISOString(), ...change(wrangler) },
  }
}
