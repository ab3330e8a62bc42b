/**
 * Tries events when they are due: in order within a function, each function by itself, and of many functions in turns. A
 * try's outcome is on disk before the event counts as tried; where the disk takes nothing, no other try begins.
 */
import { randomUUID } from 'node:crypto'
import { ASYNC_LIMITS } from '../../sdk/model/limits.ts'
import { DEFAULT_ASYNC_SETTINGS, type AsyncSettings } from '../../sdk/model/function.ts'
import type { EventStore, StoredEvent } from './event-store.ts'
import type { FunctionQueue } from './function-queue.ts'
import { judgeAnswer, judgeError, type TryAnswer, type Verdict } from './judge-try.ts'

export interface EventTry {
  readonly functionName: string
  readonly versionId?: string
  readonly payload: Uint8Array
  readonly clientContext?: string
  /** The same at each try of an event. */
  readonly requestId: string
  readonly signal: AbortSignal
}

export interface EventWorkerOptions {
  readonly store: EventStore
  /** In turns: whoever was served goes to the end. */
  readonly queues: Map<string, FunctionQueue>
  /** Throws where no answer came. */
  readonly invoke: (attempt: EventTry) => Promise<TryAnswer>
  /** `undefined`: there is no such function any more. */
  readonly settingsOf: (functionName: string) => Partial<AsyncSettings> | undefined
  readonly now: () => number
  readonly limits: AsyncLimits
  /** The event is on disk as a dead letter. */
  readonly onDeath: (queue: FunctionQueue, event: StoredEvent) => void
  /** It is off the disk, as an event. */
  readonly onGone: (queue: FunctionQueue, event: StoredEvent) => void
  readonly onEvent: (line: string) => void
}

export type AsyncLimits = { readonly [Name in keyof typeof ASYNC_LIMITS]: number }

export class EventWorker {
  readonly #options: EventWorkerOptions
  readonly #ending = new AbortController()
  readonly #tries = new Set<Promise<void>>()
  #timer: NodeJS.Timeout | undefined
  #soon: NodeJS.Immediate | undefined
  /** Outcomes that the disk did not take. */
  #unwritten = 0
  #closed = false

  constructor(options: EventWorkerOptions) {
    this.#options = options
  }

  /** An event of the function has come, or may be due. */
  wake(queue: FunctionQueue, dueMs: number): void {
    if (queue.dueMs !== undefined) queue.dueMs = Math.min(queue.dueMs, dueMs)
    this.#pumpSoon()
  }

