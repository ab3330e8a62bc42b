/** The channel between agent and router: in order, with small delays and now and then a long one, lost when an end dies. */
import type { AgentToRouter, RouterToAgent } from '../../runtime/pool/wire.ts'
import type { World } from './world.ts'

const DELAY_MS = [0.05, 3] as const
const STALL_MS = [20, 250] as const
const STALL_PROBABILITY = 0.002

export class SimulatedLink {
  readonly #world: World
  connected = false
  /** Of the connection: what was sent on an earlier one arrives nowhere. */
  #connection = 0
  #lastToAgentMs = 0
  #lastToRouterMs = 0
  onAgentMessage: (message: RouterToAgent) => void = () => {}
  onRouterMessage: (message: AgentToRouter) => void = () => {}

  constructor(world: World) {
    this.#world = world
  }

  connect(): void {
    this.connected = true
    this.#connection++
  }

  disconnect(): void {
    this.connected = false
  }

  toAgent(message: RouterToAgent): boolean {
    if (!this.connected) return false
    this.#lastToAgentMs = Math.max(this.#lastToAgentMs, this.#arrivalMs())
    this.#deliver(this.#lastToAgentMs, () => this.onAgentMessage(message))
    return true
  }

  toRouter(message: AgentToRouter): boolean {
    if (!this.connected) return false
    this.#lastToRouterMs = Math.max(this.#lastToRouterMs, this.#arrivalMs())
    this.#deliver(this.#lastToRouterMs, () => this.onRouterMessage(message))
    return true
  }

  #arrivalMs(): number {
    const { random, nowMs } = this.#world
    const range = random.chance(STALL_PROBABILITY) ? STALL_MS : DELAY_MS
    return nowMs + random.between(range[0], range[1])
  }

  #deliver(atMs: number, receive: () => void): void {
    const connection = this.#connection
    this.#world.at(atMs, () => {
      if (this.connected && connection === this.#connection) receive()
    })
  }
}
