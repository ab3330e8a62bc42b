/**
 * `instance.json`: what the next agent must know to take an instance over, or to clear it away. Written when the
 * process is there, so that no process is ever unknown, and again when the instance runs: without `running` it is an
 * unclaimed blank or a start that nobody awaits any more.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { WorkerVersion } from '../../sdk/model/function.ts'
import type { StartOptions } from '../pool/driver.ts'
import type { ProcessIdentity } from '../machine/process-handle.ts'

export interface InstanceRecord {
  readonly formatVersion: 1
  readonly id: string
  readonly process: ProcessIdentity
  readonly uid: number
  /** Of its cgroup, by controller; absent where there is none. */
  readonly cgroup?: Readonly<Record<string, string>>
  readonly running?: {
    readonly version: WorkerVersion
    readonly startedAtMs: number
    /** In force since its start; absent in records of agents that knew only what the version asks for. */
    readonly limits?: StartOptions
  }
}

const FILE = 'instance.json'

/** Whole or not at all. */
export function writeRecord(directory: string, record: InstanceRecord): void {
  const path = join(directory, FILE)
  writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

/** Undefined where there is none that can be used. */
export function readRecord(directory: string): InstanceRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(join(directory, FILE), 'utf8')) as InstanceRecord
    return record.formatVersion === 1 ? record : undefined
  } catch {
    return undefined
  }
}
