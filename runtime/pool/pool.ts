import assert from 'node:assert'
import type { Policy } from '../../sdk/model/policy.ts'
import type { ErrorCode } from '../../sdk/model/errors.ts'
import type { Freezer, InstanceAddress } from './wire.ts'

/**
 * The instances of one version on one node as the router sees them: who has room, who waits.
 *
 * Everything here is synchronous, because between "is a slot free" and "take it" nothing may happen. A request takes
 * a slot at once (`take`) or waits in a bounded queue (`wait`); a slot is released exactly once. The pool never
 * starts instances: it says `onNeed`, and the agent decides. It knows no clock: the caller passes `now`.
 *
 * A paused instance has room like any other, but is only used when no running one has: resuming it is this side's
 * business (`onResume`), because a request must not wait for the agent, which may be dead.
 */

/** One instance with room for `concurrency` requests. `idle` is the forwarder's: its kept-alive connections. */
export interface PooledInstance {
  readonly id: string
  readonly functionName: string
  readonly versionId: string
  readonly socketPath: string
  readonly freezer: Freezer | undefined
  inFlight: number
  /** Requests that took a slot on it. */
  started: number
  /** Frozen: it is resumed before it is given a request. */
  paused: boolean
  /** Signs of life from the instance; see `InstanceLoad.progress`. The forwarder counts it up. */
  progress: number
  /** No new requests. */
  draining: boolean
  /** It has ended, or is about to: connections to it are of no use. */
  gone: GoneCause | undefined
  /** True until its first request has taken a slot, when that request made it start. */
  cold: boolean
  /** Called once when `gone` is set; the forwarder hangs its open attempts here. */
  readonly goneListeners: Set<() => void>
}

export interface GoneCause {
  readonly code: ErrorCode
  readonly message: string
}

export interface Refusal {
  readonly code: ErrorCode
  readonly message: string
  readonly retryAfterS?: number
}

/** A request in the queue. Exactly one of the callbacks is called, once, unless `leave` was called before. */
export interface Waiter {
  onSlot(instance: PooledInstance): void
  onRefusal(refusal: Refusal): void
  /** The version is not live any more: the request is to be placed anew. */
  onClosed(): void
}

/** A list linked both ways: who leaves is gone at once, or clients that come and go would fill the memory. */
interface QueuedWaiter {
  readonly waiter: Waiter
  readonly sinceMs: number
  previous: QueuedWaiter | undefined
  next: QueuedWaiter | undefined
  left: boolean
}

/** Places in all queues of a node together: a bound on memory, whatever each function's own queue may be. */
export interface WaitingPlaces {
  taken: number
  readonly max: number
}

export interface PoolOptions {
  readonly functionName: string
  readonly versionId: string
  readonly policy: Policy
  /** @default no bound but the policy's */
  readonly waitingPlaces?: WaitingPlaces
  /** More instances would help. Called when the first request queues and again by `remindNeed`. */
  onNeed(pool: InstancePool): void
  /** A draining instance has nothing in flight any more. */
  onDrained(instance: PooledInstance): void
  /** Freezes it, at once. False: it could not be, and runs. @default nothing to be done */
  onPause?(instance: PooledInstance): boolean
  /** Thaws it, at once; `draining` says whether for its end or for a request. False: it cannot be used. @default nothing to be done */
  onResume?(instance: PooledInstance): boolean
}

export class InstancePool {
  readonly functionName: string
  readonly versionId: string
  /** Requests that asked for a slot since the pool was made. */
  requests = 0
  policy: Policy
  readonly #instances: PooledInstance[] = []
  readonly #onNeed: (pool: InstancePool) => void
  readonly #onDrained: (instance: PooledInstance) => void
  readonly #onPause: (instance: PooledInstance) => boolean
  readonly #onResume: (instance: PooledInstance) => boolean
  readonly #places: WaitingPlaces
  #head: QueuedWaiter | undefined
  #tail: QueuedWaiter | undefined
  #queued = 0
  #refusal: (Refusal & { untilMs: number }) | undefined
  /** Why the node has started no other instance, and how long that is believed. */
  #delay: { readonly reason: string; readonly untilMs: number } | undefined

  constructor(options: PoolOptions) {
    this.functionName = options.functionName
    this.versionId = options.versionId
    this.policy = options.policy
    this.#onNeed = options.onNeed
    this.#onDrained = options.onDrained
    this.#onPause = options.onPause ?? (() => true)
    this.#onResume = options.onResume ?? (() => true)
    this.#places = options.waitingPlaces ?? { taken: 0, max: Infinity }
  }

