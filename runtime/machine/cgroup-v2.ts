/**
 * cgroup v2: one directory for all controllers. A group that hands controllers on may hold no processes itself, so the
 * agent's own group is used in one of three ways, whichever works first:
 *   1. it may hand them on already (the root of the tree, or a service with a group prepared below it);
 *   2. it is a service's, a container's or a user's own: its processes move to a leaf `isola-<name>-node` beside ours;
 *   3. it is the session of a login, which is not ours to rearrange: root makes its group at the top of the tree.
 */
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, dirname, join } from 'node:path'
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

const CONTROLLERS = ['memory', 'cpu', 'pids'] as const
const MIB = 1024 * 1024
const CPU_PERIOD_US = 100_000
/** Every group has it since Linux 5.2, but that at the root. */
const FREEZE_FILE = 'cgroup.freeze'

export function openTreeV2(
  mounts: readonly CgroupMount[],
  options: { readonly name: string; readonly isRoot: boolean },
): CgroupTree | { readonly unavailable: string } {
  const mount = mounts.find(({ version }) => version === 2)
  if (mount === undefined) return { unavailable: 'cgroup v2 is not mounted' }
  const leafName = `isola-${options.name}-node`
  const own = basename(mount.own) === leafName ? dirname(mount.own) : mount.own
  const isLogin = own !== mount.mountPoint && !isServiceOf(own)
  const places = options.isRoot && isLogin ? [own, mount.mountPoint] : [own]
  let refusal = ''
  for (const place of places) {
    const mayMove = place === own && !(options.isRoot && isLogin)
    const handedOn = handOn(place, mayMove ? leafName : undefined)
    if (typeof handedOn !== 'string') {
      const parent = join(place, `isola-${options.name}`)
      if (tryMakeDirectory(parent) && enable(parent, handedOn)) return treeV2(parent, handedOn)
      refusal = `cannot make ${parent}`
    } else refusal = handedOn
  }
  return { unavailable: `cgroup v2: ${refusal}` }
}

/** A systemd unit's group, or one inside a user's own delegated tree. */
function isServiceOf(directory: string): boolean {
  return directory.endsWith('.service') || directory.includes('/user@')
}

/** The controllers that groups below `place` get, or why none, for a person. */
function handOn(place: string, leafName: string | undefined): string[] | string {
  const present = (read(place, 'cgroup.controllers') ?? '').trim().split(' ')
  const wanted = CONTROLLERS.filter((controller) => present.includes(controller))
  if (!wanted.includes('memory')) return `${place} has no memory controller`
  if (enable(place, wanted)) return wanted
  if (leafName === undefined) return `${place} may not hand on controllers`
  const leaf = join(place, leafName)
  if (!tryMakeDirectory(leaf))
    return `${place} is not ours to write: let the service delegate it (Delegate=yes)`
  for (const pid of (read(place, 'cgroup.procs') ?? '').split('\n')) {
    if (pid !== '') tryWrite(leaf, 'cgroup.procs', pid)
  }
  return enable(place, wanted) ? wanted : `${place} may not hand on controllers`
}

function enable(directory: string, controllers: readonly string[]): boolean {
  const enabled = (read(directory, 'cgroup.subtree_control') ?? '').trim().split(' ')
  if (controllers.every((controller) => enabled.includes(controller))) return true
  return tryWrite(
    directory,
    'cgroup.subtree_control',
    controllers.map((controller) => `+${controller}`).join(' '),
  )
}

function treeV2(parent: string, controllers: readonly string[]): CgroupTree {
  // As much for all instances as for the group of the router and the agent beside it.
  tryWrite(parent, 'cpu.weight', 100)
  const names = existsSync(join(parent, FREEZE_FILE)) ? [...controllers, 'freezer'] : controllers
  return {
    version: 2,
    description: `cgroup v2: ${names.join(', ')}`,
    limitTogether(budget) {
      limitCpuTogether(parent, budget)
      return limitMemoryTogether(parent, budget)
    },
    create(id) {
      const directory = join(parent, id)
      if (!tryMakeDirectory(directory)) throw new Error(`cannot make the cgroup ${directory}`)
      return cgroupV2(directory)
    },
    open: (directories) => cgroupV2(directories['unified']!),
    find: (id) => cgroupV2(join(parent, id)),
    ids: () => childrenOf(parent),
    close: () => void tryRemoveDirectory(parent),
  }
}

