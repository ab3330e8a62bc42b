/**
 * The router's side of the control socket. The router listens and the agent connects, again after each of its deaths:
 * so the router needs no one to go on. Of two agents the later one counts; what is said while there is none is lost,
 * except logs, because the next agent is told the state of things anyway.
 */
import { statSync } from 'node:fs'
import type { Server, Socket } from 'node:net'
import { listenForChannels, openChannel, type Channel } from '../runtime/pool/channel.ts'
import type { AgentToRouter, RouterToAgent } from '../runtime/pool/wire.ts'

export interface AgentLinkOptions {
  readonly socketPath: string
  /** What every new agent is told first. */
  greeting(): RouterToAgent
  onConnect(): void
  onMessage(message: AgentToRouter): void
}

export class AgentLink {
  readonly #options: AgentLinkOptions
  #server: Server | undefined
  #inode = 0
  #channel: Channel<RouterToAgent> | undefined
  #closed: Promise<void> | undefined
  #everConnected = false

  constructor(options: AgentLinkOptions) {
    this.#options = options
  }

  get connected(): boolean {
    return this.#channel !== undefined
  }

  get everConnected(): boolean {
    return this.#everConnected
  }

  async listen(): Promise<void> {
    this.#server = await listenForChannels(this.#options.socketPath, (socket) => this.#take(socket))
    this.#inode = statSync(this.#options.socketPath).ino
  }

  send(message: RouterToAgent): boolean {
    return this.#channel?.send(message) ?? false
  }

  /** No agent is here, and none can come: the socket is gone from its path, or another router's is there. */
  isUnreachable(): boolean {
    if (this.connected) return false
    return statSync(this.#options.socketPath, { throwIfNoEntry: false })?.ino !== this.#inode
  }

  /** Resolves when what was said has been taken, or the agent does not take it. */
  async close(): Promise<void> {
    this.#server?.close()
    if (this.#channel === undefined) return
    this.#channel.close()
    const given = new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref())
    await Promise.race([this.#closed, given])
  }

  #take(socket: Socket): void {
    this.#channel?.close()
    const closed = Promise.withResolvers<void>()
    const channel = openChannel<AgentToRouter, RouterToAgent>(socket, {
      onMessage: (message) => {
        if (this.#channel === channel) this.#options.onMessage(message)
      },
      onClose: () => {
        if (this.#channel === channel) this.#channel = undefined
        closed.resolve()
      },
    })
    this.#closed = closed.promise
    this.#channel = channel
    this.#everConnected = true
    channel.send(this.#options.greeting())
    this.#options.onConnect()
  }
}

const CLOSE_MS = 1_000
