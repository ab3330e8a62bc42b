/**
 * After a restart of the agent: what runs is taken over, everything else is cleared away. The engine's labels say which
 * containers are this node's, records which of them are instances; directories without a container, and containers
 * without a record, are what a kill between two steps left behind.
 */
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { CONTAINER_LABELS } from './container-labels.ts'
import { followOutput } from './container-output.ts'
import type { LambdaEnvironment } from '../lambda/wire.ts'
import type { ContainerInspection, ContainerSummary } from './engine.ts'
import { DATA_FOLDER, openHome, removeDirectory, RUN_FOLDER } from './home.ts'
import { createInstance, instanceLine, type ContainerInstance } from './instance.ts'
import { ownerOf } from './body.ts'
import type { ContainerParts } from './parts.ts'
import { withSecrets } from './lambda-function.ts'
import { readRecord, type ContainerRecord } from './record.ts'
import { adoptContainer } from './running-container.ts'
import { holdSandbox, type SandboxBlank } from './sandbox-blank.ts'

export interface Adoption {
  readonly instances: readonly ContainerInstance[]
  /** Settles when the rest is cleared away. Never rejects. */
  readonly cleared: Promise<unknown>
}

interface Found {
  readonly record: ContainerRecord
  readonly inspection: ContainerInspection
  readonly sandbox: SandboxBlank | undefined
}

/** Throws `engine_unavailable`: then nothing was changed. `known`: ids of what was adopted before. */
export async function adoptInstances(parts: ContainerParts, known: ReadonlySet<string>): Promise<Adoption> {
  await parts.tools.cgroups.parent()
  const { containers, directories } = await findRemains(parts, known)
  const containerById = new Map(containers.map((container) => [container.id, container]))
  const records = directories.map(({ path }) => readRecord(path))
  const found: Found[] = []
  await Promise.all(
    records.map(async (record) => {
      if (record === undefined) return
      const isRunning = containerById.get(record.containerId)?.running === true
      const candidate = isRunning ? await lookAt(parts, record) : undefined
      if (candidate === undefined) logGone(parts, record)
      else found.push(candidate)
    }),
  )
  const environments = found.flatMap(({ record }) => environmentFrom(parts, record) ?? [])
  const readyIds = await parts.lambda.resume(environments)
  const taken = found.filter(({ record }) => record.environment === undefined || readyIds.has(record.id))
  const lost = found.filter((candidate) => !taken.includes(candidate))
  for (const { record, sandbox } of lost) {
    logGone(parts, record)
    parts.lambda.close(record.id)
    if (sandbox !== undefined) parts.tools.ends.forget(sandbox.sandbox.containerId)
  }
  const instances = taken.map((candidate) => takeOver(parts, candidate))
  const kept = new Set(instances.map(({ id }) => id))
  return {
    instances,
    cleared: clearAway(parts, {
      containers: containers.filter((container) => !kept.has(idOf(container))),
      directories: directories.filter(({ id }) => !kept.has(id)).map(({ path }) => path),
    }),
  }
}

/**
 * What earlier agents left, where it is too late to take it over: the engine was away when this one started, and the
 * planner has begun without it. Throws `engine_unavailable`.
 */
export async function clearRemains(parts: ContainerParts, known: ReadonlySet<string>): Promise<void> {
  const { containers, directories } = await findRemains(parts, known)
  await clearAway(parts, { containers, directories: directories.map(({ path }) => path) })
}

interface Remains {
  readonly containers: readonly ContainerSummary[]
  readonly directories: readonly { readonly id: string; readonly path: string }[]
}

async function findRemains(parts: ContainerParts, known: ReadonlySet<string>): Promise<Remains> {
  const isOurs = (id: string): boolean => known.has(id) || parts.ids.isOwn(id)
  const folders = [join(parts.runDirectory, RUN_FOLDER), join(parts.dataDirectory, DATA_FOLDER)]
  const directories = folders.flatMap((folder) =>
    idsIn(folder)
      .filter((id) => !isOurs(id))
      .map((id) => ({ id, path: join(folder, id) })),
  )
  const labels = { [CONTAINER_LABELS.node]: parts.isolationName }
  const containers = await parts.tools.engine.listContainers(labels)
  return { containers: containers.filter((container) => !isOurs(idOf(container))), directories }
}

/** Undefined where it, or its sandbox, does not run any more. */
/** Undefined also where its secrets cannot be opened any more: the Lambda process could not serve it. */
function environmentFrom(
  parts: ContainerParts,
  { environment, version }: ContainerRecord,
): LambdaEnvironment | undefined {
  try {
    return environment && withSecrets(environment, version, parts)
  } catch {
    return undefined
  }
}

async function lookAt(parts: ContainerParts, record: ContainerRecord): Promise<Found | undefined> {
  const inspection = await parts.tools.engine.inspectContainer(record.containerId)
  if (inspection === undefined || inspection.pid === 0) return undefined
  if (!record.sandbox) return { record, inspection, sandbox: undefined }
  const sandbox = await parts.sandboxes.adopt(record.id)
  return sandbox === undefined ? undefined : { record, inspection, sandbox: holdSandbox(parts, sandbox) }
}

function takeOver(parts: ContainerParts, { record, inspection, sandbox }: Found): ContainerInstance {
  const { version, limits, startedAtMs, containerId } = record
  const home = openHome({ ...parts, id: record.id, adopted: true })
  // Lines of the time between the agents are the engine's to keep: which of them were delivered, nobody knows.
  const output = followOutput({
    engine: parts.tools.engine,
    containerId,
    sinceMs: Date.now(),
    owner: ownerOf(version, record.id),
    log: parts.log,
  })
  // One that is frozen stays so: the router that froze it may still have it, and a new one thaws what it is told of.
  const container = adoptContainer(parts.tools, containerId, inspection.pid)
  const { environment } = record
  const socketPath = environment === undefined ? (sandbox?.sandbox.httpSocket ?? '') : home.httpSocket
  const body = { home, container, sandbox, output, environment, socketPath }
  return createInstance(parts, { body, version, limits, startedAtMs })
}

async function clearAway(
  { tools }: ContainerParts,
  gone: { readonly containers: readonly ContainerSummary[]; readonly directories: readonly string[] },
): Promise<void> {
  // Containers first: what they still use cannot be removed.
  await Promise.all(gone.containers.map(({ id }) => tools.removal.remove(id)))
  await Promise.all(gone.directories.map(removeDirectory))
}

function logGone({ log }: ContainerParts, { version, id }: ContainerRecord): void {
  log(instanceLine(version, id, 'ended (crashed): ended while no agent was there to see how'))
}

function idOf({ labels }: ContainerSummary): string {
  return labels[CONTAINER_LABELS.id] ?? ''
}

function idsIn(folder: string): string[] {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  return readdirSync(folder)
}
