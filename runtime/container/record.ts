/**
 * `record.json`: what the next agent must know to take an instance over. Labels say which containers are this node's,
 * but those of a blank cannot change when it is claimed; so a container is an instance only if its record says `running`.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ContainerVersion } from '../../sdk/model/function.ts'
import type { LambdaEnvironment } from '../lambda/wire.ts'
import type { StartOptions } from '../pool/driver.ts'

export interface ContainerRecord {
  readonly formatVersion: 1
  readonly id: string
  /** As the engine names it. */
  readonly containerId: string
  /** Whether it lives in a sandbox, which has its id. */
  readonly sandbox: boolean
  readonly version: ContainerVersion
  readonly startedAtMs: number
  /** In force since its start. */
  readonly limits: StartOptions
  /** As the Lambda process knows it; absent where it has nothing to do with it. */
  readonly environment?: LambdaEnvironment
}

const FILE = 'record.json'

/** Whole or not at all. */
export function writeRecord(directory: string, record: ContainerRecord): void {
  const path = join(directory, FILE)
  writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

/** Undefined where there is none that can be used. */
export function readRecord(directory: string): ContainerRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(join(directory, FILE), 'utf8')) as ContainerRecord
    return record.formatVersion === 1 ? record : undefined
  } catch {
    return undefined
  }
}
