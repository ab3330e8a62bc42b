/**
 * One function's trace events, put together from its log lines and from what the router says of its requests. They come
 * by different ways: a request's event waits until its lines had time to arrive, and longer while its instance has
 * `waitUntil` work. Lines that come later, or belong to no request, make events of their own.
 */
import { TAIL_LIMITS } from '../../../sdk/model/limits.ts'
import type { LogLine, RequestSummary } from '../../../sdk/model/log-line.ts'
import type { TailedRequest } from '../../pool/wire.ts'
import { CpuShares } from './cpu-shares.ts'
import { LineCollection } from './line-collection.ts'
import type { TraceEvent, TraceException } from './trace-event.ts'
import { outcomeOf, refusalException } from './trace-outcome.ts'
import { readTracedRequest, requestEvent, tailEvent, type TracedRequest } from './traced-request.ts'

export interface TraceAssemblyOptions {
  readonly functionName: string
  /** As clients know it. */
  scriptVersionOf(versionId: string): string
  /** Of an instance since it started; `undefined` where there is none of the id. */
  cpuMsOf(instanceId: string): number | undefined
  /** `waitUntil` work of an instance. */
  pendingWork(instanceId: string): Promise<number>
  onEvent(traced: Traced): void
  /** Events that could not be told. */
  onDropped(count: number): void
}

export interface Traced {
  readonly event: TraceEvent
  readonly versionId: string
  /** Unredacted. Absent where the event is none of a request. */
  readonly request: TracedRequest | undefined
}

interface Pending {
  readonly lines: LineCollection
  readonly instanceId: string | undefined
  readonly versionId: string
  readonly sinceMs: number
  request: EndedRequest | undefined
  /** When to look whether it is to be told. */
  dueMs: number
}

interface EndedRequest {
  readonly line: LogLine
  readonly traced: TracedRequest
  readonly cpuMs: number
  readonly functionMs: number
  readonly endedMs: number
}

const SWEEP_MS = 50

export class TraceAssembly {
  readonly #options: TraceAssemblyOptions
  readonly #pendingByKey = new Map<string, Pending>()
  /** Of the lines of all of them. */
  #pendingLength = 0
  /** Oldest first. */
  readonly #told = new Set<string>()
  readonly #lastWordsByInstance = new Map<string, string>()
  readonly #cpu: CpuShares
  readonly #timer: NodeJS.Timeout

  constructor(options: TraceAssemblyOptions, instanceIds: readonly string[]) {
    this.#options = options
    this.#cpu = new CpuShares(options.cpuMsOf, instanceIds)
    this.#timer = setInterval(() => this.#sweep(performance.now()), SWEEP_MS)
    this.#timer.unref()
  }

  onLine(line: LogLine): void {
    if (line.source === 'request') return
    if (line.source === 'instance') {
      if (line.level === 'error' && line.instanceId !== undefined) this.#keepLastWords(line.instanceId, line)
      return
    }
    const key = keyOf(line)
    // Of no request, or of one that is told already.
    const isLoose = key === undefined || this.#told.has(key)
    const pending = this.#pendingOf(isLoose ? `${line.instanceId ?? ''} ` : key, line)
    const lengthBefore = pending.lines.heldLength
    pending.lines.add(line)
    this.#pendingLength += pending.lines.heldLength - lengthBefore
    // A function can write lines under as many ids as it likes, of requests that never end.
    while (this.#pendingLength > TAIL_LIMITS.pendingTextMax) this.#dropOldest()
    if (isLoose) pending.dueMs = Math.min(pending.dueMs, performance.now() + TAIL_LIMITS.settleMs)
  }

  /** What the router told at one time. */
  onRequests(requests: readonly { readonly line: LogLine; readonly told: TailedRequest }[]): void {
    const nowMs = performance.now()
    const shares = this.#cpu.share(
      requests.map(({ line, told }) => ({ instanceId: line.instanceId, functionMs: told.functionMs ?? 0 })),
    )
    for (const [index, { line, told }] of requests.entries()) {
      const key = keyOf(line) ?? `${index}`
      // Another request under the same id: clients choose them.
      this.#told.delete(key)
      const pending = this.#pendingOf(key, line)
      if (pending.request !== undefined) this.#tell(key, pending)
      const current = pending.request === undefined ? pending : this.#pendingOf(key, line)
      current.request = {
        line,
        traced: readTracedRequest(told.head),
        cpuMs: shares[index] ?? 0,
        functionMs: told.functionMs ?? 0,
        endedMs: nowMs,
      }
      current.dueMs = nowMs + TAIL_LIMITS.settleMs
    }
  }

