/**
 * After a restart of the agent: what runs is taken over, everything else is cleared away. Directories say what there
 * was; cgroups without a directory are what a kill between two steps left behind.
 */
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { WorkerVersion } from '../../sdk/model/function.ts'
import { calledServices } from '../pool/dispatch-call.ts'
import type { LogSink } from '../pool/driver.ts'
import type { Cgroup, CgroupTree } from '../machine/cgroup.ts'
import { sourceMapsOf } from './config-cache.ts'
import { openHome, removeCgroup, type EgressPort } from './home.ts'
import { createInstance, type IsolateInstance } from './instance.ts'
import { limitsInForce } from './limits-in-force.ts'
import { adoptedProcess, isSameProcess } from '../machine/process-handle.ts'
import { readRecord, type InstanceRecord } from './record.ts'
import { createStackMapper } from './stack-map.ts'
import { attachOutput } from './start.ts'
import type { UidPool } from './uid-pool.ts'

export interface AdoptOptions {
  readonly instancesDirectory: string
  readonly egress: EgressPort
  loadModules(version: WorkerVersion): Promise<ReadonlyMap<string, Uint8Array>>
  readonly log: LogSink
  readonly tree: CgroupTree | undefined
  readonly uids: UidPool
  /** Ids of this agent's own. */
  readonly known: ReadonlySet<string>
}

type RunningRecord = InstanceRecord & Required<Pick<InstanceRecord, 'running'>>

export async function adoptInstances(options: AdoptOptions): Promise<IsolateInstance[]> {
  const { instancesDirectory, tree, known } = options
  const adopted: IsolateInstance[] = []
  for (const id of readdirSync(instancesDirectory)) {
    if (known.has(id)) continue
    const directory = join(instancesDirectory, id)
    const record = readRecord(directory)
    if (record?.running === undefined) {
      await clearAway(record, directory, options)
      continue
    }
    const alive = isSameProcess(record.process)
    const instance = await adopt({ ...record, running: record.running }, directory, options)
    // One that ended meanwhile still has its last words and its cause to be logged.
    if (alive) adopted.push(instance)
    else await instance.cleared
  }
  const alive = new Set(adopted.map(({ id }) => id))
  for (const id of tree?.ids() ?? []) {
    if (known.has(id) || alive.has(id)) continue
    const cgroup = tree?.find(id)
    cgroup?.kill()
    await removeCgroup(cgroup)
  }
  return adopted
}

async function adopt(
  record: RunningRecord,
  directory: string,
  options: AdoptOptions,
): Promise<IsolateInstance> {
  const { egress, log, uids } = options
  const { version, startedAtMs } = record.running
  uids.reserve(record.uid)
  const home = openHome({
    id: record.id,
    uid: record.uid,
    directory,
    cgroup: cgroupOf(record, options),
    egress,
    adopted: true,
    onCleared: () => uids.release(record.uid),
  })
  egress.assign(record.id, version.functionName, calledServices(version.content))
  attachOutput({ blank: { home }, version, loaded: { mapStack: await stackMapperOf(version, options) }, log })
  // What was written while no agent was there, however much it is.
  home.logs.drain()
  const limits = limitsInForce(version, record.running.limits)
  // One that is frozen stays so: the router that froze it may still have it, and a new one thaws what it is told of.
  return createInstance({
    home,
    process: adoptedProcess(record.process),
    version,
    startedAtMs,
    limits,
    log,
  })
}

/** Positions of the bundle are better than no adoption. */
async function stackMapperOf(
  version: WorkerVersion,
  { loadModules }: AdoptOptions,
): Promise<(stack: string) => string> {
  try {
    return createStackMapper(sourceMapsOf(version, await loadModules(version)))
  } catch {
    return (stack) => stack
  }
}

async function clearAway(
  record: InstanceRecord | undefined,
  directory: string,
  options: AdoptOptions,
): Promise<void> {
  if (record !== undefined) {
    adoptedProcess(record.process).signal('SIGKILL')
    const cgroup = cgroupOf(record, options)
    cgroup?.kill()
    await removeCgroup(cgroup)
    options.egress.close(record.id)
  }
  rmSync(directory, { recursive: true, force: true })
}

function cgroupOf(record: InstanceRecord, { tree }: AdoptOptions): Cgroup | undefined {
  return record.cgroup === undefined ? undefined : tree?.open(record.cgroup)
}
