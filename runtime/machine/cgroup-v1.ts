/**
 * cgroup v1: one directory per controller. Memory must be there; without cpu, cpuacct, pids or freezer the rest still
 * helps.
 */
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { NodeBudget } from '../pool/node-events.ts'
import type { Cgroup, CgroupLimits, CgroupMount, CgroupTree, MemoryKill } from './cgroup.ts'
import {
  childrenOf,
  clampWeight,
  killProcesses,
  limitAround,
  read,
  readKey,
  readNumber,
  tryMakeDirectory,
  tryRemoveDirectory,
  tryWrite,
  write,
} from './cgroup-file.ts'

export const CONTROLLERS_V1 = ['memory', 'cpu', 'cpuacct', 'pids', 'freezer'] as const
const MIB = 1024 * 1024
const CPU_PERIOD_US = 100_000
/**
 * `cpu.shares` of an ordinary group, what one process outside of all groups weighs, and what all instances together
 * weigh. Measured with 2 and 8 loops in instances and two cores: a process outside that wants a core (the router) gets
 * 88 to 97 % of it, and a hello among the loops still answers in 3 ms. With four times as much for the instances the
 * process outside gets a third of a core; with a quarter, the hello's slowest answers take 280 ms.
 */
const SHARES_ORDINARY = 1_024

export function openTreeV1(
  mounts: readonly CgroupMount[],
  options: { readonly name: string },
): CgroupTree | { readonly unavailable: string } {
  const parents: Record<string, string> = {}
  for (const controller of CONTROLLERS_V1) {
    const mount = mounts.find(({ version, controllers }) => version === 1 && controllers.includes(controller))
    // A path that is not there belongs to a container's host: the mount point is then our own group.
    const parent = [mount?.own, mount?.mountPoint]
      .filter((directory) => directory !== undefined)
      .map((directory) => join(directory, `isola-${options.name}`))
      .find(tryMakeDirectory)
    if (parent !== undefined) parents[controller] = parent
  }
  const { memory, cpu } = parents
  if (memory === undefined) return { unavailable: 'cgroup v1: no group with a memory limit can be made' }
  // Else a limit of the parent counts nothing of its children. Only possible while there are none; always so since Linux 5.11.
  tryWrite(memory, 'memory.use_hierarchy', 1)
  if (cpu !== undefined) tryWrite(cpu, 'cpu.shares', SHARES_ORDINARY)
  const limiting = Object.keys(parents).filter((controller) => controller !== 'cpuacct')
  const directoriesOf = (id: string): Record<string, string> =>
    Object.fromEntries(Object.entries(parents).map(([controller, parent]) => [controller, join(parent, id)]))
  return {
    version: 1,
    description: `cgroup v1: ${limiting.join(', ')}`,
    limitTogether(budget) {
      if (cpu !== undefined) limitCpuTogether(cpu, budget)
      return limitMemoryTogether(memory, budget)
    },
    create(id) {
      const directories = directoriesOf(id)
      for (const directory of Object.values(directories)) {
        if (!tryMakeDirectory(directory)) throw new Error(`cannot make the cgroup ${directory}`)
      }
      return cgroupV1(directories)
    },
    open: cgroupV1,
    find: (id) => cgroupV1(directoriesOf(id)),
    ids: () => [...new Set(Object.values(parents).flatMap(childrenOf))],
    close() {
      for (const parent of Object.values(parents)) tryRemoveDirectory(parent)
    },
  }
}

export function cgroupV1(directories: Readonly<Record<string, string>>): Cgroup {
  const { memory, cpu, cpuacct, pids, freezer } = directories
  // Two controllers may be one mount (cpu,cpuacct): each directory counts once.
  const distinct = [...new Set(Object.values(directories))]
  let measuredBytes: number | undefined
  const thaw = (): void => {
    if (freezer !== undefined) tryWrite(freezer, 'freezer.state', 'THAWED')
  }
  return {
    directories,
    processFiles: distinct.map((directory) => join(directory, 'cgroup.procs')),
    limit(limits: CgroupLimits) {
      if (memory !== undefined) limitMemory(memory, limits.memoryMib * MIB)
      if (cpu !== undefined) {
        tryWrite(cpu, 'cpu.cfs_period_us', CPU_PERIOD_US)
        tryWrite(cpu, 'cpu.cfs_quota_us', Math.round(limits.cpus * CPU_PERIOD_US))
      }
      if (pids !== undefined) write(pids, 'pids.max', limits.pids)
    },
    setCpuWeight(weight) {
      if (cpu !== undefined)
        tryWrite(cpu, 'cpu.shares', Math.round((clampWeight(weight) * SHARES_ORDINARY) / 100))
    },
    freezer:
      freezer === undefined
        ? undefined
        : { file: join(freezer, 'freezer.state'), frozen: 'FROZEN', thawed: 'THAWED' },
    // FREEZING, too: it no longer answers.
    isFrozen: () => freezer !== undefined && read(freezer, 'freezer.state')?.startsWith('FR') === true,
    thaw,
    usage() {
      const cpuNs = cpuacct === undefined ? undefined : readNumber(cpuacct, 'cpuacct.usage')
      const used = memory === undefined ? undefined : readNumber(memory, 'memory.usage_in_bytes')
      const inactive = memory === undefined ? 0 : (readKey(memory, 'memory.stat', 'total_inactive_file') ?? 0)
      const memoryBytes = used === undefined ? undefined : Math.max(0, used - inactive)
      // What is read after its end says nothing of it.
      if (memoryBytes !== undefined && memoryBytes > 0) measuredBytes = memoryBytes
      return { cpuMs: cpuNs === undefined ? undefined : cpuNs / 1e6, memoryBytes }
    },
    memoryKill: () => (memory === undefined ? undefined : memoryKill(memory, measuredBytes)),
    kill() {
      for (const directory of distinct) killProcesses(directory)
      // After the signal: what is thawed by it runs no line more.
      thaw()
    },
    remove: () => distinct.map(tryRemoveDirectory).every(Boolean),
  }
}

