/**
 * A workerd process, ours or taken over from an agent that died. A pid alone names nothing for long: with the start
 * time and the boot it is one process for ever, and no signal ever reaches a stranger.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import type { ChildProcess } from 'node:child_process'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'

export interface ProcessHandle {
  readonly pid: number
  /** Settles once it is gone. */
  readonly exited: Promise<ProcessExit>
  /** False where it is gone already. */
  signal(signal: NodeJS.Signals): boolean
}

/** Both undefined for a process that was not our child: only its parent learns them. */
export interface ProcessExit {
  readonly code: number | undefined
  readonly signal: NodeJS.Signals | undefined
}

/** Names a process beyond the reuse of its pid. */
export interface ProcessIdentity {
  readonly pid: number
  /** In clock ticks since boot: field 22 of proc(5) stat. */
  readonly startTicks: number
  readonly bootId: string
}

/** Undefined where no such process runs; a zombie does not. */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid)
  return stat && { pid, startTicks: stat.startTicks, bootId: bootId() }
}

export function isSameProcess({ pid, startTicks, bootId: boot }: ProcessIdentity): boolean {
  return boot === bootId() && readStat(pid)?.startTicks === startTicks
}

/** CPU and memory without a cgroup. Coarse: CPU comes in ticks of 10 ms. */
export function processUsage(pid: number): { readonly cpuMs: number; readonly memoryBytes: number } {
  const stat = readStat(pid)
  return { cpuMs: stat?.cpuMs ?? 0, memoryBytes: stat?.memoryBytes ?? 0 }
}

/** proc(5) oom_score_adj. Without root it can only be raised; what is refused, or of a process that is gone, stays as it is. */
export function adjustOomScore(pid: number, score: number): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(score))
  } catch (error) {
    if (!['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? ''))
      throw error
  }
}

export function ownProcess(child: ChildProcess & { readonly pid: number }): ProcessHandle {
  return {
    pid: child.pid,
    exited: new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve({ code: code ?? undefined, signal: signal ?? undefined }))
    }),
    // Node refuses to signal a child that it has reaped.
    signal: (signal) => child.kill(signal),
  }
}

export function adoptedProcess(identity: ProcessIdentity): ProcessHandle {
  return {
    pid: identity.pid,
    exited: new Promise((resolve) => {
      const look = (): void => {
        if (isSameProcess(identity)) setTimeout(look, INSTANCE_LIMITS.exitPollMs)
        else resolve({ code: undefined, signal: undefined })
      }
      look()
    }),
    signal(signal) {
      if (!isSameProcess(identity)) return false
      try {
        return process.kill(identity.pid, signal)
      } catch {
        return false
      }
    },
  }
}

const TICK_MS = 10
const PAGE_BYTES = 4096

function readStat(pid: number): { startTicks: number; cpuMs: number; memoryBytes: number } | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return undefined
  }
  // The name in parentheses may hold anything; what follows the last one is fields 3 and up.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined
  return {
    startTicks: Number(fields[19]),
    cpuMs: (Number(fields[11]) + Number(fields[12])) * TICK_MS,
    memoryBytes: Number(fields[21]) * PAGE_BYTES,
  }
}

let cachedBootId: string | undefined
function bootId(): string {
  cachedBootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  return cachedBootId
}