  get queued(): number {
    return this.#queued
  }

  get instances(): readonly PooledInstance[] {
    return this.#instances
  }

  get inFlight(): number {
    let sum = 0
    for (const instance of this.#instances) sum += instance.inFlight
    return sum
  }

  /**
   * A slot on the least busy running instance that has room, else on a paused one, or `undefined`: then `wait`. Balance
   * with `release`.
   */
  take(): PooledInstance | undefined {
    this.requests++
    // Waiters come first, or a busy pool would starve them.
    return this.#queued > 0 ? undefined : this.#takeFree()
  }

  #takeFree(): PooledInstance | undefined {
    const limit = this.policy.concurrency
    let best: PooledInstance | undefined
    for (const instance of this.#instances) {
      if (instance.draining || instance.paused || instance.inFlight >= limit) continue
      if (best === undefined || instance.inFlight < best.inFlight) best = instance
    }
    best ??= this.#resume()
    if (best === undefined) return undefined
    best.inFlight++
    best.started++
    return best
  }

  /** Any paused one would do; one that cannot be resumed is left out from now on. */
  #resume(): PooledInstance | undefined {
    for (;;) {
      const instance = this.#instances.findLast(({ paused, draining }) => paused && !draining)
      if (instance === undefined) return undefined
      instance.paused = false
      if (this.#onResume(instance)) return instance
      this.drain(instance.id)
    }
  }

  /**
   * Freezes an instance with nothing in flight. `started`: its count when the caller last saw that it had nothing else to
   * do either; a request since then may have left work behind. False: it goes on as it is.
   */
  pause(instanceId: string, started: number): boolean {
    const instance = this.#instances.find(({ id }) => id === instanceId)
    if (instance === undefined || instance.draining || instance.freezer === undefined) return false
    if (instance.inFlight > 0 || instance.started !== started) return false
    if (!instance.paused) instance.paused = this.#onPause(instance)
    return instance.paused
  }

