import { join } from 'node:path'
import type { AgentToEgress, EgressRules, EgressToAgent, InstanceLoad } from '../pool/wire.ts'
import { ProcessLink } from './process-link.ts'

/**
 * The agent's hold on the egress proxy: remembers every socket and rule, so that a proxy that comes back (or an older
 * one that is taken over) can be told all of it again.
 */
interface HeldSocket {
  readonly id: string
  readonly socketPath: string
  readonly uid: number
  functionName?: string
  services?: readonly string[]
}

export type EgressTraffic = Omit<Extract<EgressToAgent, { type: 'traffic' }>, 'type'>

type EgressLoad = Extract<AgentToEgress, { type: 'load' }>['instances'][number]

export interface EgressHoldOptions {
  readonly runPath: string
  readonly logsPath: string
  onLog(line: { id: string; functionName: string; message: string }): void
  /** What went through, by function: sums since the proxy that `epoch` names started. */
  onTraffic?(traffic: EgressTraffic): void
  onEvent(line: string): void
}

const LISTEN_TIMEOUT_MS = 10_000

export class EgressHold {
  readonly link: ProcessLink<EgressToAgent, AgentToEgress>
  readonly #socketById = new Map<string, HeldSocket>()
  readonly #listeningById = new Map<string, (failure?: string) => void>()
  /** As it was last told. */
  readonly #loadById = new Map<string, EgressLoad>()
  #rules: EgressRules = { allowedCidrs: [], ownAddresses: [], origins: {}, limits: {} }

  constructor(options: EgressHoldOptions) {
    const socketPath = join(options.runPath, 'egress.sock')
    this.link = new ProcessLink({
      name: 'egress proxy',
      socketPath,
      entry: '../egress/main',
      argv: () => ['--socket', socketPath],
      // A name lookup holds a thread for as long as it takes; with the default of 4, one slow zone stalls all.
      environment: { UV_THREADPOOL_SIZE: '64' },
      logFile: join(options.logsPath, 'egress.log'),
      onEvent: options.onEvent,
      onConnect: (send) => {
        send({ type: 'sockets', sockets: [...this.#socketById.values()] })
        send({ type: 'rules', rules: this.#rules })
        for (const id of this.#listeningById.keys()) {
          const socket = this.#socketById.get(id)
          if (socket !== undefined) send({ type: 'listen', ...socket })
        }
        send({ type: 'load', instances: [...this.#loadById.values()] })
      },
      onMessage: (message) => {
        if (message.type === 'listening') this.#listeningById.get(message.id)?.()
        else if (message.type === 'listen-failed') this.#listeningById.get(message.id)?.(message.message)
        else if (message.type === 'log') for (const line of message.lines) options.onLog(line)
        else if (message.type === 'traffic') {
          const { epoch, functions } = message
          options.onTraffic?.({ epoch, functions })
        }
      },
    })
  }

  setRules(rules: EgressRules): void {
    this.#rules = rules
    this.link.send({ type: 'rules', rules })
  }

  /**
   * The router's report, of which the proxy gets what changed. While anything is in flight it gets a message even if that is
   * nothing: it counts them to know that it has heard all there is to hear.
   */
  onLoad(instances: readonly InstanceLoad[]): void {
    const changed: EgressLoad[] = []
    let isAtWork = false
    for (const { id, started, inFlight } of instances) {
      if (!this.#socketById.has(id)) continue
      isAtWork ||= inFlight > 0
      const told = this.#loadById.get(id)
      if (told?.started === started && told.inFlight === inFlight) continue
      const load = { id, started, inFlight }
      this.#loadById.set(id, load)
      changed.push(load)
    }
    if (isAtWork || changed.length > 0) this.link.send({ type: 'load', instances: changed })
  }

  /** Resolves when an instance can connect to the socket. */
  async listen(socket: { id: string; socketPath: string; uid: number }): Promise<void> {
    this.#socketById.set(socket.id, { ...socket })
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#listeningById.delete(socket.id)
        reject(new Error(`the egress proxy did not open ${socket.socketPath} within ${LISTEN_TIMEOUT_MS} ms`))
      }, LISTEN_TIMEOUT_MS)
      this.#listeningById.set(socket.id, (failure) => {
        clearTimeout(timer)
        this.#listeningById.delete(socket.id)
        if (failure === undefined) resolve()
        else reject(new Error(failure))
      })
      this.link.send({ type: 'listen', ...socket })
    })
  }

  /** `services`: functions that it may call by a service binding. */
  assign(id: string, functionName: string, services: readonly string[]): void {
    const socket = this.#socketById.get(id)
    if (socket !== undefined) Object.assign(socket, { functionName, services })
    this.link.send({ type: 'assign', id, functionName, services })
  }

  close(id: string): void {
    this.#socketById.delete(id)
    this.#loadById.delete(id)
    this.link.send({ type: 'close', id })
  }
}
