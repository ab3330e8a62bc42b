import { join } from 'node:path'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { AsyncSettings } from '../../sdk/model/function.ts'
import { ASYNC_LIMITS, CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import type { AsyncEvents, DeadLetter, NewEvent } from './async-events.ts'
import { EventStore, type DeathSize, type StoredEvent } from './event-store.ts'
import { EventWorker, type AsyncLimits, type EventTry } from './event-worker.ts'
import { makeFunctionQueue, type FunctionQueue } from './function-queue.ts'
import type { TryAnswer } from './judge-try.ts'

export interface AsyncEventsOptions {
  /** Holds `async.db`. */
  readonly directory: string
  /** One try. Throws where no answer came. */
  invoke(attempt: EventTry): Promise<TryAnswer>
  /** `undefined`: there is no such function any more. */
  settingsOf(functionName: string): Partial<AsyncSettings> | undefined
  /** For the operator. */
  onEvent(line: string): void
  /** @default Date.now */
  readonly now?: () => number
  /** @default ASYNC_LIMITS */
  readonly limits?: Partial<AsyncLimits>
}

const FILE = 'async.db'

/**
 * Events go on being tried where an earlier process left them. Throws `data_unusable`, `storage_full`: the node can go on
 * without, see `absentAsyncEvents`.
 */
export async function openAsyncEvents(options: AsyncEventsOptions): Promise<AsyncEvents> {
  const store = new EventStore(join(options.directory, FILE))
  const events = new StoredAsyncEvents(options, store)
  events.start()
  return events
}

/** In place of events that cannot be kept: each call says why. */
export function absentAsyncEvents(why: unknown): AsyncEvents {
  const refuse = (): never => {
    throw why
  }
  return {
    enqueue: async () => refuse(),
    deadLetters: refuse,
    deadLetter: refuse,
    redrive: async () => refuse(),
    discard: async () => refuse(),
    counts: () => new Map(),
    close: async () => undefined,
  }
}

class StoredAsyncEvents implements AsyncEvents {
  readonly #options: AsyncEventsOptions
  readonly #store: EventStore
  readonly #limits: AsyncLimits
  readonly #now: () => number
  readonly #queues = new Map<string, FunctionQueue>()
  readonly #worker: EventWorker
  /** Of all functions. */
  #bytes = 0
  #deadBytes = 0
  readonly #droppedByFunction = new Map<string, number>()
  #maintenance: NodeJS.Timeout | undefined
  #closing: Promise<void> | undefined

  constructor(options: AsyncEventsOptions, store: EventStore) {
    this.#options = options
    this.#store = store
    this.#limits = { ...ASYNC_LIMITS, ...options.limits }
    this.#now = options.now ?? Date.now
    this.#worker = new EventWorker({
      store,
      queues: this.#queues,
      invoke: options.invoke,
      settingsOf: options.settingsOf,
      now: this.#now,
      limits: this.#limits,
      onGone: (queue, event) => this.#count(queue, { waiting: -1, bytes: -this.#bytesOf(event) }),
      onDeath: (queue, event) => this.#onDeath(queue, event),
      onEvent: options.onEvent,
    })
  }

  start(): void {
    for (const { functionName, count, bytes } of this.#store.eventSums())
      this.#count(this.#queueOf(functionName), { waiting: count, bytes })
    for (const { functionName, count, bytes } of this.#store.deathSums())
      this.#count(this.#queueOf(functionName), { dead: count, deadBytes: bytes })
    this.#maintenance = setInterval(() => this.#maintain(), this.#limits.maintenanceMs)
    this.#maintenance.unref()
    this.#maintain()
    this.#worker.pump()
  }

  async enqueue(event: NewEvent): Promise<void> {
    this.#refuseWhenClosing()
    const { eventBytesMax } = CONTAINER_LIMITS
    if (event.payload.length > eventBytesMax) {
      throw new IsolaError(
        'body_too_large',
        `the event has ${event.payload.length} bytes and an asynchronous one may have ${eventBytesMax}: send a reference to the data instead`,
      )
    }
    const queue = this.#queueOf(event.functionName)
    const bytes = this.#bytesOf(event)
    this.#checkRoom(queue, bytes)
    // Counted before it is there: of many at once only as many as fit may pass.
    this.#count(queue, { waiting: 1, bytes })
    const nowMs = this.#now()
    try {
      await this.#store.insert(event, nowMs)
    } catch (error) {
      this.#count(queue, { waiting: -1, bytes: -bytes })
      throw error
    }
    this.#worker.wake(queue, nowMs)
  }

  deadLetters({
    functionName,
    limit,
  }: {
    readonly functionName: string
    readonly limit: number
  }): ReturnType<AsyncEvents['deadLetters']> {
    return this.#store.deaths(functionName, limit)
  }

  deadLetter(id: string): DeadLetter | undefined {
    return this.#store.death(id)
  }

  async redrive(id: string): Promise<boolean> {
    this.#refuseWhenClosing()
    const death = this.#store.death(id)
    if (death === undefined) return false
    const queue = this.#queueOf(death.functionName)
    const bytes = this.#bytesOf(death)
    this.#checkRoom(queue, bytes)
    this.#count(queue, { waiting: 1, bytes })
    const nowMs = this.#now()
    try {
      if (!(await this.#store.revive(id, nowMs))) {
        this.#count(queue, { waiting: -1, bytes: -bytes })
        return false
      }
    } catch (error) {
      this.#count(queue, { waiting: -1, bytes: -bytes })
      throw error
    }
    this.#count(queue, { dead: -1, deadBytes: -bytes })
    this.#worker.wake(queue, nowMs)
    return true
  }

  async discard(id: string): Promise<boolean> {
    const death = this.#store.death(id)
    if (death === undefined) return false
    const [isRemoved = false] = await this.#store.forget([id])
    if (!isRemoved) return false
    this.#count(this.#queueOf(death.functionName), { dead: -1, deadBytes: -this.#bytesOf(death) })
    return true
  }

  counts(): ReadonlyMap<string, { readonly waiting: number; readonly dead: number }> {
    const counts = new Map<string, { readonly waiting: number; readonly dead: number }>()
    for (const { functionName, waiting, dead } of this.#queues.values())
      if (waiting > 0 || dead > 0) counts.set(functionName, { waiting, dead })
    return counts
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    clearInterval(this.#maintenance)
    await this.#worker.close(this.#limits.closeGraceMs)
    this.#sayDropped()
    this.#store.close()
  }

  #refuseWhenClosing(): void {
    if (this.#closing === undefined) return
    throw new IsolaError('draining', 'this node is shutting down: send the event again when it is back')
  }

  #queueOf(functionName: string): FunctionQueue {
    let queue = this.#queues.get(functionName)
    if (queue === undefined) this.#queues.set(functionName, (queue = makeFunctionQueue(functionName)))
    return queue
  }

  #bytesOf({ payload }: { readonly payload: Uint8Array }): number {
    return payload.length + ASYNC_LIMITS.eventOverheadBytes
  }

  #count(
    queue: FunctionQueue,
    change: Partial<Record<'waiting' | 'bytes' | 'dead' | 'deadBytes', number>>,
  ): void {
    const { waiting = 0, bytes = 0, dead = 0, deadBytes = 0 } = change
    queue.waiting += waiting
    queue.bytes += bytes
    queue.dead += dead
    queue.deadBytes += deadBytes
    this.#bytes += bytes
    this.#deadBytes += deadBytes
  }

  #checkRoom(queue: FunctionQueue, bytes: number): void {
    const free = this.#store.freeDiskBytes() - bytes
    if (free < this.#limits.freeDiskBytesMin) {
      throw new IsolaError(
        'storage_full',
        `the disk of ${this.#store.path} would have ${Math.max(free, 0)} bytes left, and events are taken above ${this.#limits.freeDiskBytesMin}: free some space, then send the event again`,
        { details: { free } },
      )
    }
    const { eventsPerFunctionBytesMax, eventsBytesMax } = this.#limits
    const ofFunction = queue.bytes + bytes > eventsPerFunctionBytesMax
    if (!ofFunction && this.#bytes + bytes <= eventsBytesMax) return
    const [has, most, whose] = ofFunction
      ? [queue.bytes, eventsPerFunctionBytesMax, `function "${queue.functionName}"`]
      : [this.#bytes, eventsBytesMax, 'all functions together']
    throw new IsolaError(
      'storage_full',
      `${has} bytes of events of ${whose} wait to be worked on, and ${most} may: send this one again later, or give the function more instances`,
      { details: { functionName: queue.functionName, bytes: has, most } },
    )
  }

  #onDeath(queue: FunctionQueue, event: StoredEvent): void {
    this.#count(queue, { dead: 1, deadBytes: this.#bytesOf(event) })
    if (
      queue.dead > this.#limits.deadLettersPerFunctionMax ||
      this.#deadBytes > this.#limits.deadLettersBytesMax
    )
      this.#dropDeaths()
  }

  /** Drops dead letters that are too old or too many, and gives room back to the disk. */
  #maintain(): void {
    try {
      this.#dropDeaths()
      this.#store.shrink()
    } catch (error) {
      this.#options.onEvent(`dead letters could not be looked through: ${(error as Error).message}`)
    }
    for (const queue of this.#queues.values())
      if (queue.waiting === 0 && queue.dead === 0 && queue.tried.size === 0)
        this.#queues.delete(queue.functionName)
    this.#sayDropped()
  }

  #dropDeaths(): void {
    const { deadLettersPerFunctionMax, deadLettersBytesMax, deadLettersKeptDays } = this.#limits
    for (const queue of this.#queues.values()) {
      if (queue.dead <= deadLettersPerFunctionMax) continue
      this.#drop(this.#store.excessDeaths(queue.functionName, deadLettersPerFunctionMax))
    }
    const oldestMs = this.#now() - deadLettersKeptDays * DAY_MS
    let excess = this.#deadBytes - deadLettersBytesMax
    const dropped = []
    for (const death of this.#store.oldestDeaths(DROPPED_AT_ONCE)) {
      if (death.diedMs >= oldestMs && excess <= 0) break
      excess -= death.bytes
      dropped.push(death)
    }
    this.#drop(dropped)
  }

  #drop(deaths: readonly DeathSize[]): void {
    if (deaths.length === 0) return
    this.#store.forget(deaths.map(({ id }) => id)).then(
      (removed) => {
        for (const [index, { functionName, bytes }] of deaths.entries()) {
          // Another look may have found it too.
          if (removed[index] !== true) continue
          this.#count(this.#queueOf(functionName), { dead: -1, deadBytes: -bytes })
          this.#droppedByFunction.set(functionName, (this.#droppedByFunction.get(functionName) ?? 0) + 1)
        }
      },
      (error: Error) => this.#options.onEvent(`dead letters could not be dropped: ${error.message}`),
    )
  }

  #sayDropped(): void {
    for (const [functionName, count] of this.#droppedByFunction) {
      this.#options.onEvent(
        `${count} of the oldest dead letters of function "${functionName}" were dropped: ${this.#limits.deadLettersPerFunctionMax} are kept for ${this.#limits.deadLettersKeptDays} days`,
      )
    }
    this.#droppedByFunction.clear()
  }
}

const DAY_MS = 24 * 3_600_000
const DROPPED_AT_ONCE = 1_000