  /** Queues a request that `take` had no slot for. Returns a refusal at once, or a function that leaves the queue. */
  wait(waiter: Waiter, nowMs: number): { refusal: Refusal } | { leave(): void } {
    const refusal = this.#refusal
    if (refusal !== undefined) {
      if (nowMs < refusal.untilMs) {
        return { refusal: { ...refusal, retryAfterS: Math.ceil((refusal.untilMs - nowMs) / 1_000) } }
      }
      this.#refusal = undefined
    }
    const { queue, concurrency } = this.policy
    // Those whom the first instance will take at once wait for its start, not for a slot: a function at rest lets in as
    // many as one that runs, and with a queue of 0 it has an instance at all.
    const room = this.#hasInstance() ? queue : queue + concurrency
    if (this.#queued >= room) {
      return {
        refusal: {
          code: 'queue_full',
          message: `${this.#queued} requests already wait for function "${this.functionName}" (queue ${queue})`,
        },
      }
    }
    if (this.#places.taken >= this.#places.max) {
      return {
        refusal: {
          code: 'node_full',
          message: `${this.#places.taken} requests already wait for instances on this node, which is the most it holds: try again later`,
        },
      }
    }
    const queued: QueuedWaiter = {
      waiter,
      sinceMs: nowMs,
      previous: this.#tail,
      next: undefined,
      left: false,
    }
    if (this.#tail === undefined) this.#head = queued
    else this.#tail.next = queued
    this.#tail = queued
    this.#queued++
    this.#places.taken++
    if (this.#queued === 1) this.#onNeed(this)
    return { leave: () => this.#unlink(queued) }
  }

  /** Gives the slot back, to the next waiter if there is one. */
  release(instance: PooledInstance): void {
    assert(instance.inFlight > 0, 'slot released twice')
    instance.inFlight--
    if (instance.draining) {
      if (instance.inFlight === 0 && instance.gone === undefined) this.#onDrained(instance)
      return
    }
    if (this.#queued > 0) this.#serve()
  }

  /** One that is known already is taken back from draining: an agent that restarted may have changed its mind. A paused one stays so. */
  add(address: InstanceAddress, cold: boolean): void {
    this.#refusal = undefined
    this.#delay = undefined
    const known = this.#instances.find(({ id }) => id === address.id)
    if (known !== undefined) {
      known.draining = false
      this.#serve()
      return
    }
    this.#instances.push({
      id: address.id,
      functionName: address.functionName,
      versionId: address.versionId,
      socketPath: address.socketPath,
      freezer: address.freezer,
      inFlight: 0,
      started: 0,
      paused: false,
      progress: 0,
      draining: false,
      gone: undefined,
      cold,
      goneListeners: new Set(),
    })
    this.#serve()
  }

  /** No new requests for it; `onDrained` follows when nothing is in flight, perhaps at once. */
  drain(instanceId: string): void {
    const instance = this.#instances.find(({ id }) => id === instanceId)
    if (instance === undefined) return
    const wasDraining = instance.draining
    instance.draining = true
    if (instance.paused) {
      instance.paused = false
      // It has nothing left to do here, but a signal must reach it.
      this.#onResume(instance)
    }
    if (instance.inFlight === 0) this.#onDrained(instance)
    else if (this.#queued > 0 && !wasDraining) this.#onNeed(this)
  }

  /** The instance ended. Its attempts hear of it; their slots are released as usual. */
  remove(instanceId: string, cause: GoneCause): void {
    const index = this.#instances.findIndex(({ id }) => id === instanceId)
    const instance = this.#instances[index]
    if (instance === undefined) return
    this.#instances.splice(index, 1)
    instance.draining = true
    instance.gone = cause
    for (const listener of instance.goneListeners) listener()
    instance.goneListeners.clear()
    if (this.#queued > 0) this.#onNeed(this)
  }

  /** No instance can be had for now: all waiters are refused, and new ones until `untilMs`. */
  refuse(refusal: Refusal, untilMs: number): void {
    // Instances that run go on serving; only where there is none is waiting hopeless.
    if (this.#hasInstance()) return
    this.#refusal = { ...refusal, untilMs }
    this.refuseWaiting(refusal)
  }

  /** The node starts no other instance for now: who waits goes on waiting, and learns it at a deadline before `untilMs`. */
  delay(reason: string, untilMs: number): void {
    this.#delay = { reason, untilMs }
  }

  /** Refuses those who wait now, and only those. */
  refuseWaiting(refusal: Refusal): void {
    for (let waiter = this.#shift(); waiter !== undefined; waiter = this.#shift()) waiter.onRefusal(refusal)
  }

  /** The version is not live any more: whoever waits goes elsewhere. Requests on its instances go on. */
  close(): void {
    for (let waiter = this.#shift(); waiter !== undefined; waiter = this.#shift()) waiter.onClosed()
  }

  /** Refuses those whose wait is over. To be called every 100 ms or so; also repeats `onNeed` while any wait. */
  expire(nowMs: number): void {
    // As the policy is now: with a deadline of its own, who came after it was lowered would wait behind who came before.
    while (this.#head !== undefined && this.#head.sinceMs + this.policy.queueTimeoutMs <= nowMs) {
      const waiter = this.#shift()
      waiter?.onRefusal(this.#lateness(nowMs))
    }
    if (this.#queued > 0) this.#onNeed(this)
  }

  #hasInstance(): boolean {
    return this.#instances.some(({ draining }) => !draining)
  }

  #lateness(nowMs: number): Refusal {
    const { functionName } = this
    const { queueTimeoutMs } = this.policy
    if (this.#delay !== undefined && nowMs < this.#delay.untilMs) {
      return {
        code: 'node_full',
        message: `no instance of function "${functionName}" had room within ${queueTimeoutMs} ms, and the node has started no other: ${this.#delay.reason}`,
      }
    }
    return {
      code: 'queue_timeout',
      message: `no instance of function "${functionName}" had room within ${queueTimeoutMs} ms: try again, or raise its max or concurrency`,
    }
  }

  #serve(): void {
    while (this.#queued > 0) {
      const instance = this.#takeFree()
      if (instance === undefined) return
      const waiter = this.#shift()
      assert(waiter !== undefined, 'the queue count is right')
      waiter.onSlot(instance)
    }
  }

  #shift(): Waiter | undefined {
    const first = this.#head
    if (first !== undefined) this.#unlink(first)
    return first?.waiter
  }

  #unlink(queued: QueuedWaiter): void {
    if (queued.left) return
    queued.left = true
    this.#queued--
    this.#places.taken--
    const { previous, next } = queued
    if (previous === undefined) this.#head = next
    else previous.next = next
    if (next === undefined) this.#tail = previous
    else next.previous = previous
  }
}
