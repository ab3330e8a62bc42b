/** What a process has used so far, as the kernel counts it: all of its threads, but not its children. */
import { readFileSync } from 'node:fs'

/** Linux reports CPU in ticks of 10 ms on every architecture Node runs on: measure over seconds. */
const MS_PER_TICK = 10

export function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name may hold anything, also spaces and brackets; what follows the last bracket is numbers.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK
}

export interface MemoryUse {
  readonly rssMib: number
  /** Shared pages counted in parts: these add up over processes. */
  readonly pssMib: number
  /** What would be free if the process ended. */
  readonly privateMib: number
}

export function memoryOf(pid: number): MemoryUse {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const mib = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) / 1024
  return {
    rssMib: mib('Rss'),
    pssMib: mib('Pss'),
    privateMib: mib('Private_Clean') + mib('Private_Dirty'),
  }
}

export function childPidsOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return text === '' ? [] : text.split(' ').map(Number)
}
