import { EventEmitter } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { Snapshot } from '../../sdk/model/snapshot.ts'
import type { AgentToRouter, InstanceLoad, RouterToAgent, TailedRequest, VersionLoad } from '../pool/wire.ts'
import { ProcessLink } from './process-link.ts'
import type { RouterMetrics } from '../../sdk/model/router-metrics.ts'
import type { Supervisor } from './supervisor.ts'

/** The agent's hold on the router: what it must know after every connection, and what becomes of its messages. */
export interface RouterHoldOptions {
  readonly runPath: string
  readonly logsPath: string
  readonly host: string
  readonly port: number
  readonly supervisor: Supervisor
  onLog(line: LogLine): void
  onMetrics(metrics: RouterMetrics): void
  /** Beside the supervisor: whoever counts by what the router says of instances. */
  onLoad(instances: readonly InstanceLoad[], versions: readonly VersionLoad[]): void
  /** Of functions named by `setTailed`. `untold`: such requests that are missing, of whatever function. */
  onTailed?(
    requests: readonly { readonly line: LogLine; readonly told: TailedRequest }[],
    untold: number,
  ): void
  onEvent(line: string): void
}

const LIVE_TIMEOUT_MS = 10_000
/** Beyond its own deadline, before it is killed. */
const STOP_GRACE_MS = 1_000

export class RouterHold {
  readonly link: ProcessLink<RouterToAgent, AgentToRouter>
  httpPort: number
  #httpHost = ''
  #appliedGeneration = -1
  #snapshot: Snapshot | undefined
  #tailed: readonly string[] = []
  readonly #options: RouterHoldOptions
  readonly #applied = new EventEmitter<{ generation: [] }>().setMaxListeners(0)

  constructor(options: RouterHoldOptions) {
    const { supervisor } = options
    this.#options = options
    const socketPath = join(options.runPath, 'router.sock')
    this.httpPort = options.port
    this.link = new ProcessLink({
      name: 'router',
      socketPath,
      entry: '../../router/main',
      argv: () => ['--socket', socketPath, '--http', `${bracket(options.host)}:${this.httpPort}`],
      logFile: join(options.logsPath, 'router.log'),
      onEvent: options.onEvent,
      onConnect: (send) => {
        supervisor.onRouterLost()
        send({ type: 'tails', functionNames: this.#tailed })
        if (this.#snapshot !== undefined) send({ type: 'snapshot', snapshot: this.#snapshot })
        send({ type: 'instances', instances: supervisor.addresses() })
      },
      onMessage: (message) => this.#receive(message),
    })
  }

  /**
   * Takes over the router that is there, unless it listens elsewhere than it should now, or nowhere: an agent that
   * was killed while it stopped leaves a router that drains, and new requests matter more than the last old ones.
   */
  async start(): Promise<void> {
    const { host, port } = this.#options
    try {
      await this.link.start()
    } catch (error) {
      if (!isIsolaError(error) || error.code !== 'address_in_use') throw error
      throw new IsolaError(
        'address_in_use',
        `functions cannot be served on ${bracket(host)}:${port}: the address is in use. Stop what uses it, or choose another with --http`,
        { cause: error },
      )
    }
    if (!this.link.adopted) return
    const isElsewhere = host !== this.#httpHost || (port !== 0 && port !== this.httpPort)
    if (!isElsewhere && (await accepts(host, this.httpPort))) return
    await this.stop(0)
    if (isElsewhere) this.httpPort = port
    await this.link.start()
  }

  /** Lets requests under way finish until the timeout. */
  stop(timeoutMs: number): Promise<void> {
    return this.link.shutdown({ type: 'shutdown', timeoutMs }, timeoutMs + STOP_GRACE_MS)
  }

  /** Whose requests are to be told in detail, all of them. */
  setTailed(functionNames: readonly string[]): void {
    this.#tailed = functionNames
    this.link.send({ type: 'tails', functionNames })
  }

  /** Puts a snapshot in force; instances that started for it are named again right behind it. */
  publish(snapshot: Snapshot): void {
    this.#snapshot = snapshot
    if (!this.link.send({ type: 'snapshot', snapshot })) return
    for (const instance of this.#options.supervisor.addresses()) {
      this.link.send({ type: 'instance-up', instance, cold: false })
    }
  }

  /** Resolves when the router serves by this generation or a newer one. Throws `node_unreachable`. */
  async whenLive(generation: number): Promise<void> {
    if (this.#appliedGeneration >= generation) return
    await new Promise<void>((resolve, reject) => {
      const finish = (error?: IsolaError): void => {
        clearTimeout(timer)
        this.#applied.off('generation', check)
        if (error === undefined) resolve()
        else reject(error)
      }
      const check = (): void => {
        if (this.#appliedGeneration >= generation) finish()
      }
      const timer = setTimeout(
        () =>
          finish(
            new IsolaError(
              'node_unreachable',
              `generation ${generation} is recorded, but the router has not taken it within ${LIVE_TIMEOUT_MS} ms: see isola status`,
            ),
          ),
        LIVE_TIMEOUT_MS,
      )
      this.#applied.on('generation', check)
    })
  }

  #tellTailed({ lines, tailed = [], untold = 0 }: Extract<RouterToAgent, { type: 'log' }>): void {
    if (tailed.length === 0) return
    const requests = tailed.flatMap((told) => {
      const line = lines[told.line]
      return line === undefined ? [] : [{ line, told }]
    })
    this.#options.onTailed?.(requests, untold)
  }

  #receive(message: RouterToAgent): void {
    const { supervisor, onLog, onEvent } = this.#options
    switch (message.type) {
      case 'hello':
        this.#httpHost = message.httpHost
        this.httpPort = message.httpPort
        this.#appliedGeneration = message.generation
        return
      case 'applied':
        this.#appliedGeneration = message.generation
        this.#applied.emit('generation')
        return
      case 'need':
        supervisor.onNeed(message)
        return
      case 'load':
        supervisor.onLoad(message.instances, message.versions)
        this.#options.onLoad(message.instances, message.versions)
        return
      case 'metrics':
        this.#options.onMetrics(message.metrics)
        return
      case 'instance-paused':
      case 'pause-refused':
      case 'instance-resumed':
        supervisor.onPause(message)
        return
      case 'instance-drained':
        supervisor.onDrained(message.id)
        return
      case 'instance-unreachable':
        supervisor.onUnreachable(message.id, message.message)
        return
      case 'log':
        for (const line of message.lines) onLog(line)
        this.#tellTailed(message)
        if (message.dropped > 0) onEvent(`the router dropped ${message.dropped} request log lines`)
        return
      case 'drained':
        return
    }
  }
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

function bracket(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}
