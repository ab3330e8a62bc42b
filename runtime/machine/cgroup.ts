/**
 * Limits, accounting and a sure kill for one instance. Two kernels' worth of interface (`cgroup-v1.ts`,
 * `cgroup-v2.ts`) behind one shape; the tree is found through /proc/self, as the process itself sees it, so that it
 * is also right inside a container.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { cgroupV1, CONTROLLERS_V1, openTreeV1 } from './cgroup-v1.ts'
import { cgroupV2, openTreeV2 } from './cgroup-v2.ts'
import type { Freezer } from '../pool/wire.ts'
import type { NodeBudget } from '../pool/node-events.ts'

export interface CgroupLimits {
  readonly memoryMib: number
  readonly cpus: number
  readonly pids: number
}

/** Whose memory was used up when the kernel ended a process. */
export type MemoryKill =
  | { readonly reached: 'instance' }
  /** The limit of all instances together, which is `memoryMib`; this one was below its own. */
  | { readonly reached: 'budget'; readonly memoryMib: number }
  /** None of ours: the machine's, or that of a group around the whole node. */
  | { readonly reached: 'machine' }

export interface Cgroup {
  /** Directories by controller; where to find it again after a restart of the agent. */
  readonly directories: Readonly<Record<string, string>>
  /** The launching process writes its id to each. */
  readonly processFiles: readonly string[]
  limit(limits: CgroupLimits): void
  /** Share of the processors relative to its siblings; 100 is ordinary, 1 the least, 10000 the most. */
  setCpuWeight(weight: number): void
  /** Undefined where the machine has none, and for a group that was made without. */
  readonly freezer: Freezer | undefined
  isFrozen(): boolean
  /** What is frozen reads no signal: under v1 not even SIGKILL. */
  thaw(): void
  /** A field is undefined where its controller is missing; everything is, once the group is gone. */
  usage(): { readonly cpuMs: number | undefined; readonly memoryBytes: number | undefined }
  /** Undefined where the kernel has killed nothing inside for want of memory. */
  memoryKill(): MemoryKill | undefined
  /** SIGKILL to everything inside, frozen or not. */
  kill(): void
  /** False while a process is still inside. True also where it was gone already. */
  remove(): boolean
}

export interface CgroupTree {
  /** For a person: "cgroup v1: memory, cpu, pids, freezer". */
  readonly description: string
  readonly version: 1 | 2
  /**
   * Limits all groups together; undefined takes the limit away. A memory limit below what is in use kills nobody: it
   * is then set a little above what is in use, and the answer is false; ask again when an instance has ended.
   */
  limitTogether(budget: NodeBudget | undefined): boolean
  create(id: string): Cgroup
  /** A group made earlier, perhaps by an agent that was started elsewhere and so under another parent. */
  open(directories: Readonly<Record<string, string>>): Cgroup
  /** Ids of all groups there are. */
  ids(): readonly string[]
  find(id: string): Cgroup
  /** Removes the parent of the groups, if empty. */
  close(): void
}

export interface CgroupOptions {
  /** Part of the name of our parent group; no other node of this machine may use it. */
  readonly name: string
  /** @default '/proc/self' */
  readonly processDirectory?: string
  /** @default process.getuid() === 0 */
  readonly isRoot?: boolean
}

/** One mounted hierarchy. */
export interface CgroupMount {
  readonly version: 1 | 2
  readonly mountPoint: string
  /** Which part of the hierarchy is mounted: not `/` in containers. */
  readonly root: string
  /** v1 only. */
  readonly controllers: readonly string[]
  /** This process's group as a directory. */
  readonly own: string
}

/** The tree, or why there is none, for a person. */
export function openCgroupTree(options: CgroupOptions): CgroupTree | { readonly unavailable: string } {
  const processDirectory = options.processDirectory ?? '/proc/self'
  const isRoot = options.isRoot ?? process.getuid?.() === 0
  let mounts: CgroupMount[]
  try {
    mounts = readMounts(processDirectory)
  } catch (error) {
    return { unavailable: (error as Error).message }
  }
  if (mounts.length === 0) return { unavailable: 'no cgroup file system is mounted' }
  const refusals: string[] = []
  for (const open of [openTreeV2, openTreeV1]) {
    const tree = open(mounts, { name: options.name, isRoot })
    if (!('unavailable' in tree)) return tree
    refusals.push(tree.unavailable)
  }
  return { unavailable: refusals.join('; ') }
}

/**
 * The group that another has made for a process, such as the container engine. `name` is part of its path: what we see
 * of a group may be one around it. Undefined where it is gone, or nothing of it is mounted here.
 */
export function cgroupOfProcess(pid: number, name: string): Cgroup | undefined {
  let mounts: CgroupMount[]
  try {
    mounts = readMounts('/proc/self', `/proc/${pid}/cgroup`)
  } catch {
    return undefined
  }
  const named = mounts.filter(({ own }) => own.includes(name))
  const unified = named.find(({ version }) => version === 2)
  const directories = CONTROLLERS_V1.flatMap((controller) => {
    const mount = named.find(({ version, controllers }) => version === 1 && controllers.includes(controller))
    return mount === undefined ? [] : [[controller, mount.own] as const]
  })
  if (directories.length > 0) return cgroupV1(Object.fromEntries(directories))
  return unified === undefined ? undefined : cgroupV2(unified.own)
}

/** Reads /proc/self/mountinfo and /proc/self/cgroup (proc(5), cgroups(7)); the groups may be another process's. */
export function readMounts(
  processDirectory: string,
  cgroupFile: string = join(processDirectory, 'cgroup'),
): CgroupMount[] {
  const ownPaths = new Map<string, string>()
  for (const line of readFileSync(cgroupFile, 'utf8').split('\n')) {
    const [, controllers, ...path] = line.split(':')
    if (controllers === undefined) continue
    for (const controller of controllers.split(',')) ownPaths.set(controller, path.join(':'))
  }
  const mounts: CgroupMount[] = []
  for (const line of readFileSync(join(processDirectory, 'mountinfo'), 'utf8').split('\n')) {
    const [before, after] = line.split(' - ')
    if (before === undefined || after === undefined) continue
    const [type, , superOptions] = after.split(' ')
    const fields = before.split(' ')
    const root = unescape(fields[3]!)
    const mountPoint = unescape(fields[4]!)
    if (type === 'cgroup2') {
      const own = directoryOf(mountPoint, root, ownPaths.get('') ?? '/')
      mounts.push({ version: 2, mountPoint, root, controllers: [], own })
    } else if (type === 'cgroup') {
      const controllers = (superOptions ?? '').split(',').filter((option) => ownPaths.has(option))
      const own = directoryOf(mountPoint, root, ownPaths.get(controllers[0] ?? '') ?? '/')
      if (controllers.length > 0) mounts.push({ version: 1, mountPoint, root, controllers, own })
    }
  }
  return mounts
}

/** A path outside of the mounted part is that of a container's host: what we see then begins at the mount point. */
function directoryOf(mountPoint: string, root: string, path: string): string {
  if (root === '/') return path === '/' ? mountPoint : join(mountPoint, path)
  if (path === root || path.startsWith(`${root}/`)) return join(mountPoint, path.slice(root.length))
  return mountPoint
}

function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
