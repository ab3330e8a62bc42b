import { spawn, spawnSync } from 'node:child_process'
import { connect, createServer, type NetConnectOpts } from 'node:net'

/** A process that a bench started and ends, by its pid. Output is kept and shown if it ends early. */
export interface SpawnedProcess {
  readonly pid: number
  /** What it wrote so far, both streams. */
  output(): string
  /** Whether it still runs. */
  running(): boolean
  /** Asks, then kills; resolves when it is gone. */
  stop(): Promise<void>
}

export function spawnProcess(
  command: string,
  argv: readonly string[],
  options: {
    readonly environment?: Readonly<Record<string, string>>
    readonly workingDirectory?: string
  } = {},
): SpawnedProcess {
  const child = spawn(command, argv, {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: options.workingDirectory,
    env: { ...process.env, ...options.environment },
  })
  const { pid } = child
  if (pid === undefined) throw new Error(`cannot start ${command}: is it installed?`)
  let output = ''
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-100_000)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  let hasExited = false
  // A bench that throws leaves nothing behind.
  const endWithUs = (): boolean => child.kill('SIGTERM')
  process.once('exit', endWithUs)
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => {
      hasExited = true
      process.removeListener('exit', endWithUs)
      resolve()
    })
  })
  return {
    pid,
    output: () => output,
    running: () => !hasExited,
    async stop() {
      if (!hasExited) child.kill('SIGTERM')
      const deadline = setTimeout(() => child.kill('SIGKILL'), 20_000)
      await exited
      clearTimeout(deadline)
    },
  }
}

/** Resolves when something accepts connections there. Throws with the process's output if it ended instead. */
export async function waitForListener(spawned: SpawnedProcess, where: NetConnectOpts): Promise<void> {
  const deadlineMs = performance.now() + 15_000
  while (!(await accepts(where))) {
    if (!spawned.running() || performance.now() > deadlineMs) {
      throw new Error(`nothing listens on ${JSON.stringify(where)}; the process said:\n${spawned.output()}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

function accepts(where: NetConnectOpts): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(where, () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** For programs that cannot say which port they took. Another process may take it first: rare, and then loud. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no TCP port')
  return address.port
}

/** Throws a message that names the Debian package of what is missing. */
export function requireProgram(program: string, debianPackage: string): void {
  const found = spawnSync('sh', ['-c', `command -v ${program}`])
  if (found.status === 0) return
  throw new Error(
    `${program} is not installed: this bench compares with it; run "apt install ${debianPackage}"`,
  )
}
