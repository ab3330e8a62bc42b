/**
 * Containers' cgroups, which the engine makes. All of a node's are below one parent, which has the node's budget: what
 * containers take together, they take neither from the router nor from the agent. Files are written here and not by the
 * engine's API where that would take a start ten milliseconds.
 */
import { availableParallelism } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { NodeBudget } from '../pool/node-events.ts'
import { cgroupOfProcess, readMounts, type Cgroup } from '../machine/cgroup.ts'
import {
  limitAround,
  read,
  readKey,
  readNumber,
  tryRemoveDirectory,
  tryWrite,
} from '../machine/cgroup-file.ts'
import type { Engine } from './engine.ts'

export interface ContainerCgroups {
  /** `HostConfig.CgroupParent` of every container. Throws `engine_unavailable`. */
  parent(): Promise<string | undefined>
  find(containerId: string, pid: number): Cgroup | undefined
  /** False where it cannot: the engine must then limit it from the start. */
  readonly canLimitCpus: boolean
  limitCpus(cgroup: Cgroup, cpus: number): void
  processesOf(cgroup: Cgroup): number[]
  /** How often containers together have come to their budget so far. */
  budgetHits(): number
  /** The budget in MiB, if they have come to it since. */
  budgetReachedMib(hitsBefore: number): number | undefined
  /** Removes the parent, if empty. */
  close(): Promise<void>
}

const MIB = 1024 * 1024
const CPU_PERIOD_US = 100_000
const REMOVE_PAUSE_MS = 20

export function openContainerCgroups(options: {
  readonly engine: Engine
  readonly isolationName: string
  readonly budget: NodeBudget | undefined
}): ContainerCgroups {
  const { budget } = options
  let parentName: Promise<string | undefined> | undefined
  let knownName: string | undefined
  let parentDirectories: Readonly<Record<string, string>> | undefined
  let isBudgetInForce = budget === undefined
  const budgetHits = (): number => {
    const { memory, unified } = parentDirectories ?? {}
    if (memory !== undefined) return readNumber(memory, 'memory.failcnt') ?? 0
    // The local file leaves out what containers reached of their own; Linux has it since 5.2.
    return unified === undefined ? 0 : (readKey(unified, 'memory.events.local', 'oom') ?? 0)
  }

  return {
    canLimitCpus: process.getuid?.() === 0,
    parent() {
      parentName ??= cgroupParentOf(options).then(
        (name) => (knownName = name),
        (error: unknown) => {
          parentName = undefined
          throw error
        },
      )
      return parentName
    },
    find(containerId, pid) {
      const cgroup = cgroupOfProcess(pid, containerId)
      if (cgroup !== undefined) parentDirectories ??= parentsOf(cgroup, knownName)
      // The engine makes the parent with its first child, so it cannot be limited before.
      if (parentDirectories !== undefined && !isBudgetInForce) {
        isBudgetInForce = limitTogether(parentDirectories, budget)
      }
      return cgroup
    },
    limitCpus({ directories }, cpus) {
      const quotaUs = Math.round(Math.min(cpus, budget?.cpus ?? Number.POSITIVE_INFINITY) * CPU_PERIOD_US)
      const { unified, cpu } = directories
      if (unified !== undefined) tryWrite(unified, 'cpu.max', `${quotaUs} ${CPU_PERIOD_US}`)
      if (cpu === undefined) return
      tryWrite(cpu, 'cpu.cfs_period_us', CPU_PERIOD_US)
      tryWrite(cpu, 'cpu.cfs_quota_us', quotaUs)
    },
    processesOf({ directories }) {
      const directory = directories['unified'] ?? directories['memory']
      const text = directory === undefined ? undefined : read(directory, 'cgroup.procs')
      return (text ?? '').split('\n').filter(Boolean).map(Number)
    },
    budgetHits,
    budgetReachedMib: (hitsBefore) => (budgetHits() > hitsBefore ? budget?.memoryMib : undefined),
    async close() {
      const names = Object.values(parentNamesOf(options.isolationName))
      // The engine makes it in every hierarchy, and removes it in none.
      const directories = readMounts('/proc/self').flatMap(({ mountPoint }) =>
        names.map((name) => join(mountPoint, name)),
      )
      const deadline = performance.now() + INSTANCE_LIMITS.removeTimeoutMs
      // The groups of containers that are gone go a moment after them.
      while (!directories.map(tryRemoveDirectory).every(Boolean) && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, REMOVE_PAUSE_MS))
      }
    },
  }
}

/** `HostConfig.CgroupParent` of whatever a node has in the engine. Throws `engine_unavailable`. */
export async function cgroupParentOf(options: {
  readonly engine: Engine
  readonly isolationName: string
}): Promise<string | undefined> {
  const { cgroupDriver } = await options.engine.info()
  return cgroupDriver === 'none' ? undefined : parentNamesOf(options.isolationName)[cgroupDriver]
}

function parentNamesOf(isolationName: string): { readonly cgroupfs: string; readonly systemd: string } {
  return {
    cgroupfs: `/isola-${isolationName}-containers`,
    // systemd nests slices at each dash.
    systemd: `isola${isolationName.replaceAll(/[^a-zA-Z0-9]/g, '')}.slice`,
  }
}

/** By controller. Undefined for a group that lies elsewhere: what is around that one is not ours. */
function parentsOf(
  { directories }: Cgroup,
  parentName: string | undefined,
): Readonly<Record<string, string>> | undefined {
  const entries = Object.entries(directories).map(
    ([controller, directory]) => [controller, dirname(directory)] as const,
  )
  const isOurs =
    parentName !== undefined && entries.every(([, parent]) => basename(parent) === basename(parentName))
  return isOurs ? Object.fromEntries(entries) : undefined
}

function limitTogether(
  { memory, cpu, unified }: Readonly<Record<string, string>>,
  budget: NodeBudget | undefined,
): boolean {
  const bytes = budget === undefined ? -1 : budget.memoryMib * MIB
  const isCpuLimited = budget !== undefined && budget.cpus < availableParallelism()
  const quotaUs = isCpuLimited ? Math.round(budget.cpus * CPU_PERIOD_US) : undefined
  if (unified !== undefined) {
    tryWrite(unified, 'cpu.max', `${quotaUs ?? 'max'} ${CPU_PERIOD_US}`)
    const usedBytes = readNumber(unified, 'memory.current') ?? 0
    // One below what is in use is taken, and then enforced by killing.
    const fits = usedBytes <= bytes
    return tryWrite(unified, 'memory.max', fits ? bytes : limitAround(usedBytes)) && fits
  }
  if (cpu !== undefined) {
    tryWrite(cpu, 'cpu.cfs_period_us', CPU_PERIOD_US)
    tryWrite(cpu, 'cpu.cfs_quota_us', quotaUs ?? -1)
  }
  return memory === undefined || tryWrite(memory, 'memory.limit_in_bytes', bytes)
}
