/** Reading and writing the small files of cgroups; how the two versions' trees make and remove groups. */
import { mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export function read(directory: string, file: string): string | undefined {
  try {
    return readFileSync(join(directory, file), 'utf8')
  } catch {
    return undefined
  }
}

export function readNumber(directory: string, file: string): number | undefined {
  const text = read(directory, file)
  return text === undefined ? undefined : Number(text)
}

/** The value of `key` in a file of `key value` lines. */
export function readKey(directory: string, file: string, key: string): number | undefined {
  const text = read(directory, file)
  if (text === undefined) return undefined
  const start = text.startsWith(`${key} `) ? 0 : text.indexOf(`\n${key} `) + 1
  if (start === 0 && !text.startsWith(`${key} `)) return undefined
  return Number.parseInt(text.slice(start + key.length + 1), 10)
}

export function write(directory: string, file: string, value: string | number): void {
  writeFileSync(join(directory, file), String(value))
}

/** True where the kernel took the value. */
export function tryWrite(directory: string, file: string, value: string | number): boolean {
  try {
    write(directory, file, value)
    return true
  } catch {
    return false
  }
}

/**
 * Where instances already have more than they may have together: room enough that those which go on as before are not
 * ended for a page.
 */
export function limitAround(usedBytes: number): number {
  return usedBytes + Math.max(16 * 1024 * 1024, Math.round(usedBytes / 8))
}

/** A weight where 100 is ordinary, within what the kernel takes. */
export function clampWeight(weight: number): number {
  return Math.min(10_000, Math.max(1, Math.round(weight)))
}

/** False where it may not be made. */
export function tryMakeDirectory(directory: string): boolean {
  try {
    mkdirSync(directory)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EEXIST'
  }
}

/** False while something is inside. */
export function tryRemoveDirectory(directory: string): boolean {
  try {
    rmdirSync(directory)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}

export function childrenOf(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
  } catch {
    return []
  }
}

/** SIGKILL to every process listed. One that has gone since is no error. */
export function killProcesses(directory: string): void {
  for (const line of (read(directory, 'cgroup.procs') ?? '').split('\n')) {
    const pid = Number(line)
    if (pid <= 0 || pid === process.pid) continue
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      continue
    }
  }
}