export function cgroupV2(directory: string): Cgroup {
  const freezeFile = join(directory, FREEZE_FILE)
  const freezer = existsSync(freezeFile) ? { file: freezeFile, frozen: '1', thawed: '0' } : undefined
  const thaw = (): void => {
    if (freezer !== undefined) tryWrite(directory, FREEZE_FILE, freezer.thawed)
  }
  return {
    directories: { unified: directory },
    processFiles: [join(directory, 'cgroup.procs')],
    limit(limits: CgroupLimits) {
      write(directory, 'memory.max', limits.memoryMib * MIB)
      // Absent on kernels without swap accounting.
      tryWrite(directory, 'memory.swap.max', 0)
      tryWrite(directory, 'memory.oom.group', 1)
      tryWrite(directory, 'cpu.max', `${Math.round(limits.cpus * CPU_PERIOD_US)} ${CPU_PERIOD_US}`)
      tryWrite(directory, 'pids.max', limits.pids)
    },
    setCpuWeight: (weight) => void tryWrite(directory, 'cpu.weight', clampWeight(weight)),
    freezer,
    isFrozen: () => freezer !== undefined && read(directory, FREEZE_FILE)?.trim() === freezer.frozen,
    thaw,
    usage() {
      const cpuUs = readKey(directory, 'cpu.stat', 'usage_usec')
      const used = readNumber(directory, 'memory.current')
      const inactive = readKey(directory, 'memory.stat', 'inactive_file') ?? 0
      return {
        cpuMs: cpuUs === undefined ? undefined : cpuUs / 1e3,
        memoryBytes: used === undefined ? undefined : Math.max(0, used - inactive),
      }
    },
    memoryKill: () => memoryKill(directory),
    kill() {
      if (!tryWrite(directory, 'cgroup.kill', 1)) killProcesses(directory)
      thaw()
    },
    remove: () => tryRemoveDirectory(directory),
  }
}

/** `oom` is counted where the limit was reached and above, `oom_kill` where the process was. */
function memoryKill(directory: string): MemoryKill | undefined {
  if ((readKey(directory, 'memory.events', 'oom_kill') ?? 0) === 0) return undefined
  if ((readKey(directory, 'memory.events', 'oom') ?? 0) > 0) return { reached: 'instance' }
  const parent = dirname(directory)
  // The local file leaves out what siblings reached of their own; Linux has it since 5.2.
  const reached = readKey(parent, 'memory.events.local', 'oom') ?? readKey(parent, 'memory.events', 'oom')
  const limitBytes = Number(read(parent, 'memory.max'))
  // "max" is no number.
  if (reached === undefined || reached === 0 || !Number.isFinite(limitBytes)) return { reached: 'machine' }
  return { reached: 'budget', memoryMib: Math.round(limitBytes / MIB) }
}

function limitMemoryTogether(parent: string, budget: NodeBudget | undefined): boolean {
  if (budget === undefined) return tryWrite(parent, 'memory.max', 'max')
  const bytes = budget.memoryMib * MIB
  const used = readNumber(parent, 'memory.current') ?? 0
  const cache =
    (readKey(parent, 'memory.stat', 'inactive_file') ?? 0) +
    (readKey(parent, 'memory.stat', 'active_file') ?? 0)
  // A limit below what cannot be reclaimed is taken, and then enforced by killing.
  const fits = used - cache <= bytes
  return tryWrite(parent, 'memory.max', fits ? bytes : limitAround(used)) && fits
}

function limitCpuTogether(parent: string, budget: NodeBudget | undefined): void {
  const cpus = budget?.cpus ?? Number.POSITIVE_INFINITY
  const quota = cpus < availableParallelism() ? String(Math.round(cpus * CPU_PERIOD_US)) : 'max'
  tryWrite(parent, 'cpu.max', `${quota} ${CPU_PERIOD_US}`)
}