  /** Once for all that happens in a turn: each look goes through all functions. */
  #pumpSoon(): void {
    this.#soon ??= setImmediate(() => this.pump())
  }

  /** Begins what is due, and comes back when more is. */
  pump(): void {
    if (this.#closed) return
    clearTimeout(this.#timer)
    clearImmediate(this.#soon)
    this.#soon = undefined
    try {
      const nextMs = this.#begin()
      if (nextMs === Infinity) return
      this.#comeBackIn(nextMs - this.#options.now())
    } catch (error) {
      this.#options.onEvent(
        `asynchronous events cannot be read, another attempt follows: ${messageOf(error)}`,
      )
      this.#comeBackIn(this.#options.limits.repairMs)
    }
  }

  /** Tries under way may end within the grace; after it they are left, to be made again. */
  async close(graceMs: number): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    clearImmediate(this.#soon)
    const timer = setTimeout(() => this.#ending.abort(), graceMs)
    while (this.#tries.size > 0) await Promise.race(this.#tries)
    clearTimeout(timer)
  }

  #comeBackIn(ms: number): void {
    this.#timer = setTimeout(() => this.pump(), Math.min(Math.max(ms, 0), MAX_TIMER_MS))
    this.#timer.unref()
  }

  /** Returns when there will be more to begin, as far as time alone decides. */
  #begin(): number {
    const { queues, now, limits } = this.#options
    let nextMs = Infinity
    if (this.#unwritten > 0) return nextMs
    // Those that are served move to the end while they are gone through: the copy ends.
    for (const queue of Array.from(queues.values())) {
      if (queue.waiting === queue.tried.size) continue
      const nowMs = now()
      if (queue.pausedUntilMs > nowMs) {
        nextMs = Math.min(nextMs, queue.pausedUntilMs)
        continue
      }
      // One that is being refused tries with one.
      const most = queue.refusals > 0 ? 1 : limits.triesPerFunctionConcurrentMax
      const free = Math.min(most - queue.tried.size, limits.triesConcurrentMax - this.#tries.size)
      if (free <= 0) continue
      if (queue.dueMs === undefined || queue.dueMs <= nowMs) this.#serve(queue, { free, nowMs })
      // More are due and there is no place: whoever ends comes back.
      if (queue.dueMs! > nowMs) nextMs = Math.min(nextMs, queue.dueMs!)
    }
    return nextMs
  }

  /** Begins what is due, as many as are free, and notes when the next is. */
  #serve(queue: FunctionQueue, { free, nowMs }: { readonly free: number; readonly nowMs: number }): void {
    const { queues, store } = this.#options
    const upcoming = store
      .upcoming(queue.functionName, queue.tried.size + free + 1)
      .filter(({ rowId }) => !queue.tried.has(rowId))
    const due = upcoming.slice(0, free).filter(({ dueMs }) => dueMs <= nowMs)
    queue.dueMs = upcoming[due.length]?.dueMs ?? Infinity
    if (due.length === 0) return
    for (const { rowId } of due) {
      const event = store.event(rowId)
      if (event !== undefined) this.#start(queue, event)
    }
    queues.delete(queue.functionName)
    queues.set(queue.functionName, queue)
  }

  #start(queue: FunctionQueue, event: StoredEvent): void {
    queue.tried.add(event.rowId)
    const { now, limits, onEvent } = this.#options
    const attempt = this.#try(queue, event)
      .catch((error: unknown) => {
        onEvent(`event ${event.requestId} of function "${queue.functionName}" stays: ${messageOf(error)}`)
        queue.pausedUntilMs = now() + limits.repairMs
      })
      .finally(() => {
        queue.tried.delete(event.rowId)
        this.#tries.delete(attempt)
        queue.dueMs = undefined
        this.#pumpSoon()
      })
    this.#tries.add(attempt)
  }

  async #try(queue: FunctionQueue, event: StoredEvent): Promise<void> {
    const { settingsOf, now } = this.#options
    const own = settingsOf(event.functionName)
    if (own === undefined) {
      await this.#die(queue, event, { reason: 'the function was deleted', tries: event.tries })
      return
    }
    const settings = { ...DEFAULT_ASYNC_SETTINGS, ...own }
    if (now() - event.queuedMs > settings.maxAgeS * 1_000) {
      const last = queue.lastRefusal === '' ? '' : `; last, it was refused: ${queue.lastRefusal}`
      await this.#die(queue, event, { reason: `${tooOld(settings)}${last}`, tries: event.tries })
      return
    }
    const verdict = await this.#ask(event)
    if (verdict === undefined) return
    await this.#settle(queue, event, { verdict, settings })
  }

  /** `undefined`: given up because the node stops. */
  async #ask({
    functionName,
    versionId,
    payload,
    clientContext,
    requestId,
  }: StoredEvent): Promise<Verdict | undefined> {
    const { signal } = this.#ending
    const attempt = {
      functionName,
      payload,
      requestId,
      signal,
      ...(versionId !== undefined && { versionId }),
      ...(clientContext !== undefined && { clientContext }),
    }
    try {
      return judgeAnswer(await this.#options.invoke(attempt))
    } catch (error) {
      return signal.aborted ? undefined : judgeError(error)
    }
  }

  async #settle(
    queue: FunctionQueue,
    event: StoredEvent,
    { verdict, settings }: { readonly verdict: Verdict; readonly settings: AsyncSettings },
  ): Promise<void> {
    const { store, now, limits, onGone } = this.#options
    if (verdict.type === 'refused') {
      this.#pause(queue, verdict)
      return
    }
    queue.refusals = 0
    queue.lastRefusal = ''
    if (verdict.type === 'done') {
      await this.#written(() => store.remove(event.rowId))
      onGone(queue, event)
      return
    }
    const { reason, answer } = verdict
    const tries = event.tries + 1
    const dueMs = now() + Math.min(limits.retryMsMin * 2 ** (tries - 1), limits.retryMsMax)
    if (verdict.type === 'hopeless' || tries > settings.retriesMax) {
      await this.#die(queue, event, { reason, answer, tries })
    } else if (dueMs - event.queuedMs > settings.maxAgeS * 1_000) {
      await this.#die(queue, event, { reason: `${reason} (${tooOld(settings)})`, answer, tries })
    } else await this.#written(() => store.postpone(event.rowId, { dueMs, tries }))
  }

  #pause(queue: FunctionQueue, { reason, retryAfterMs }: Extract<Verdict, { type: 'refused' }>): void {
    const { now, limits } = this.#options
    // Those that began together are refused together, and once.
    if (queue.pausedUntilMs > now()) return
    const grown = Math.min(limits.refusedMsMin * 2 ** Math.min(queue.refusals, 20), limits.refusedMsMax)
    queue.refusals += 1
    queue.lastRefusal = reason
    queue.pausedUntilMs = now() + Math.max(grown, Math.min(retryAfterMs, limits.refusedMsMax))
  }

  async #die(
    queue: FunctionQueue,
    event: StoredEvent,
    death: { readonly reason: string; readonly tries: number; readonly answer?: string | undefined },
  ): Promise<void> {
    const { store, now, onGone, onDeath } = this.#options
    const { reason, tries, answer } = death
    const written = { id: randomUUID(), diedMs: now(), reason, tries, answer }
    await this.#written(() => store.bury(event.rowId, written))
    onGone(queue, event)
    onDeath(queue, event)
  }

  /** Until it is on disk: to begin anything else would be to do it again and again after each start. */
  async #written(write: () => Promise<void>): Promise<void> {
    const { onEvent, limits } = this.#options
    for (let attempts = 0; ; attempts += 1) {
      try {
        await write()
        if (attempts > 0) {
          this.#unwritten -= 1
          onEvent('asynchronous events go on: their outcomes can be written again')
        }
        return
      } catch (error) {
        if (attempts === 0) {
          this.#unwritten += 1
          onEvent(`asynchronous events wait until an outcome can be written: ${messageOf(error)}`)
        }
        // What cannot be written before the end is tried again after it.
        if (this.#closed) throw error
        await new Promise((resolve) => setTimeout(resolve, limits.repairMs))
      }
    }
  }
}

const MAX_TIMER_MS = 2 ** 31 - 1

function tooOld({ maxAgeS }: AsyncSettings): string {
  return `older than the ${maxAgeS} s that an event may get`
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
