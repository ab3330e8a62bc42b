import { isIsolaError, IsolaError } from '../../sdk/model/errors.ts'
import { USAGE_LIMITS } from '../../sdk/model/limits.ts'
import type { RouterMetrics, VersionMetrics } from '../../sdk/model/router-metrics.ts'
import type { UsageHour, UsageReport } from '../../sdk/model/usage.ts'
import type { OpenUsage, UsageNumbers, UsageStore } from '../registry/usage-store.ts'
import type { EgressTraffic } from './egress-hold.ts'
import { MeterCursor } from './usage-meter-cursor.ts'
import { hourOf, OpenHours } from './usage-meter-hours.ts'

/**
 * What functions use, by the hour. Router, egress proxy and kernel count in sums that only grow; what they grew by
 * is added to the hour in which the agent hears of it. The sums counted so far are stored together with the hours, so:
 *
 * - the agent is killed: what happened since the last write is counted from the sums again, once. Two things are lost
 *   for good, because nobody counts them meanwhile: memory × time until it is back, and the CPU, since the last write,
 *   of instances that ended without it.
 * - the router or the egress proxy is killed: what it counted since it last told, at most a second before.
 * - both at once, or the machine: what was not written, at most `lagS` seconds.
 *
 * Nothing is ever counted twice; where both cannot be had, it is not counted.
 */
export interface UsageMeterOptions {
  readonly store: UsageStore
  /** Whether the router serves it: what it counts of others it forgets. */
  isLive(functionName: string, versionId: string): boolean
  onEvent(line: string): void
  /** Milliseconds since 1970. */
  readonly now?: () => number
  /** Milliseconds on a clock that nobody sets. */
  readonly monotonicMs?: () => number
}

/** An instance as it is now. */
export interface InstanceSample {
  readonly id: string
  readonly functionName: string
  readonly versionId: string
  readonly startedAtMs: number
  /** Since its start. */
  readonly cpuMs: number
  readonly memoryBytes: number
}

const FLUSH_MS = 2_000
const GIB = 1024 ** 3
/** An instance that left the samples is soon reported as ended, with the CPU of its whole life. */
const ENDED_SAMPLES_MAX = 60
const INSTANCES_EPOCH = 'instances'

export class UsageMeter {
  readonly #options: UsageMeterOptions
  readonly #now: () => number
  readonly #monotonicMs: () => number
  #hours = new OpenHours()
  #router: MeterCursor | undefined
  #egress: MeterCursor | undefined
  #instances: MeterCursor | undefined
  readonly #memoryById = new Map<string, { functionName: string; bytes: number; atMs: number }>()
  #sampledAtMs: number | undefined
  /** Of the instances there are, as the router's sums are named. */
  #sampledVersions: ReadonlySet<string> = new Set()
  readonly #samplesMissedById = new Map<string, number>()
  #isChanged = false
  #writing: Promise<void> = Promise.resolve()
  #timer: NodeJS.Timeout | undefined
  #lastProblem = ''

  constructor(options: UsageMeterOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#monotonicMs = options.monotonicMs ?? (() => performance.now())
  }

