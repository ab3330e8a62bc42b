import { randomUUID } from 'node:crypto'
import { EGRESS_LIMITS } from '../../sdk/model/limits.ts'
import type { AgentToEgress, EgressRules, EgressToAgent } from '../pool/wire.ts'
import type { EgressLimits } from './egress-limits.ts'
import { InstanceSocket } from './instance-socket.ts'
import { RateLimits } from './rate-limits.ts'
import { RefusalLog } from './refusal-log.ts'
import type { Lookup } from './resolve.ts'
import { compileRules, createInterfaceAddresses, type Rules } from './rules.ts'
import { TrafficLedger } from './traffic.ts'

export interface EgressProxyOptions {
  readonly lookup: Lookup
  /** Where functions are called by name: the router's inner door. */
  readonly innerDoorPath: string
  /** To the agent, or nowhere while there is none. */
  readonly send: (message: EgressToAgent) => void
  /** For faults that belong to no instance. */
  readonly onProblem: (message: string) => void
  readonly limits?: EgressLimits
}

type SocketSpec = Extract<AgentToEgress, { type: 'sockets' }>['sockets'][number]

const NO_RULES: EgressRules = { allowedCidrs: [], ownAddresses: [], origins: {}, limits: {} }

/** The sockets of all instances, as the agent last said. */
export class EgressProxy {
  readonly #options: EgressProxyOptions
  readonly #limits: EgressLimits
  readonly #interfaceAddresses: () => readonly string[]
  readonly #instances = new Map<string, { socket: InstanceSocket; log: RefusalLog }>()
  /** Tells the sums of this process from those of the one before. */
  readonly #epoch = randomUUID()
  readonly #traffic: TrafficLedger
  readonly #rateLimits: RateLimits
  #rules: Rules
  #rulesText = ''
  /** Of what kept connections were judged by. */
  #placesText = ''
  #hasAgent = false
  #work: Promise<void> = Promise.resolve()

  constructor(options: EgressProxyOptions) {
    this.#options = options
    this.#limits = options.limits ?? EGRESS_LIMITS
    this.#interfaceAddresses = createInterfaceAddresses(this.#limits.ownAddressesAgeMsMax)
    this.#traffic = new TrafficLedger(this.#limits.trafficFunctionsMax)
    this.#rateLimits = new RateLimits(this.#limits.rateLimitKeysMax)
    this.#rules = this.#compile(NO_RULES)
  }

  /** Applies a message after all earlier ones. Settles when it is in force; never rejects. */
  handle(message: Exclude<AgentToEgress, { type: 'shutdown' }>): Promise<void> {
    return this.#inTurn(`message "${message.type}"`, () => this.#apply(message))
  }

  /** An agent has come, or the last one is gone: without one nobody reports what the instances work on. */
  setAgent(isThere: boolean): Promise<void> {
    return this.#inTurn('change of agents', () => {
      this.#hasAgent = isThere
      for (const { socket } of this.#instances.values()) socket.budget.watch(isThere)
      if (isThere) this.#traffic.tellAll()
    })
  }

  /** To be called every `trafficReportMs`. */
  reportTraffic(): void {
    if (!this.#hasAgent) return
    for (const { socket } of this.#instances.values()) socket.countBytes()
    const functions = this.#traffic.takeChanged()
    if (functions.length > 0) this.#options.send({ type: 'traffic', epoch: this.#epoch, functions })
    this.#traffic.forget(
      () => new Set([...this.#instances.values()].map(({ socket }) => socket.functionName)),
    )
  }

  #inTurn(what: string, step: () => Promise<void> | void): Promise<void> {
    this.#work = this.#work
      .then(step)
      .catch((error: unknown) => this.#options.onProblem(`${what} failed: ${String(error)}`))
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
        instance?.socket.assign(message.functionName, message.services)
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
      case 'load':
        for (const load of message.instances) this.#instances.get(load.id)?.socket.budget.report(load)
        for (const { socket } of this.#instances.values()) socket.budget.heard()
        return undefined
    }
  }

  /** A socket that is already there stays as it is, with its connections. */
  async #listen(spec: SocketSpec): Promise<void> {
    const { id, socketPath, uid, functionName, services } = spec
    const { lookup, innerDoorPath, onProblem, send } = this.#options
    const existing = this.#instances.get(id)
    if (existing?.socket.serves(spec) === true) {
      if (functionName !== undefined) existing.socket.assign(functionName, services)
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
      innerDoorPath,
      limits: this.#limits,
      rules: () => this.#rules,
      trafficOf: (name) => this.#traffic.of(name),
      rateLimits: this.#rateLimits,
      isWatched: this.#hasAgent,
      functionName: functionName ?? existing?.socket.functionName,
      services: services ?? existing?.socket.services,
      onRefused: (refusal) => log.write(refusal),
    })
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

  /** Kept connections were judged by the old addresses and origins: where those changed, none of them is used again. */
  #replaceRules(rules: EgressRules): void {
    const text = JSON.stringify(rules)
    if (text === this.#rulesText) return
    this.#rulesText = text
    this.#rules = this.#compile(rules)
    const { allowedCidrs, ownAddresses, origins } = rules
    const placesText = JSON.stringify([allowedCidrs, ownAddresses, origins])
    if (placesText === this.#placesText) return
    this.#placesText = placesText
    for (const { socket } of this.#instances.values()) socket.recycle()
  }

  #compile(rules: EgressRules): Rules {
    const { onProblem } = this.#options
    return compileRules({ rules, onProblem, interfaceAddresses: this.#interfaceAddresses })
  }
}
