import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { LambdaPort } from '../container/lambda-port.ts'
import type {
  AgentToLambda,
  EnvironmentEnd,
  LambdaEnvironment,
  LambdaFunction,
  LambdaToAgent,
} from '../lambda/wire.ts'
import { ProcessLink } from './process-link.ts'

/**
 * The agent's hold on the Lambda process. Most nodes have no function that needs it, so it is started with the first
 * that does. It remembers every environment, so that a process that comes back can be told all of them again.
 */
export interface LambdaHoldOptions {
  readonly runPath: string
  readonly logsPath: string
  onLog(line: LogLine): void
  onEvent(line: string): void
}

interface Held {
  environment: LambdaEnvironment
  readonly opened: PromiseWithResolvers<void>
  readonly waiting: PromiseWithResolvers<void>
  readonly ready: PromiseWithResolvers<{ readonly initMs: number }>
}

const OPEN_TIMEOUT_MS = 10_000
/** What an earlier agent's environments have to say for themselves, from the connection on. */
const RESUME_MS = 1_000

export class LambdaHold implements LambdaPort {
  readonly link: ProcessLink<LambdaToAgent, AgentToLambda>
  readonly #heldById = new Map<string, Held>()
  readonly #readyIds = new Set<string>()
  readonly #onLog: (line: LogLine) => void
  #onTimeout: (id: string, message: string) => void = () => undefined
  #started: Promise<void> | undefined
  readonly #socketPath: string

  constructor(options: LambdaHoldOptions) {
    this.#onLog = options.onLog
    this.#socketPath = join(options.runPath, 'lambda.sock')
    this.link = new ProcessLink({
      name: 'Lambda process',
      socketPath: this.#socketPath,
      entry: '../lambda/main',
      argv: () => ['--socket', this.#socketPath],
      logFile: join(options.logsPath, 'lambda.log'),
      onEvent: options.onEvent,
      onConnect: (send) => {
        // Whoever is ready says so again.
        this.#readyIds.clear()
        send({ type: 'environments', environments: [...this.#heldById.values()].map(environmentOf) })
      },
      onMessage: (message) => this.#receive(message),
    })
  }

  async resume(environments: readonly LambdaEnvironment[]): Promise<ReadonlySet<string>> {
    const held = environments.map((environment) => this.#hold(environment))
    // One that nobody needs any more is told that nothing is left, and taken over.
    if (environments.length === 0 && !existsSync(this.#socketPath)) return new Set()
    await this.#start()
    const { promise: patience, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, RESUME_MS)
    const allReady = Promise.all(held.map(({ ready }) => ready.promise))
    await Promise.race([allReady.catch(() => undefined), patience])
    clearTimeout(timer)
    return new Set(this.#readyIds)
  }

  async open(environment: LambdaEnvironment): Promise<void> {
    const { opened } = this.#hold(environment)
    const timer = setTimeout(() => {
      opened.reject(new Error(`the Lambda process did not open the doors within ${OPEN_TIMEOUT_MS} ms`))
    }, OPEN_TIMEOUT_MS)
    try {
      await this.#start()
      this.link.send({ type: 'open', environment })
      await opened.promise
    } catch (cause) {
      this.#heldById.delete(environment.id)
      throw new IsolaError('internal', `no door to ${environment.id}: ${(cause as Error).message}`, { cause })
    } finally {
      clearTimeout(timer)
    }
  }

  async whenWaiting(id: string): Promise<void> {
    await this.#heldById.get(id)?.waiting.promise
  }

  claim(id: string, fn: LambdaFunction): void {
    const held = this.#heldById.get(id)
    if (held === undefined) return
    held.environment = { ...held.environment, function: fn }
    this.link.send({ type: 'claim', id, function: fn })
  }

  whenReady(id: string): Promise<{ readonly initMs: number }> {
    const held = this.#heldById.get(id)
    if (held === undefined) return Promise.reject(closedError(id))
    return held.ready.promise
  }

  ended(id: string, end: EnvironmentEnd): void {
    this.link.send({ type: 'ended', id, end })
  }

  close(id: string): void {
    const held = this.#heldById.get(id)
    this.#heldById.delete(id)
    this.#readyIds.delete(id)
    for (const wait of [held?.opened, held?.waiting, held?.ready]) wait?.reject(closedError(id))
    this.link.send({ type: 'close', id })
  }

  onTimeout(listener: (id: string, message: string) => void): void {
    this.#onTimeout = listener
  }

  async shutdown(timeoutMs: number): Promise<void> {
    if (this.#started !== undefined) await this.link.shutdown({ type: 'shutdown' }, timeoutMs)
  }

  #start(): Promise<void> {
    this.#started ??= this.link.start().catch((error: unknown) => {
      this.#started = undefined
      throw error
    })
    return this.#started
  }

  #hold(environment: LambdaEnvironment): Held {
    const held: Held = {
      environment,
      opened: Promise.withResolvers(),
      waiting: Promise.withResolvers(),
      ready: Promise.withResolvers(),
    }
    // Nobody may be asking when it fails.
    for (const { promise } of [held.opened, held.waiting]) promise.catch(() => undefined)
    held.ready.promise.catch(() => undefined)
    this.#heldById.set(environment.id, held)
    return held
  }

  #receive(message: LambdaToAgent): void {
    switch (message.type) {
      case 'hello':
        return
      case 'opened':
        return this.#heldById.get(message.id)?.opened.resolve()
      case 'open-failed':
        return this.#heldById.get(message.id)?.opened.reject(new Error(message.message))
      case 'waiting':
        return this.#heldById.get(message.id)?.waiting.resolve()
      case 'ready':
        this.#readyIds.add(message.id)
        return this.#heldById.get(message.id)?.ready.resolve({ initMs: message.initMs })
      case 'init-failed': {
        const { id, errorType, message: words } = message
        return this.#heldById
          .get(id)
          ?.ready.reject(
            new IsolaError('start_failed', `${errorType}: ${words}`, { details: { forVisitors: errorType } }),
          )
      }
      case 'timed-out':
        return this.#onTimeout(message.id, message.message)
      case 'log':
        for (const line of message.lines) this.#onLog(line)
    }
  }
}

function environmentOf({ environment }: Held): LambdaEnvironment {
  return environment
}

function closedError(id: string): IsolaError {
  return new IsolaError('internal', `container ${id} was closed`)
}