  /** Takes up what was counted before. To be awaited before anything else is called. */
  async start(): Promise<void> {
    const { store, isLive, onEvent } = this.#options
    let open: OpenUsage | undefined
    let isLost = false
    try {
      open = await store.readOpen()
    } catch (error) {
      if (!isIsolaError(error) || error.code !== 'data_unusable') throw error
      isLost = true
      onEvent(
        `${error.message}; usage is counted on from here, and what running processes counted is left out`,
      )
    }
    this.#hours = new OpenHours(open?.hours)
    const cursor = (name: string, isNameLive: (name: string) => boolean): MeterCursor =>
      new MeterCursor({
        stored: open?.cursors[name],
        isLost,
        isLive: isNameLive,
        // The router goes on counting a version that was replaced while a WebSocket keeps an instance of it.
        isHeld: (version) => this.#sampledVersions.has(version),
        // An instance that is just gone reads as zero.
        mayRestart: name !== INSTANCES_EPOCH,
      })
    this.#router = cursor('router', (name) => {
      const [functionName = '', versionId = ''] = name.split('/')
      return isLive(functionName, versionId)
    })
    // The egress proxy keeps what it counted; so its entries stay.
    this.#egress = cursor('egress', () => true)
    this.#instances = cursor(INSTANCES_EPOCH, () => true)
    this.#timer = setInterval(() => void this.flush(), FLUSH_MS).unref()
  }

  onRouter({ epoch, versions }: RouterMetrics): void {
    const sums = versions.map((version) => ({
      name: sumName(version),
      values: sumsOf(version),
    }))
    this.#advance(this.#router, { epoch, sums }, (name, [answered = 0, refused = 0, cold = 0, bytes = 0]) => {
      this.#add(name.slice(0, name.indexOf('/')), {
        requests: Math.max(0, answered - refused),
        refused,
        coldStarts: cold,
        responseBytes: bytes,
      })
    })
  }

  onTraffic({ epoch, functions }: EgressTraffic): void {
    const sums = functions.map(({ functionName, bytesOut }) => ({ name: functionName, values: [bytesOut] }))
    this.#advance(this.#egress, { epoch, sums }, (name, [egressBytes = 0]) =>
      this.#add(name, { egressBytes }),
    )
  }

  /** All instances there are, once a second. */
  onSample(instances: readonly InstanceSample[]): void {
    const atMs = this.#monotonicMs()
    const functionById = new Map(instances.map(({ id, functionName }) => [id, functionName]))
    const sums = instances.map(({ id, cpuMs }) => ({ name: id, values: [cpuMs] }))
    this.#advance(this.#instances, { epoch: INSTANCES_EPOCH, sums }, (id, [cpuMs = 0]) =>
      this.#add(functionById.get(id) ?? '', { cpuMs }),
    )
    for (const instance of instances) {
      const { id, functionName, memoryBytes, startedAtMs } = instance
      const before = this.#memoryById.get(id)
      // A new one counts from its start. One that was there before this agent counts from now: nobody saw it since.
      const sinceMs =
        before?.atMs ?? Math.max(this.#sampledAtMs ?? atMs, atMs - Math.max(0, this.#now() - startedAtMs))
      this.#addMemory(functionName, memoryBytes, atMs - sinceMs)
      this.#memoryById.set(id, { functionName, bytes: memoryBytes, atMs })
    }
    this.#sampledAtMs = atMs
    this.#sampledVersions = new Set(instances.map(sumName))
    this.#forgetEnded(functionById)
  }

  /** `cpuMs`: of its whole life, where it could still be read. */
  onInstanceEnd(instance: {
    readonly id: string
    readonly functionName: string
    readonly cpuMs?: number | undefined
  }): void {
    const { id, functionName, cpuMs } = instance
    if (cpuMs !== undefined) {
      const sums = [{ name: id, values: [cpuMs] }]
      this.#advance(this.#instances, { epoch: INSTANCES_EPOCH, sums }, (_id, [growth = 0]) =>
        this.#add(functionName, { cpuMs: growth }),
      )
    }
    this.#instances?.forget(id)
    this.#samplesMissedById.delete(id)
    const memory = this.#memoryById.get(id)
    if (memory !== undefined) this.#addMemory(functionName, memory.bytes, this.#monotonicMs() - memory.atMs)
    this.#memoryById.delete(id)
  }

  /** What is not on disk yet is in it. Throws `invalid_argument` for more rows than an answer may have. */
  async report(query: {
    readonly sinceMs: number
    readonly untilMs?: number | undefined
    readonly functionName?: string | undefined
  }): Promise<UsageReport> {
    const { store } = this.#options
    const since = hourOf(query.sinceMs)
    const until = query.untilMs === undefined ? undefined : new Date(query.untilMs).toISOString()
    const isAsked = (hour: string): boolean => hour >= since && (until === undefined || hour < until)
    // Before the list: an hour that is over leaves the open ones only once it is in the list.
    const names = new Set(this.#hours.names.filter(isAsked))
    for (const hour of await store.listHours(since)) if (isAsked(hour)) names.add(hour)
    await this.#hours.complete((hour) => store.readHour(hour))
    const hours: UsageHour[] = []
    for (const hour of [...names].sort()) {
      const rows = this.#hours.has(hour) ? this.#hours.rows(hour) : await store.readHour(hour)
      for (const [functionName, numbers] of rows ?? []) {
        if (query.functionName !== undefined && query.functionName !== functionName) continue
        hours.push({ functionName, hour, ...rounded(numbers) })
      }
      if (hours.length > USAGE_LIMITS.rowsPerReportMax) throw tooManyRows(query.sinceMs)
    }
    return { hours, lagS: USAGE_LIMITS.lagS }
  }

  /** Never rejects: what cannot be written is kept and tried again. */
  flush(): Promise<void> {
    this.#writing = this.#writing.then(() =>
      this.#write().then(
        () => this.#recovered(),
        (error: unknown) => this.#failed(error),
      ),
    )
    return this.#writing
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.flush()
  }

  #advance(
    cursor: MeterCursor | undefined,
    message: Parameters<MeterCursor['advance']>[0],
    onGrowth: Parameters<MeterCursor['advance']>[1],
  ): void {
    if (cursor === undefined || message.sums.length === 0) return
    const isNext = cursor.advance(message, onGrowth)
    this.#isChanged = true
    // Nobody else knows any more what the one before had told.
    if (isNext) void this.flush()
  }

  #add(functionName: string, numbers: Parameters<OpenHours['add']>[2]): void {
    this.#hours.add(hourOf(this.#now()), functionName, numbers)
    this.#isChanged = true
  }

  #addMemory(functionName: string, bytes: number, durationMs: number): void {
    if (bytes > 0 && durationMs > 0) this.#add(functionName, { gbS: (bytes / GIB) * (durationMs / 1_000) })
  }

  #forgetEnded(present: ReadonlyMap<string, unknown>): void {
    for (const id of this.#instances?.names ?? []) {
      if (present.has(id)) {
        this.#samplesMissedById.delete(id)
        continue
      }
      const missed = (this.#samplesMissedById.get(id) ?? 0) + 1
      this.#samplesMissedById.set(id, missed)
      if (missed < ENDED_SAMPLES_MAX) continue
      this.#instances?.forget(id)
      this.#memoryById.delete(id)
      this.#samplesMissedById.delete(id)
    }
  }

  async #write(): Promise<void> {
    const { store } = this.#options
    this.#router?.forgetGone(this.#monotonicMs())
    if (!this.#isChanged) return
    const current = hourOf(this.#now())
    await this.#hours.complete((hour) => store.readHour(hour))
    // From here to the call below nothing may wait: hours and cursors are of one moment.
    const additionsByHour = new Map(this.#hours.names.map((hour) => [hour, this.#hours.additions(hour)]))
    this.#isChanged = false
    try {
      await store.writeOpen(this.#stored())
    } catch (error) {
      this.#isChanged = true
      throw error
    }
    for (const [hour, additions] of additionsByHour) {
      if (hour === current) continue
      this.#isChanged = true
      await store.writeHour(hour, this.#hours.rows(hour))
      // It may have grown while it was written, where the clock went back: then it is written again.
      if (this.#hours.additions(hour) === additions) this.#hours.remove(hour)
      await store.removeBefore(hourOf(Date.parse(hour) - USAGE_LIMITS.keptDays * 24 * 3_600_000))
    }
  }

  #stored(): OpenUsage {
    const cursors = { router: this.#router, egress: this.#egress, [INSTANCES_EPOCH]: this.#instances }
    return {
      hours: new Map(this.#hours.names.map((hour) => [hour, this.#hours.rows(hour)])),
      cursors: Object.fromEntries(
        Object.entries(cursors).flatMap(([name, cursor]) => {
          const stored = cursor?.toStored()
          return stored === undefined ? [] : [[name, stored] as const]
        }),
      ),
    }
  }

  #failed(error: unknown): void {
    const problem = error instanceof Error ? error.message : String(error)
    if (problem !== this.#lastProblem)
      this.#options.onEvent(`usage cannot be written, it is kept in memory: ${problem}`)
    this.#lastProblem = problem
  }

  #recovered(): void {
    if (this.#lastProblem !== '') this.#options.onEvent('usage is written again')
    this.#lastProblem = ''
  }
}

function sumName({ functionName, versionId }: Pick<InstanceSample, 'functionName' | 'versionId'>): string {
  return `${functionName}/${versionId}`
}

function sumsOf({ requests, refusals, coldStarts, responseBytes }: VersionMetrics): number[] {
  const total = (counts: readonly { readonly count: number }[]): number =>
    counts.reduce((sum, { count }) => sum + count, 0)
  // Nobody is charged for a visitor who left before there was an answer.
  const answered = requests.filter(({ status }) => status !== CLIENT_CLOSED)
  return [total(answered), total(refusals), coldStarts, responseBytes]
}

/** As the router counts a client that went before there was a status. */
const CLIENT_CLOSED = 499

/** Sums of fractions have long tails. */
function rounded(numbers: UsageNumbers): UsageNumbers {
  const { cpuMs, gbS } = numbers
  return { ...numbers, cpuMs: Math.round(cpuMs * 1e3) / 1e3, gbS: Math.round(gbS * 1e6) / 1e6 }
}

function tooManyRows(sinceMs: number): IsolaError {
  return new IsolaError(
    'invalid_argument',
    `usage since ${new Date(sinceMs).toISOString()} has more than ${USAGE_LIMITS.rowsPerReportMax} rows of a function and an hour: ask for a shorter time, or for one function`,
  )
}
