/**
 * The wrangler of npm, unmodified, on projects of test/fixtures/wrangler. It is pinned in test/clients/wrangler and not
 * in the project's own package.json: `npm ci` refuses what it depends on. It is installed when somebody first wants it.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { CommandOutcome } from './node.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const HOME = join(ROOT, 'test/clients/wrangler')
const FIXTURES = join(ROOT, 'test/fixtures/wrangler')
const ACCOUNT_ID = 'isola'

let installing: Promise<string> | undefined

/** The `node_modules` that has it, with Vite and what else the projects import. */
export function installWrangler(): Promise<string> {
  installing ??= install()
  return installing
}

async function install(): Promise<string> {
  const manifest = JSON.parse(await readFile(join(HOME, 'package.json'), 'utf8')) as {
    dependencies: Readonly<Record<string, string>>
  }
  const modules = join(HOME, 'node_modules')
  const isThere = async (): Promise<boolean> => {
    for (const [name, version] of Object.entries(manifest.dependencies)) {
      const path = join(modules, name, 'package.json')
      if (!existsSync(path)) return false
      if ((JSON.parse(await readFile(path, 'utf8')) as { version: string }).version !== version) return false
    }
    return true
  }
  if (await isThere()) return modules
  const cache = join(ROOT, 'node_modules/.cache')
  await mkdir(cache, { recursive: true })
  const making = await mkdtemp(join(cache, 'wrangler-'))
  try {
    await cp(join(HOME, 'package.json'), join(making, 'package.json'))
    // No scripts: those of workerd and esbuild only check what is there.
    const words = ['install', '--no-audit', '--no-fund', '--no-package-lock', '--ignore-scripts']
    await promisify(execFile)('npm', words, { cwd: making, maxBuffer: 64 * 1024 * 1024 })
    // Another process may have been faster; it has made the same.
    if (!(await isThere())) {
      await rename(modules, join(making, 'old')).catch(() => undefined)
      await rename(join(making, 'node_modules'), modules).catch(async (error: unknown) => {
        if (!(await isThere())) throw error
      })
    }
  } finally {
    await rm(making, { recursive: true, force: true })
  }
  return modules
}

/** What wrangler talks to: a node, or what stands for one. */
export interface WranglerTarget {
  readonly controlUrl: string
  readonly token: string
}

export interface Project {
  readonly directory: string
  /** wrangler with these words, to its end, whatever that is. */
  wrangler(words: readonly string[], options?: RunOptions): Promise<CommandOutcome>
  /** What it printed; an exit code other than 0 fails the test with everything it said. */
  run(words: readonly string[], options?: RunOptions): Promise<string>
  /** Leaves it running. */
  start(words: readonly string[]): RunningCommand
  /** A program of the project's own `node_modules`. */
  tool(words: readonly string[]): Promise<string>
  write(path: string, text: string): Promise<void>
  /** Changes a file; what is to be replaced must be there. */
  edit(path: string, from: string, to: string): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string | undefined>>
  /** What it reads from stdin. @default nothing */
  readonly input?: string
}

export interface RunningCommand {
  /** Everything it wrote so far, to stdout and stderr. */
  output(): string
  /** Resolves when the output fits; throws with it when the process ended before it did. */
  until(fits: (output: string) => boolean): Promise<string>
  /** Sends the signal; resolves when the process is gone. */
  end(signal: 'SIGINT' | 'SIGKILL'): Promise<void>
}

const running = new Set<number>()
process.on('exit', () => {
  for (const pid of running) killGroup(pid, 'SIGKILL')
})

