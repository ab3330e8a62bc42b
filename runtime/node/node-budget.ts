/**
 * What instances may use together on this node: what the machine and the groups around this process grant, less what
 * the node itself needs. A group's limit counts wherever it stands between us and the root, and a container sees its
 * own group at the mount point; so all of them are asked, and the smallest holds.
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { IsolaError } from '../../sdk/model/errors.ts'
import { NODE_LIMITS } from '../../sdk/model/limits.ts'
import { readMounts, type CgroupMount } from '../machine/cgroup.ts'
import type { NodeBudget } from '../pool/node-events.ts'

export interface NodeBudgetOptions {
  /** Given by the operator: what instances may use together. */
  readonly memoryMib?: number | undefined
  readonly cpus?: number | undefined
  /** @default '/proc' */
  readonly procDirectory?: string
  /** @default os.availableParallelism() */
  readonly cores?: number
}

export interface Machine {
  readonly memoryMib: number
  readonly cpus: number
}

const KIB_PER_MIB = 1024
const MIB = 1024 * 1024
/** Of all memory, where that is more than the reserve: page cache and what else runs there grow with the machine. */
const RESERVE_SHARE = 0.1

/** Throws `invalid_argument` for what the machine does not have. */
export function nodeBudget(options: NodeBudgetOptions = {}): NodeBudget {
  const machine = detectMachine(options)
  const { budgetMibMin, budgetCpusMin, reserveMib } = NODE_LIMITS
  const reservedMib = Math.max(reserveMib, machine.memoryMib * RESERVE_SHARE)
  const byDefaultMib = Math.max(budgetMibMin, Math.floor(machine.memoryMib - reservedMib))
  const { memoryMib = byDefaultMib, cpus = machine.cpus } = options
  if (memoryMib < budgetMibMin || memoryMib > Math.max(budgetMibMin, machine.memoryMib)) {
    throw new IsolaError(
      'invalid_argument',
      `--memory is ${memoryMib} MiB and this machine grants ${Math.floor(machine.memoryMib)} MiB: give ${budgetMibMin}M to ${Math.floor(machine.memoryMib)}M, or leave it out for ${byDefaultMib}M`,
    )
  }
  if (cpus < Math.min(budgetCpusMin, machine.cpus) || cpus > machine.cpus) {
    throw new IsolaError(
      'invalid_argument',
      `--cpus is ${cpus} and this machine grants ${machine.cpus}: give ${budgetCpusMin} to ${machine.cpus}, or leave it out for all`,
    )
  }
  return { memoryMib, cpus }
}

/** Memory and processors that this process may use at all. */
export function detectMachine(options: NodeBudgetOptions = {}): Machine {
  const procDirectory = options.procDirectory ?? '/proc'
  const memory = [totalMemoryMib(procDirectory)]
  const cpus = [options.cores ?? availableParallelism()]
  for (const mount of mountsOf(join(procDirectory, 'self'))) {
    for (const directory of fromOwnToRoot(mount)) {
      memory.push(memoryLimitMib(mount, directory))
      cpus.push(cpuQuota(mount, directory))
    }
  }
  return { memoryMib: Math.min(...memory), cpus: Math.round(Math.min(...cpus) * 100) / 100 }
}

function totalMemoryMib(procDirectory: string): number {
  const match = /^MemTotal:\s+(\d+) kB$/m.exec(readFileSync(join(procDirectory, 'meminfo'), 'utf8'))
  if (match === null)
    throw new IsolaError('unsupported_machine', `${procDirectory}/meminfo names no MemTotal`)
  return Number(match[1]) / KIB_PER_MIB
}

/** A machine without cgroups has no limits in them. */
function mountsOf(processDirectory: string): CgroupMount[] {
  try {
    return readMounts(processDirectory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function fromOwnToRoot({ own, mountPoint }: CgroupMount): string[] {
  const directories = [own]
  for (let at = own; at !== mountPoint && at.startsWith(`${mountPoint}/`);) {
    at = dirname(at)
    directories.push(at)
  }
  return directories
}

/** Infinity for none: v1 says so with a number beyond any memory, v2 with `max`. */
function memoryLimitMib({ version }: CgroupMount, directory: string): number {
  const text = readIfThere(join(directory, version === 1 ? 'memory.limit_in_bytes' : 'memory.max'))
  return positive(text) / MIB
}

function cpuQuota({ version }: CgroupMount, directory: string): number {
  if (version === 2) {
    const [quota, period] = readIfThere(join(directory, 'cpu.max'))?.split(' ') ?? []
    return positive(quota) / Number(period ?? 1)
  }
  // -1: none.
  const quotaUs = positive(readIfThere(join(directory, 'cpu.cfs_quota_us')))
  const periodUs = positive(readIfThere(join(directory, 'cpu.cfs_period_us')))
  return Number.isFinite(periodUs) ? quotaUs / periodUs : Infinity
}

function positive(text: string | undefined): number {
  const value = Number(text)
  return text !== undefined && value > 0 ? value : Infinity
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    // Another controller's directory, or a group of the host that is not mounted here.
    return undefined
  }
}
