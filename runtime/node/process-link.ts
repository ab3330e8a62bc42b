import { spawn } from 'node:child_process'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Socket } from 'node:net'
import { IsolaError } from '../../sdk/model/errors.ts'
import { connectToChannel, openChannel, type Channel } from '../pool/channel.ts'

/**
 * The agent's hold on a process that outlives it: the router, the egress proxy. Such a process runs in a session of
 * its own (a Ctrl-C or a kill -9 meant for the agent does not reach it) and listens on a unix socket. The link takes
 * over the one an earlier agent left, else starts one, and starts another whenever it dies.
 */
export interface ProcessLinkOptions<In, Out> {
  readonly name: string
  readonly socketPath: string
  /** Entry beside the sources, without extension, relative to this folder: `../../router/main`. */
  readonly entry: string
  /** Asked again at every start: a router that comes back takes the port it had. */
  argv(): readonly string[]
  /** Environment beyond what every process of the node gets. */
  readonly environment?: Readonly<Record<string, string>>
  /** What the process writes outside the protocol: faults. */
  readonly logFile: string
  /** Everything the process needs to know; called after every (re)connect. */
  onConnect(send: (message: Out) => boolean): void
  onMessage(message: In): void
  onEvent(line: string): void
}

/** Nothing of the operator's own environment: secrets in it are none of the router's business. */
const PROCESS_ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C.UTF-8' }
interface ProcessEnd {
  readonly code: number | null
  readonly signal: string | null
  /** Length of its log before it started. */
  readonly saidBefore: number
}

const CONNECT_TIMEOUT_MS = 10_000
const RESTART_DELAY_MS_MAX = 5_000

export class ProcessLink<In extends { readonly type: string }, Out extends { readonly type: string }> {
  pid = 0
  /** True where the process was already there when this agent started. */
  adopted = false
  readonly #options: ProcessLinkOptions<In, Out>
  #channel: Channel<Out> | undefined
  #stopping = false
  /** Under way: a launch that nobody waited for would leave its process behind. */
  #starting: Promise<void> | undefined
  #restartDelayMs = 50
  #closed: (() => void)[] = []

  constructor(options: ProcessLinkOptions<In, Out>) {
    this.#options = options
  }

  /** Resolves when the process is there and has said hello. Throws `address_in_use`, `internal`. */
  start(): Promise<void> {
    this.#stopping = false
    return this.#begin()
  }

  #begin(): Promise<void> {
    const starting = this.#adoptOrLaunch()
    this.#starting = starting
    return starting.finally(() => (this.#starting = undefined))
  }

  async #adoptOrLaunch(): Promise<void> {
    try {
      const socket = await connectToChannel(this.#options.socketPath, 0)
      this.adopted = true
      await this.#attach(socket)
    } catch {
      this.adopted = false
      await this.#launch()
    }
  }

  /** False where nobody took the message; `onConnect` says everything again when somebody is there. */
  send(message: Out): boolean {
    return this.#channel?.send(message) ?? false
  }

  /** Tells the process to finish and waits until it is gone; after the timeout it is killed. */
  async shutdown(message: Out, timeoutMs: number): Promise<void> {
    this.#stopping = true
    await this.#starting?.catch(() => undefined)
    if (this.#channel === undefined) return
    const closed = new Promise<boolean>((resolve) => this.#closed.push(() => resolve(true)))
    this.send(message)
    const timer = setTimeout(() => this.kill(), timeoutMs)
    await closed
    clearTimeout(timer)
  }

  kill(): void {
    this.#stopping = true
    if (this.pid > 0) killIfThere(this.pid)
  }

  /** Lets go of the process without ending it. */
  detach(): void {
    this.#stopping = true
    this.#channel?.close()
  }

  async #launch(): Promise<void> {
    const { entry, logFile, socketPath } = this.#options
    const main = fileURLToPath(new URL(entry + extname(import.meta.filename), import.meta.url))
    const output = openSync(logFile, 'a')
    const saidBefore = fstatSync(output).size
    const child = spawn(process.execPath, [main, ...this.#options.argv()], {
      detached: true,
      stdio: ['ignore', output, output],
      env: { ...PROCESS_ENVIRONMENT, ...this.#options.environment },
    })
    closeSync(output)
    child.unref()
    // Before it says so itself: `kill` must reach it at any time.
    this.pid = child.pid ?? 0
    const died = new Promise<never>((_, reject) => {
      child.once('error', reject)
      child.once('exit', (code, signal) => reject(this.#startError({ code, signal, saidBefore })))
    })
    died.catch(() => undefined)
    const socket = await Promise.race([connectToChannel(socketPath, CONNECT_TIMEOUT_MS), died])
    await Promise.race([this.#attach(socket), died])
  }

  #attach(socket: Socket): Promise<void> {
    return new Promise((resolve, reject) => {
      let greeted = false
      // One that was frozen accepts connections, and says nothing.
      const timer = setTimeout(() => socket.destroy(), CONNECT_TIMEOUT_MS)
      const channel = openChannel<In, Out>(socket, {
        onMessage: (message) => {
          if (!greeted && message.type === 'hello' && 'pid' in message) {
            greeted = true
            clearTimeout(timer)
            this.pid = message.pid as number
            this.#channel = channel
            this.#options.onMessage(message)
            this.#options.onConnect((out) => channel.send(out))
            resolve()
            return
          }
          this.#options.onMessage(message)
        },
        onClose: () => {
          clearTimeout(timer)
          if (!greeted) reject(new Error(`${this.#options.name} said no hello`))
          else this.#lost(channel)
        },
      })
    })
  }

  #lost(channel: Channel<Out>): void {
    if (this.#channel !== channel) return
    this.#channel = undefined
    for (const closed of this.#closed) closed()
    this.#closed = []
    if (this.#stopping) return
    this.#options.onEvent(`${this.#options.name} (pid ${this.pid}) is gone: starting another`)
    this.#comeBack()
  }

  #comeBack(): void {
    setTimeout(() => {
      if (this.#stopping) return
      this.#begin().then(
        () => {
          this.#restartDelayMs = 50
          this.#options.onEvent(`${this.#options.name} runs again (pid ${this.pid})`)
        },
        (error: unknown) => {
          this.#restartDelayMs = Math.min(this.#restartDelayMs * 2, RESTART_DELAY_MS_MAX)
          this.#options.onEvent(`${this.#options.name} did not start: ${String(error)}`)
          this.#comeBack()
        },
      )
    }, this.#restartDelayMs)
  }

  #startError({ code, signal, saidBefore }: ProcessEnd): IsolaError {
    const said = lastLines(this.#options.logFile, saidBefore)
    const how = signal === null ? `exit code ${code}` : `signal ${signal}`
    if (said.includes('EADDRINUSE') || said.includes('address_in_use')) {
      return new IsolaError(
        'address_in_use',
        `the ${this.#options.name} cannot listen: the address is in use. Stop what uses it or choose another (${said})`,
      )
    }
    return new IsolaError('internal', `${this.#options.name} ended at start with ${how}: ${said}`)
  }
}

export function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** Called whenever the process ends: a log that was removed meanwhile must not end the agent too. */
function lastLines(file: string, fromByte: number): string {
  try {
    const lines = readFileSync(file).subarray(fromByte).toString('utf8').trimEnd().split('\n')
    return lines.slice(-5).join(' / ').slice(-1_000)
  } catch (error) {
    return (error as Error).message
  }
}
