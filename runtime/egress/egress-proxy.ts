import { EGRESS_LIMITS } from '../../sdk/model/limits.ts'
import type { AgentToEgress, EgressRules, EgressToAgent } from '../pool/wire.ts'
import type { EgressLimits } from './egress-limits.ts'
import { InstanceSocket } from './instance-socket.ts'
import { RefusalLog } from './refusal-log.ts'
import type { Lookup } from './resolve.ts'
import { compileRules, createInterfaceAddresses, type Rules } from './rules.ts'

export interface EgressProxyOptions {
  readonly lookup: Lookup
  /** To the agent, or nowhere while there is none. */
  readonly send: (message: EgressToAgent) => void
  /** For faults that belong to no instance. */
  readonly onProblem: (message: string) => void
  readonly limits?: EgressLimits
}

type SocketSpec = Extract<AgentToEgress, { type: 'sockets' }>['sockets'][number]

const NO_RULES: EgressRules = { allowedCidrs: [], ownAddresses: [], origins: {} }

/** The sockets of all instances, as the agent last said. */
export class EgressProxy {
  readonly #options: EgressProxyOptions
  readonly #limits: EgressLimits
  readonly #interfaceAddresses: () => readonly string[]
  readonly #instances = new Map<string, { socket: InstanceSocket; log: RefusalLog }>()
  #rules: Rules
  #rulesText = ''
  #work: Promise<void> = Promise.resolve()

  constructor(options: EgressProxyOptions) {
    this.#options = options
    this.#limits = options.limits ?? EGRESS_LIMITS
    this.#interfaceAddresses = createInterfaceAddresses(this.#limits.ownAddressesAgeMsMax)
    this.#rules = this.#compile(NO_RULES)
  }

  /** Applies a message after all earlier ones. Settles when it is in force; never rejects. */
  handle(message: Exclude<AgentToEgress, { type: 'shutdown' }>): Promise<void> {
    this.#work = this.#work
      .then(() => this.#apply(message))
      .catch((error: unknown) =>
        this.#options.onProblem(`message "${message.type}" failed: ${String(error)}`),
      )
    return this.#work
  }

  /** Ends every connection and removes the sockets. */
  async close(): Promise<void> {
    await this.#work
    for (const id of this.#instances.keys()) this.#close(id)
  }

  async #apply(message: Exclude<AgentToEgress, { type: 'shutdown' }>): Promise<void> {
    switch (message.type) {
      case 'listen':
        return this.#listen(message)
      case 'assign': {
        const instance = this.#instances.get(message.id)
        if (instance !== undefined) instance.socket.functionName = message.functionName
        return undefined
      }
      case 'close':
        return this.#close(message.id)
      case 'sockets': {
        const wanted = new Set(message.sockets.map(({ id }) => id))
        for (const id of this.#instances.keys()) if (!wanted.has(id)) this.#close(id)
        for (const spec of message.sockets) await this.#listen(spec)
        return undefined
      }
      case 'rules':
        return this.#replaceRules(message.rules)
    }
  }

  /** A socket that is already there stays as it is, with its connections. */
  async #listen(spec: SocketSpec): Promise<void> {
    const { id, socketPath, uid, functionName } = spec
    const { lookup, onProblem, send } = this.#options
    const existing = this.#instances.get(id)
    if (existing?.socket.serves(spec) === true) {
      existing.socket.functionName = functionName ?? existing.socket.functionName
      send({ type: 'listening', id })
      return
    }
    this.#close(id)
    const { logLinesPerWindowMax: linesPerWindowMax, logWindowMs: windowMs } = this.#limits
    const log = new RefusalLog({ linesPerWindowMax, windowMs, nowMs: () => performance.now(), send })
    const socket = new InstanceSocket({
      id,
      socketPath,
      uid,
      lookup,
      limits: this.#limits,
      rules: () => this.#rules,
      onRefused: (refusal) => log.write(refusal),
    })
    socket.functionName = functionName ?? existing?.socket.functionName
    try {
      await socket.listen()
    } catch (error) {
      socket.close()
      const message = `egress socket ${socketPath} for uid ${uid} could not be made: ${(error as Error).message}`
      onProblem(message)
      send({ type: 'listen-failed', id, message })
      return
    }
    this.#instances.set(id, { socket, log })
    send({ type: 'listening', id })
  }

  #close(id: string): void {
    this.#instances.get(id)?.socket.close()
    this.#instances.delete(id)
  }

  /** Kept connections were judged by the old rules, so none of them is used again. */
  #replaceRules(rules: EgressRules): void {
    const text = JSON.stringify(rules)
    if (text === this.#rulesText) return
    this.#rulesText = text
    this.#rules = this.#compile(rules)
    for (const { socket } of this.#instances.values()) socket.recycle()
  }

  #compile(rules: EgressRules): Rules {
    const { onProblem } = this.#options
    return compileRules({ rules, onProblem, interfaceAddresses: this.#interfaceAddresses })
  }
}