/** A copy of a project, in a directory of its own; `undefined` makes an empty one. */
export async function openProject(target: WranglerTarget, fixture?: string): Promise<Project> {
  const modules = await installWrangler()
  const place = await mkdtemp(join(tmpdir(), 'isola-wrangler-'))
  const directory = join(place, 'project')
  await mkdir(directory)
  if (fixture !== undefined) await cp(join(FIXTURES, fixture), directory, { recursive: true })
  await symlink(modules, join(place, 'node_modules'))
  const env = { PATH: process.env['PATH'], HOME: place, TMPDIR: place, ...wranglerEnvironment(target) }
  const bin = join(modules, '.bin/wrangler')
  const wrangler: Project['wrangler'] = (words, options = {}) =>
    runToEnd(bin, words, { cwd: directory, env: { ...env, ...options.env }, input: options.input })
  const run: Project['run'] = async (words, options) => {
    return goodOutput(`wrangler ${words.join(' ')}`, await wrangler(words, options))
  }
  return {
    directory,
    wrangler,
    run,
    start: (words) => startCommand(bin, words, { cwd: directory, env }),
    async tool([name = '', ...words]) {
      const outcome = await runToEnd(join(modules, '.bin', name), words, { cwd: directory, env })
      return goodOutput([name, ...words].join(' '), outcome)
    },
    write: (path, text) => writeFile(join(directory, path), text),
    async edit(path, from, to) {
      const text = await readFile(join(directory, path), 'utf8')
      if (!text.includes(from)) throw new Error(`${path} has no ${JSON.stringify(from)} to replace:\n${text}`)
      await writeFile(join(directory, path), text.replace(from, to))
    },
    async [Symbol.asyncDispose]() {
      await rm(place, { recursive: true, force: true })
    },
  }
}

/** All that somebody sets; the rest keeps tests off the network. */
function wranglerEnvironment({ controlUrl, token }: WranglerTarget): Record<string, string> {
  return {
    CLOUDFLARE_API_BASE_URL: `${controlUrl}/client/v4`,
    CLOUDFLARE_API_TOKEN: token,
    CLOUDFLARE_ACCOUNT_ID: ACCOUNT_ID,
    WRANGLER_SEND_METRICS: 'false',
    WRANGLER_HIDE_BANNER: 'true',
    NO_COLOR: '1',
  }
}

function goodOutput(command: string, { code, stdout, stderr }: CommandOutcome): string {
  if (code !== 0) throw new Error(`${command} ended with code ${code}:\n${stdout}\n${stderr}`)
  return stdout
}

interface ProcessOptions {
  readonly cwd: string
  readonly env: NodeJS.ProcessEnv
  readonly input?: string | undefined
}

/** In a process group of its own: wrangler's command only starts the process that does the work. */
function startGroup(
  bin: string,
  words: readonly string[],
  { cwd, env, input }: ProcessOptions,
): ChildProcess {
  const child = spawn(bin, [...words], { cwd, env, stdio: ['pipe', 'pipe', 'pipe'], detached: true })
  const pid = child.pid ?? 0
  running.add(pid)
  child.on('close', () => running.delete(pid))
  // It may end without having read it.
  child.stdin?.on('error', () => undefined)
  child.stdin?.end(input)
  return child
}

function runToEnd(bin: string, words: readonly string[], options: ProcessOptions): Promise<CommandOutcome> {
  return new Promise((resolve, reject) => {
    const child = startGroup(bin, words, options)
    const output = { stdout: '', stderr: '' }
    child.stdout?.on('data', (chunk: Buffer) => (output.stdout += chunk.toString()))
    child.stderr?.on('data', (chunk: Buffer) => (output.stderr += chunk.toString()))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code: code ?? 1, ...output }))
  })
}

function startCommand(bin: string, words: readonly string[], options: ProcessOptions): RunningCommand {
  const child = startGroup(bin, words, options)
  let output = ''
  const looks = new Set<() => void>()
  const onChunk = (chunk: Buffer): void => {
    output += chunk.toString()
    for (const look of looks) look()
  }
  child.stdout?.on('data', onChunk)
  child.stderr?.on('data', onChunk)
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()))
  return {
    output: () => output,
    until: (fits) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (!fits(output)) return
          looks.delete(look)
          resolve(output)
        }
        looks.add(look)
        look()
        void ended.then(() => reject(new Error(`wrangler ${words.join(' ')} ended:\n${output}`)))
      }),
    async end(signal) {
      killGroup(child.pid ?? 0, signal)
      await ended
    },
  }
}

function killGroup(pid: number, signal: 'SIGINT' | 'SIGKILL'): void {
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
