/** cgroup v1: one directory per controller. Memory must be there; without cpu, cpuacct or pids the rest still helps. */
import { join } from 'node:path'
import type { Cgroup, CgroupLimits, CgroupMount, CgroupTree } from './cgroup.ts'
import {
  childrenOf,
  killProcesses,
  readKey,
  readNumber,
  tryMakeDirectory,
  tryRemoveDirectory,
  tryWrite,
  write,
} from './cgroup-file.ts'

const CONTROLLERS = ['memory', 'cpu', 'cpuacct', 'pids'] as const
const MIB = 1024 * 1024
const CPU_PERIOD_US = 100_000

export function openTreeV1(
  mounts: readonly CgroupMount[],
  options: { readonly name: string },
): CgroupTree | { readonly unavailable: string } {
  const parents: Record<string, string> = {}
  for (const controller of CONTROLLERS) {
    const mount = mounts.find(({ version, controllers }) => version === 1 && controllers.includes(controller))
    // A path that is not there belongs to a container's host: the mount point is then our own group.
    const parent = [mount?.own, mount?.mountPoint]
      .filter((directory) => directory !== undefined)
      .map((directory) => join(directory, `isola-${options.name}`))
      .find(tryMakeDirectory)
    if (parent !== undefined) parents[controller] = parent
  }
  if (parents['memory'] === undefined)
    return { unavailable: 'cgroup v1: no group with a memory limit can be made' }
  const limiting = Object.keys(parents).filter((controller) => controller !== 'cpuacct')
  const directoriesOf = (id: string): Record<string, string> =>
    Object.fromEntries(Object.entries(parents).map(([controller, parent]) => [controller, join(parent, id)]))
  return {
    version: 1,
    description: `cgroup v1: ${limiting.join(', ')}`,
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

function cgroupV1(directories: Readonly<Record<string, string>>): Cgroup {
  const { memory, cpu, cpuacct, pids } = directories
  // Two controllers may be one mount (cpu,cpuacct): each directory counts once.
  const distinct = [...new Set(Object.values(directories))]
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
    usage() {
      const cpuNs = cpuacct === undefined ? undefined : readNumber(cpuacct, 'cpuacct.usage')
      const used = memory === undefined ? undefined : readNumber(memory, 'memory.usage_in_bytes')
      const inactive = memory === undefined ? 0 : (readKey(memory, 'memory.stat', 'total_inactive_file') ?? 0)
      return {
        cpuMs: cpuNs === undefined ? undefined : cpuNs / 1e6,
        memoryBytes: used === undefined ? undefined : Math.max(0, used - inactive),
      }
    },
    memoryKills: () => (memory === undefined ? 0 : (readKey(memory, 'memory.oom_control', 'oom_kill') ?? 0)),
    kill() {
      for (const directory of distinct) killProcesses(directory)
    },
    remove: () => distinct.map(tryRemoveDirectory).every(Boolean),
  }
}

/** Memory with swap may never be below memory: which goes first depends on the direction. */
function limitMemory(directory: string, bytes: number): void {
  if (tryWrite(directory, 'memory.limit_in_bytes', bytes)) {
    // Absent where the kernel does not account swap.
    tryWrite(directory, 'memory.memsw.limit_in_bytes', bytes)
    return
  }
  tryWrite(directory, 'memory.memsw.limit_in_bytes', bytes)
  write(directory, 'memory.limit_in_bytes', bytes)
}
