import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access, mkdtemp, rm, stat, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { DEFAULT_ENGINE_SOCKET } from '../../runtime/container/engine-client.ts'
import { openCgroupTree } from '../../runtime/machine/cgroup.ts'
import { prepareSandbox } from '../../runtime/isolate/sandbox.ts'
import { workerdBinaryPath } from '../../runtime/machine/workerd-binary.ts'
import { type Address, bindError } from './address.ts'
import { examineEngine } from './engine-checks.ts'
import { formatBytes } from './output.ts'
import { isRunning, readNodeFile } from './find-node.ts'

/** What one look at the machine found, and for a `warn` or `fail` the way out. */
export interface Finding {
  readonly check: string
  readonly result: 'ok' | 'warn' | 'fail'
  readonly message: string
}

export interface DoctorOptions {
  readonly dataDirectory: string
  readonly http: Address
  readonly control: Address
  /** @default DEFAULT_ENGINE_SOCKET */
  readonly engineSocket?: string
}

const FREE_BYTES_WARN = 1024 ** 3
const FREE_BYTES_FAIL = 128 * 1024 ** 2

/** Every check, in the order they are shown. A check that itself breaks is a `fail` with its message. */
export async function examineMachine(options: DoctorOptions): Promise<readonly Finding[]> {
  const checks: readonly (readonly [string, (options: DoctorOptions) => Promise<Omit<Finding, 'check'>>])[] =
    [
      ['node', checkNodeVersion],
      ['workerd', checkWorkerd],
      ['cgroups', checkCgroups],
      ['sandbox', checkSandbox],
      ['data', checkDataDirectory],
      ['disk', checkDisk],
      ['ports', checkPorts],
      ['clock', checkClock],
    ]
  const engine = examineEngine({ socketPath: options.engineSocket ?? DEFAULT_ENGINE_SOCKET })
  const findings = await Promise.all(
    checks.map(async ([check, examine]) => {
      try {
        return { check, ...(await examine(options)) }
      } catch (error) {
        return { check, result: 'fail' as const, message: (error as Error).message }
      }
    }),
  )
  return [...findings, ...(await engine)]
}

async function checkNodeVersion(): Promise<Omit<Finding, 'check'>> {
  const major = Number(process.versions.node.split('.')[0])
  return major >= 24
    ? { result: 'ok', message: `Node.js ${process.version} at ${process.execPath}` }
    : {
        result: 'fail',
        message: `Node.js ${process.version} runs this: 24 or newer is needed; "npm install" brings it`,
      }
}

async function checkWorkerd(): Promise<Omit<Finding, 'check'>> {
  const path = workerdBinaryPath()
  const run = await runProgram(path, ['--version'])
  return run.code === 0
    ? { result: 'ok', message: run.output.trim() }
    : {
        result: 'fail',
        message: `${path} does not run (${run.output.trim()}): it needs Linux with glibc 2.35 or newer`,
      }
}

/** What the node itself would find, found the same way: a cgroup is made and removed again. */
async function checkCgroups(): Promise<Omit<Finding, 'check'>> {
  const tree = openCgroupTree({ name: `doctor-${process.pid}` })
  if ('unavailable' in tree) {
    return {
      result: 'warn',
      message: `${tree.unavailable}: memory and CPU of functions are not limited by the kernel; run the node as root, or delegate a cgroup to its user (systemd: Delegate=yes)`,
    }
  }
  tree.close()
  return { result: 'ok', message: tree.description }
}

/** Tried out with a real workerd, as the node does when it starts. */
async function checkSandbox(): Promise<Omit<Finding, 'check'>> {
  const directory = await mkdtemp(join(tmpdir(), 'isola-doctor-'))
  try {
    const { kind, description } = await prepareSandbox({
      choice: 'auto',
      directory,
      workerd: workerdBinaryPath(),
    })
    return { result: kind === 'namespaces' ? 'ok' : 'warn', message: description }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function checkDataDirectory({ dataDirectory }: DoctorOptions): Promise<Omit<Finding, 'check'>> {
  const nearest = await nearestExisting(dataDirectory)
  if (!(await stat(nearest)).isDirectory()) {
    return { result: 'fail', message: `${nearest} is no directory: name another with --data` }
  }
  return (await isWritable(nearest))
    ? { result: 'ok', message: nearest === dataDirectory ? dataDirectory : `${dataDirectory} can be made` }
    : { result: 'fail', message: `${nearest} is not writable: change its owner, or name another with --data` }
}

async function checkDisk({ dataDirectory }: DoctorOptions): Promise<Omit<Finding, 'check'>> {
  const { bavail, bsize } = await statfs(await nearestExisting(dataDirectory))
  const freeBytes = bavail * bsize
  const message = `${formatBytes(freeBytes)} free for ${dataDirectory}`
  if (freeBytes >= FREE_BYTES_WARN) return { result: 'ok', message }
  return {
    result: freeBytes >= FREE_BYTES_FAIL ? 'warn' : 'fail',
    message: `${message}: free some, deploys and logs need at least ${formatBytes(FREE_BYTES_WARN)}`,
  }
}

async function checkPorts({ dataDirectory, http, control }: DoctorOptions): Promise<Omit<Finding, 'check'>> {
  const file = await readNodeFile(dataDirectory)
  if (file !== undefined && isRunning(file.pid)) {
    return {
      result: 'ok',
      message: `a node runs here as process ${file.pid}: ${file.httpUrl}, control ${file.controlUrl}`,
    }
  }
  const taken: string[] = []
  for (const address of [http, control]) {
    const code = await bindError(address)
    if (code !== undefined) taken.push(`${address.host}:${address.port} (${code})`)
  }
  return taken.length === 0
    ? { result: 'ok', message: `${http.host}:${http.port} and ${control.host}:${control.port} are free` }
    : {
        result: 'fail',
        message: `cannot listen on ${taken.join(' and ')}: give others with --http and --control`,
      }
}

/** A clock before the files of this package is wrong: TLS fails then, and versions sort wrongly. */
async function checkClock(): Promise<Omit<Finding, 'check'>> {
  const { mtime } = await stat(new URL('../../package.json', import.meta.url))
  const now = new Date()
  return now >= mtime
    ? { result: 'ok', message: now.toISOString() }
    : {
        result: 'fail',
        message: `it is ${now.toISOString()} here, before isola was installed: set it, or run an NTP client`,
      }
}

async function isWritable(path: string): Promise<boolean> {
  try {
    await access(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

async function nearestExisting(path: string): Promise<string> {
  try {
    await stat(path)
    return path
  } catch (error) {
    if (dirname(path) === path) throw error
    return await nearestExisting(dirname(path))
  }
}

function runProgram(
  path: string,
  args: readonly string[],
): Promise<{ readonly code: number; readonly output: string }> {
  return new Promise((resolve) => {
    execFile(path, args, { timeout: 10_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1
      resolve({ code, output: stdout || stderr || (error?.message ?? '') })
    })
  })
}
