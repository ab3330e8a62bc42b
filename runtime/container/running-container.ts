/** A started container: its main process, its cgroup, and its end. */
import { identifyProcess, isSameProcess, type ProcessIdentity } from '../machine/process-handle.ts'
import type { Cgroup } from '../machine/cgroup.ts'
import type { ContainerCgroups } from './container-cgroup.ts'
import type { ContainerEnd, ContainerEnds } from './container-ends.ts'
import type { ContainerSpec, Engine } from './engine.ts'
import type { Removal } from './removal.ts'

/** What containers are made and watched with. */
export interface ContainerTools {
  readonly engine: Engine
  readonly ends: ContainerEnds
  readonly cgroups: ContainerCgroups
  readonly removal: Removal
  /** All that run or are about to end, to be killed and named together. */
  readonly alive: Set<RunningContainer>
}

export interface RunningContainer {
  readonly containerId: string
  /** On the host; 0 where it had ended before it was looked at. */
  readonly pid: number
  /** Undefined where its files cannot be found. */
  readonly cgroup: Cgroup | undefined
  /** Never rejects. */
  readonly ended: Promise<ContainerEnd>
  signal(signal: 'SIGTERM' | 'SIGKILL'): void
  /** Ends it if need be. Never rejects. */
  remove(): Promise<void>
}

/** Not started: what its door is made for may not be ready yet. Throws as the engine does. */
export interface CreatedContainer {
  readonly containerId: string
  /** Throws `start_failed` with the engine's words, `engine_unavailable`; nothing is then left of it. */
  start(): Promise<RunningContainer>
  remove(): Promise<void>
}

export async function createContainer(
  tools: ContainerTools,
  { name, spec }: { readonly name: string; readonly spec: ContainerSpec },
): Promise<CreatedContainer> {
  const { engine, ends, removal } = tools
  const containerId = await engine.createContainer(name, spec)
  const ended = ends.watch(containerId)
  const remove = async (): Promise<void> => {
    ends.forget(containerId)
    await removal.remove(containerId)
  }
  return {
    containerId,
    remove,
    async start() {
      try {
        await engine.startContainer(containerId)
        const pid = (await engine.inspectContainer(containerId))?.pid ?? 0
        return runningContainer(tools, { containerId, pid, ended })
      } catch (error) {
        await remove()
        throw error
      }
    },
  }
}

/** One that an earlier agent has started. */
export function adoptContainer(tools: ContainerTools, containerId: string, pid: number): RunningContainer {
  return runningContainer(tools, { containerId, pid, ended: tools.ends.watch(containerId) })
}

function runningContainer(
  tools: ContainerTools,
  {
    containerId,
    pid,
    ended,
  }: {
    readonly containerId: string
    readonly pid: number
    readonly ended: Promise<ContainerEnd>
  },
): RunningContainer {
  const { engine, ends, cgroups, removal, alive } = tools
  const identity = pid === 0 ? undefined : identifyProcess(pid)
  if (identity !== undefined) ends.started(containerId, identity)
  const signal = (name: 'SIGTERM' | 'SIGKILL'): void => {
    // Straight to the process, which takes no time and no engine; the end of the first process is the end of them all.
    if (identity !== undefined && trySignal(identity, name)) return
    engine.killContainer(containerId, name).catch(() => undefined)
  }
  const container: RunningContainer = {
    containerId,
    pid,
    cgroup: identity === undefined ? undefined : cgroups.find(containerId, pid),
    ended,
    signal,
    async remove() {
      alive.delete(container)
      ends.forget(containerId)
      await removal.remove(containerId)
    },
  }
  alive.add(container)
  void ended.then(() => alive.delete(container))
  return container
}

/** True also where it is gone already. */
function trySignal(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isSameProcess(identity)) return true
  try {
    return process.kill(identity.pid, signal)
  } catch {
    return false
  }
}
