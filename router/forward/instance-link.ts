/**
 * The connections to one instance. Kept-alive ones are used last in, first out: the few that load needs stay warm,
 * the others age and are closed by the instance.
 */
import { dirname, join } from 'node:path'
import type { RouterLimits } from '../../sdk/model/limits.ts'
import { RPC_SOCKET } from '../../runtime/pool/inner-door.ts'
import type { PooledInstance } from '../../runtime/pool/pool.ts'
import { InstanceConnection, type ConnectionOwner } from './connection.ts'

/** A request whose connection broke. */
export interface Mourner {
  onInstanceGone(): void
}

export class InstanceLink implements ConnectionOwner {
  readonly socketPath: string
  readonly limits: RouterLimits
  readonly #instance: PooledInstance
  readonly #idle: InstanceConnection[] = []
  readonly #open = new Set<InstanceConnection>()
  readonly #mourners = new Set<Mourner>()

  constructor(instance: PooledInstance, limits: RouterLimits) {
    this.socketPath = instance.socketPath
    this.limits = limits
    this.#instance = instance
    instance.goneListeners.add(() => this.#onGone())
  }

  connectionFor({ rpc }: { readonly rpc: boolean }): InstanceConnection {
    // One for calls of methods goes elsewhere, and is nobody else's afterwards.
    if (rpc) return this.#connect(join(dirname(this.socketPath), RPC_SOCKET))
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (idle.usable) return idle
    }
    return this.#connect(this.socketPath)
  }

  #connect(socketPath: string): InstanceConnection {
    const connection = new InstanceConnection(this, socketPath)
    this.#open.add(connection)
    return connection
  }

  /** The connection of `mourner` broke; it wants to hear if that was the instance's end. */
  mourn(mourner: Mourner): void {
    this.#mourners.add(mourner)
  }

  leave(mourner: Mourner): void {
    this.#mourners.delete(mourner)
  }

  onSignOfLife(): void {
    this.#instance.progress++
  }

  onIdle(connection: InstanceConnection): void {
    const { draining } = this.#instance
    if (draining || this.#idle.length >= this.limits.idleConnectionsPerInstanceMax)
      connection.socket.destroy()
    else this.#idle.push(connection)
  }

  onClosed(connection: InstanceConnection): void {
    this.#open.delete(connection)
    const index = this.#idle.indexOf(connection)
    if (index !== -1) this.#idle.splice(index, 1)
  }

  /** Closes what is idle: the instance is to end. */
  closeIdle(): void {
    for (const connection of this.#idle.splice(0)) connection.socket.destroy()
  }

  #onGone(): void {
    this.closeIdle()
    for (const connection of this.#open) connection.reader?.onInstanceGone()
    for (const mourner of this.#mourners) mourner.onInstanceGone()
    this.#mourners.clear()
  }
}

/** Links by instance; an instance that is forgotten takes its link along. */
export class InstanceLinks {
  readonly #linkByInstance = new WeakMap<PooledInstance, InstanceLink>()
  readonly #limits: RouterLimits

  constructor(limits: RouterLimits) {
    this.#limits = limits
  }

  of(instance: PooledInstance): InstanceLink {
    let link = this.#linkByInstance.get(instance)
    if (link === undefined) {
      link = new InstanceLink(instance, this.#limits)
      this.#linkByInstance.set(instance, link)
    }
    return link
  }

  find(instance: PooledInstance): InstanceLink | undefined {
    return this.#linkByInstance.get(instance)
  }
}