/**
 * v1 does not say whose limit a process was killed for (and `failcnt` leaves out refusals by memory with swap). A group
 * that never came near its own limit was killed for one above. Caches too bring a group to its limit, and harmlessly:
 * where both have been there, what was measured last decides.
 */
function memoryKill(directory: string, measuredBytes: number | undefined): MemoryKill | undefined {
  if ((readKey(directory, 'memory.oom_control', 'oom_kill') ?? 0) === 0) return undefined
  const parent = dirname(directory)
  const own = hasReachedLimit(directory)
  const parents = hasReachedLimit(parent)
  if (!own && !parents) return { reached: 'machine' }
  const limitBytes = readNumber(directory, 'memory.limit_in_bytes') ?? 0
  const isClear = !parents || measuredBytes === undefined
  if (own && (isClear || measuredBytes > limitBytes / 2)) return { reached: 'instance' }
  return {
    reached: 'budget',
    memoryMib: Math.round((readNumber(parent, 'memory.limit_in_bytes') ?? 0) / MIB),
  }
}

/** The kernel refuses in steps of up to 64 pages. */
const NEAR_LIMIT_BYTES = MIB

function hasReachedLimit(directory: string): boolean {
  return ['memory', 'memory.memsw'].some((counter) => {
    const limitBytes = readNumber(directory, `${counter}.limit_in_bytes`)
    const mostBytes = readNumber(directory, `${counter}.max_usage_in_bytes`)
    return limitBytes !== undefined && mostBytes !== undefined && mostBytes >= limitBytes - NEAR_LIMIT_BYTES
  })
}

function limitMemory(directory: string, bytes: number): void {
  if (!tryLimitMemory(directory, bytes)) write(directory, 'memory.limit_in_bytes', bytes)
}

/** Memory with swap may never be below memory: which goes first depends on the direction. */
function tryLimitMemory(directory: string, bytes: number): boolean {
  if (tryWrite(directory, 'memory.limit_in_bytes', bytes)) {
    // Absent where the kernel does not account swap.
    tryWrite(directory, 'memory.memsw.limit_in_bytes', bytes)
    return true
  }
  tryWrite(directory, 'memory.memsw.limit_in_bytes', bytes)
  return tryWrite(directory, 'memory.limit_in_bytes', bytes)
}

function limitMemoryTogether(parent: string, budget: NodeBudget | undefined): boolean {
  const bytes = budget === undefined ? -1 : budget.memoryMib * MIB
  if (tryLimitMemory(parent, bytes)) return true
  // The kernel has reclaimed what it could and then refused.
  tryLimitMemory(parent, limitAround(readNumber(parent, 'memory.usage_in_bytes') ?? 0))
  return false
}

/** No child may be allowed more than its parent: down, the children go first; up, the parent. */
function limitCpuTogether(parent: string, budget: NodeBudget | undefined): void {
  const cpus = budget?.cpus ?? Number.POSITIVE_INFINITY
  const quotaUs = cpus < availableParallelism() ? Math.round(cpus * CPU_PERIOD_US) : -1
  const childQuotaUs = Math.round(Math.min(INSTANCE_LIMITS.cpusDefault, cpus) * CPU_PERIOD_US)
  tryWrite(parent, 'cpu.cfs_period_us', CPU_PERIOD_US)
  tryWrite(parent, 'cpu.cfs_quota_us', quotaUs)
  for (const id of childrenOf(parent)) tryWrite(join(parent, id), 'cpu.cfs_quota_us', childQuotaUs)
  tryWrite(parent, 'cpu.cfs_quota_us', quotaUs)
}