  /** What waits is not told any more. */
  close(): void {
    clearInterval(this.#timer)
    this.#pendingByKey.clear()
    this.#pendingLength = 0
  }

  #pendingOf(key: string, { instanceId, versionId }: LogLine): Pending {
    const known = this.#pendingByKey.get(key)
    if (known !== undefined) return known
    if (this.#pendingByKey.size >= TAIL_LIMITS.pendingEventsMax) this.#dropOldest()
    const sinceMs = performance.now()
    const dueMs = sinceMs + TAIL_LIMITS.requestWaitMsMax
    const lines = new LineCollection()
    const pending: Pending = { lines, instanceId, versionId, sinceMs, request: undefined, dueMs }
    this.#pendingByKey.set(key, pending)
    return pending
  }

  #dropOldest(): void {
    const [oldest] = this.#pendingByKey
    this.#forget(...oldest!)
    this.#options.onDropped(1)
  }

  #forget(key: string, { lines }: Pending): void {
    this.#pendingByKey.delete(key)
    this.#pendingLength -= lines.heldLength
  }

  #sweep(nowMs: number): void {
    for (const [key, pending] of this.#pendingByKey) {
      if (pending.dueMs > nowMs) continue
      const { request, instanceId } = pending
      const isOverdue = request === undefined || nowMs - request.endedMs >= TAIL_LIMITS.settleMsMax
      if (isOverdue || instanceId === undefined) {
        this.#tell(key, pending)
        continue
      }
      // Asked once at a time.
      pending.dueMs = Infinity
      void this.#options.pendingWork(instanceId).then((count) => {
        if (this.#pendingByKey.get(key) !== pending) return
        if (count === 0) this.#tell(key, pending)
        else pending.dueMs = performance.now() + TAIL_LIMITS.settleMs
      })
    }
  }

  #tell(key: string, pending: Pending): void {
    this.#forget(key, pending)
    if (pending.request !== undefined) this.#remember(key)
    const { functionName, scriptVersionOf, onEvent } = this.#options
    const { lines, versionId, request } = pending
    const { logs, exceptions, truncated } = lines
    const ended = request === undefined ? undefined : this.#describe(request, exceptions)
    const event: TraceEvent = {
      outcome: exceptions.length === 0 ? 'ok' : 'exception',
      scriptName: functionName,
      ...(versionId !== '' && { scriptVersion: { id: scriptVersionOf(versionId) } }),
      eventTimestamp: lines.firstAtMs ?? Date.now(),
      logs,
      exceptions,
      diagnosticsChannelEvents: [],
      truncated,
      executionModel: 'stateless',
      cpuTime: 0,
      wallTime: 0,
      event: null,
      ...ended,
    }
    onEvent({ event, versionId, request: request?.traced })
  }

  #describe(request: EndedRequest, exceptions: readonly TraceException[]): Partial<TraceEvent> {
    const { line, traced, cpuMs, functionMs } = request
    const { totalMs = 0, status = 0, error, clientAborted } = line.request ?? NOTHING_SAID
    const endedAtMs = Date.parse(line.time)
    const outcome = outcomeOf({ error, clientAborted }, exceptions.length)
    const lastWords = this.#lastWordsByInstance.get(line.instanceId ?? '')
    return {
      outcome,
      eventTimestamp: Math.round(endedAtMs - totalMs),
      ...(exceptions.length === 0 &&
        error !== undefined && { exceptions: [refusalException(error, lastWords, endedAtMs)] }),
      // An instance that was ended for it used all the time it had.
      cpuTime: Math.round(outcome === 'exceededCpu' ? functionMs : cpuMs),
      wallTime: Math.round(functionMs),
      event: traced.delivered === undefined ? requestEvent(traced, status) : tailEvent(traced.delivered),
    }
  }

  #remember(key: string): void {
    this.#told.delete(key)
    this.#told.add(key)
    if (this.#told.size <= TAIL_LIMITS.toldRequestsMax) return
    const [oldest] = this.#told
    this.#told.delete(oldest!)
  }

  #keepLastWords(instanceId: string, { message }: LogLine): void {
    this.#lastWordsByInstance.set(instanceId, message)
    if (this.#lastWordsByInstance.size <= LAST_WORDS_MAX) return
    const [oldest] = this.#lastWordsByInstance.keys()
    this.#lastWordsByInstance.delete(oldest!)
  }
}

const LAST_WORDS_MAX = 50
const NOTHING_SAID: Partial<RequestSummary> = {}

/** Ids of requests are the clients' to choose: those of one instance are told apart from those of another. */
function keyOf({ instanceId, requestId }: LogLine): string | undefined {
  return requestId === undefined ? undefined : `${instanceId ?? ''} ${requestId}`
}
