import { availableParallelism } from 'node:os'
import { DEFAULT_POLICY, type Policy } from '../../sdk/model/policy.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { isIsolaError } from '../../sdk/model/errors.ts'
import type { ExitCause } from '../../sdk/model/node-status.ts'
import type { Head, Version } from '../../sdk/model/function.ts'
import type { AgentToRouter, InstanceAddress, InstanceLoad, VersionLoad } from '../pool/wire.ts'
import type { ExitReport, Instance, InstanceDriver } from '../pool/driver.ts'
import { decideInstances } from '../pool/scaling.ts'
import { Backoff } from './backoff.ts'
import { hasPendingWork } from './pending-work.ts'
import { allowedCpuMs, Watchdog } from './watchdog.ts'

/**
 * Keeps as many instances as are wanted: starts them when the router needs some, watches what they burn, drains and
 * stops those that are idle or replaced, and tells the router of each step. All state changes of instances on this
 * node pass through here; the drivers only carry them out.
 */
export interface SupervisorOptions {
  readonly driver: InstanceDriver
  getVersion(functionName: string, versionId: string): Promise<Version>
  /** Tells the router. False where none is connected: `addresses` makes up for it on connection. */
  tellRouter(message: AgentToRouter): boolean
  onEvent(line: string): void
}

interface Held {
  readonly instance: Instance
  readonly version: Version | undefined
  lastActiveMs: number
  inFlight: number
  progress: number
  draining: boolean
  cpuMsAtSample: number
  cpuShare: number
}

/** What a head wants of a version. */
interface Wanted {
  readonly functionName: string
  readonly policy: Policy
  readonly percent: number
}

const TICK_MS = 100
const CPU_SAMPLE_MS = 1_000
/** Versions without traffic (replaced, previewed) leave sooner than their policy's idle time says. */
const UNWANTED_IDLE_MS_MAX = 10_000
const STARTS_AT_ONCE_MAX = availableParallelism() * 2

export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #heldById = new Map<string, Held>()
  readonly #startingByVersion = new Map<string, number>()
  readonly #wantedByVersion = new Map<string, Wanted>()
  readonly #policyByFunction = new Map<string, Policy>()
  readonly #loadByVersion = new Map<string, VersionLoad>()
  readonly #drainedById = new Map<string, () => void>()
  readonly #watchdog = new Watchdog()
  readonly #backoff = new Backoff()
  readonly #machine = { instancesMax: Math.max(2, availableParallelism()) }
  #starts = 0
  /** Function by version that was to be started while as many starts were under way as may be. */
  readonly #deferred = new Map<string, string>()
  #timer: NodeJS.Timeout | undefined
  #sampledAtMs = 0
  #closing = false

  constructor(options: SupervisorOptions) {
    this.#options = options
  }

  /** Takes over what an earlier agent left, and begins to watch. */
  async start(): Promise<number> {
    const adopted = await this.#options.driver.adopt()
    for (const instance of adopted) {
      const version = await this.#options
        .getVersion(instance.functionName, instance.versionId)
        .catch(() => undefined)
      this.#hold(instance, version)
    }
    this.#timer = setInterval(() => this.#tick(performance.now()), TICK_MS)
    return adopted.length
  }

  get instances(): readonly Instance[] {
    return [...this.#heldById.values()].map(({ instance }) => instance)
  }

  isDraining(id: string): boolean {
    return this.#heldById.get(id)?.draining ?? false
  }

  addresses(): InstanceAddress[] {
    return [...this.#heldById.values()]
      .filter(({ draining }) => !draining)
      .map(({ instance }) => addressOf(instance))
  }

  /** A new head: what it does not want any more is drained, its minimums are started. */
  applyHead(head: Head): void {
    this.#wantedByVersion.clear()
    this.#policyByFunction.clear()
    for (const record of Object.values(head.functions)) {
      this.#policyByFunction.set(record.name, record.policy)
      for (const { versionId, percent } of record.deployment.shares) {
        this.#wantedByVersion.set(versionId, { functionName: record.name, policy: record.policy, percent })
      }
    }
    for (const held of this.#heldById.values()) {
      if (!this.#policyByFunction.has(held.instance.functionName)) this.#retire(held)
    }
    for (const versionId of this.#loadByVersion.keys()) {
      if (!this.#wantedByVersion.has(versionId) && !this.#hasInstanceOf(versionId))
        this.#loadByVersion.delete(versionId)
    }
    this.#keepMinimums()
  }

  /** Starts an instance to see whether the version can start; it stays for the first requests. */
  async trialStart(version: Version): Promise<void> {
    if (this.#hasInstanceOf(version.id)) return
    const instance = await this.#options.driver.start(version)
    this.#hold(instance, version)
    this.#options.tellRouter({ type: 'instance-up', instance: addressOf(instance), cold: false })
  }

  onNeed(need: { readonly functionName: string; readonly versionId: string; readonly queued: number }): void {
    const load = this.#loadByVersion.get(need.versionId)
    this.#loadByVersion.set(need.versionId, {
      functionName: need.functionName,
      versionId: need.versionId,
      inFlight: load?.inFlight ?? 0,
      requests: load?.requests ?? 0,
      queued: need.queued,
    })
    this.#scale(need.functionName, need.versionId)
  }

  onLoad(instances: readonly InstanceLoad[], versions: readonly VersionLoad[]): void {
    const nowMs = performance.now()
    for (const load of instances) {
      const held = this.#heldById.get(load.id)
      if (held === undefined) continue
      if (load.progress !== held.progress) this.#backoff.onAnswer(held.instance.versionId)
      if (load.inFlight > 0 || load.progress !== held.progress || held.inFlight > 0) held.lastActiveMs = nowMs
      held.inFlight = load.inFlight
      held.progress = load.progress
      const burntMs = this.#watchdog.onLoad(load.id, load, held.instance.usage().cpuMs, nowMs)
      this.#judge(held, burntMs)
    }
    for (const load of versions) {
      this.#loadByVersion.set(load.versionId, load)
      this.#scale(load.functionName, load.versionId)
    }
  }

  onDrained(id: string): void {
    this.#drainedById.get(id)?.()
  }

  /** The router could not connect: if the process is still there, it does not serve. */
  onUnreachable(id: string, message: string): void {
    const held = this.#heldById.get(id)
    if (held === undefined || held.draining) return
    this.#options.onEvent(`instance ${id} of "${held.instance.functionName}" is unreachable: ${message}`)
    held.instance.kill('crashed')
  }

  /** No router, nothing in flight: what was being drained is drained, and the next one counts anew. */
  onRouterLost(): void {
    this.#loadByVersion.clear()
    for (const drained of this.#drainedById.values()) drained()
    for (const held of this.#heldById.values()) held.inFlight = 0
  }

  /** Stops everything; `waitUntil` work is waited for within the deadline. */
  async close(deadlineMs: number): Promise<void> {
    this.#closing = true
    clearInterval(this.#timer)
    await Promise.all([...this.#heldById.values()].map((held) => this.#finish(held, deadlineMs)))
  }

  #scale(functionName: string, versionId: string): void {
    if (this.#closing) return
    const wanted = this.#wantedByVersion.get(versionId)
    const policy = wanted?.policy ?? this.#policyByFunction.get(functionName)
    // Deleted: what is still under way ends where it is.
    if (policy === undefined) return
    const held = [...this.#heldById.values()].filter(
      ({ instance, draining }) => instance.versionId === versionId && !draining,
    )
    const starting = this.#startingByVersion.get(versionId) ?? 0
    const { desired } = decideInstances(
      policy,
      {
        running: held.length,
        starting,
        // Of those that stay: what a draining or dead instance works on moves nowhere.
        inFlight: held.reduce((sum, { inFlight }) => sum + inFlight, 0),
        queued: this.#loadByVersion.get(versionId)?.queued ?? 0,
        cpuShare: held.reduce((sum, { cpuShare }) => sum + cpuShare, 0) / Math.max(1, held.length),
        percent: wanted?.percent ?? 0,
      },
      this.#machine,
    )
    for (let count = held.length + starting; count < desired; count++) this.#launch(functionName, versionId)
  }

  #launch(functionName: string, versionId: string): void {
    const nowMs = performance.now()
    const barred = this.#backoff.check(versionId, nowMs)
    if (barred !== undefined) {
      this.#options.tellRouter({
        type: 'start-refused',
        versionId,
        code: 'crash_loop',
        message: `function "${functionName}" keeps failing and is tried again later: ${barred.message}`,
        retryAfterMs: Math.ceil(barred.waitMs),
      })
      return
    }
    if (this.#starts >= STARTS_AT_ONCE_MAX) {
      this.#deferred.set(versionId, functionName)
      return
    }
    this.#starts++
    this.#startingByVersion.set(versionId, (this.#startingByVersion.get(versionId) ?? 0) + 1)
    this.#options
      .getVersion(functionName, versionId)
      .then((version) =>
        this.#options.driver.start(version).then((instance) => this.#started(instance, version)),
      )
      .catch((error: unknown) => this.#startFailed(functionName, versionId, error))
      .finally(() => {
        this.#starts--
        const left = (this.#startingByVersion.get(versionId) ?? 1) - 1
        if (left > 0) this.#startingByVersion.set(versionId, left)
        else this.#startingByVersion.delete(versionId)
        this.#launchDeferred()
      })
  }

  /** Whether they are still wanted is decided anew. */
  #launchDeferred(): void {
    for (const [versionId, functionName] of this.#deferred) {
      if (this.#starts >= STARTS_AT_ONCE_MAX) return
      this.#deferred.delete(versionId)
      this.#scale(functionName, versionId)
    }
  }

  #started(instance: Instance, version: Version): void {
    const held = this.#hold(instance, version)
    if (this.#closing) void this.#finish(held, 0)
    else this.#options.tellRouter({ type: 'instance-up', instance: addressOf(instance), cold: true })
  }

  #startFailed(functionName: string, versionId: string, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error)
    const full = isIsolaError(error) && error.code === 'node_full'
    const waitMs = full
      ? 1_000
      : this.#backoff.onFault(versionId, { atStart: true, message }, performance.now())
    this.#options.onEvent(`function "${functionName}" version ${versionId} did not start: ${message}`)
    this.#options.tellRouter({
      type: 'start-refused',
      versionId,
      code: full ? 'node_full' : 'start_failed',
      message: `function "${functionName}" did not start: ${message}`,
      retryAfterMs: waitMs,
    })
  }

  #hold(instance: Instance, version: Version | undefined): Held {
    const held: Held = {
      instance,
      version,
      lastActiveMs: performance.now(),
      inFlight: 0,
      progress: 0,
      draining: false,
      cpuMsAtSample: instance.usage().cpuMs,
      cpuShare: 0,
    }
    this.#heldById.set(instance.id, held)
    void instance.exited.then((report) => this.#ended(held, report))
    return held
  }

  #ended(held: Held, report: ExitReport): void {
    const { id, versionId, functionName } = held.instance
    this.#heldById.delete(id)
    this.#watchdog.forget(id)
    this.#drainedById.get(id)?.()
    this.#options.tellRouter({ type: 'instance-gone', id, cause: report.cause, message: report.message })
    if (report.cause === 'stopped') return
    this.#options.onEvent(`instance ${id} of "${functionName}" ended: ${report.message}`)
    if (held.progress === 0 && (report.cause === 'crashed' || report.cause === 'out_of_memory')) {
      this.#backoff.onFault(versionId, { atStart: false, message: report.message }, performance.now())
    }
    if (!this.#closing) this.#scale(functionName, versionId)
  }

  #judge(held: Held, burntMs: number): void {
    const limitMs = held.version?.content.limits.cpuMs ?? INSTANCE_LIMITS.cpuMsDefault
    if (burntMs <= allowedCpuMs(limitMs, this.#watchdog.requestsAtWork(held.instance.id))) return
    this.#end(
      held,
      'cpu_limit',
      `CPU limit of ${limitMs} ms exceeded: ${Math.round(burntMs)} ms used without an answer`,
    )
  }

  /** The router hears the cause before the connections break, so that the requests fail with its name. */
  #end(held: Held, cause: ExitCause, message: string): void {
    this.#options.tellRouter({ type: 'instance-gone', id: held.instance.id, cause, message })
    held.instance.kill(cause)
  }

  #tick(nowMs: number): void {
    const sample = nowMs - this.#sampledAtMs >= CPU_SAMPLE_MS
    for (const held of this.#heldById.values()) {
      if (sample) {
        const { cpuMs } = held.instance.usage()
        held.cpuShare = Math.min(1, (cpuMs - held.cpuMsAtSample) / Math.max(1, nowMs - this.#sampledAtMs))
        held.cpuMsAtSample = cpuMs
        this.#judge(held, this.#watchdog.onTick(held.instance.id, cpuMs, nowMs))
      }
      if (held.inFlight === 0 && !held.draining && nowMs - held.lastActiveMs > this.#idleMs(held))
        this.#retireIdle(held)
    }
    if (sample) {
      this.#sampledAtMs = nowMs
      for (const load of this.#loadByVersion.values()) {
        if (load.inFlight > 0) this.#scale(load.functionName, load.versionId)
      }
      this.#keepMinimums()
    }
  }

  #idleMs(held: Held): number {
    const wanted = this.#wantedByVersion.get(held.instance.versionId)
    if (wanted !== undefined) return wanted.policy.idleMs
    const { idleMs } = this.#policyByFunction.get(held.instance.functionName) ?? DEFAULT_POLICY
    return Math.min(idleMs, UNWANTED_IDLE_MS_MAX)
  }

  #retireIdle(held: Held): void {
    const wanted = this.#wantedByVersion.get(held.instance.versionId)
    const min = wanted === undefined ? 0 : Math.ceil((wanted.policy.min * wanted.percent) / 100)
    let running = 0
    for (const { instance, draining } of this.#heldById.values()) {
      if (instance.versionId === held.instance.versionId && !draining) running++
    }
    if (running > min) this.#retire(held)
  }

  #keepMinimums(): void {
    for (const [versionId, { functionName, policy }] of this.#wantedByVersion) {
      if (policy.min > 0) this.#scale(functionName, versionId)
    }
  }

  #retire(held: Held): void {
    if (!held.draining) void this.#finish(held, INSTANCE_LIMITS.drainTimeoutMs)
  }

  /** Drain, wait for `waitUntil` work, stop. The router answers with `instance-drained` once nothing is in flight. */
  async #finish(held: Held, deadlineMs: number): Promise<void> {
    const { instance } = held
    const until = performance.now() + deadlineMs
    if (!held.draining) {
      held.draining = true
      const drained = new Promise<void>((resolve) => {
        this.#drainedById.set(instance.id, resolve)
        setTimeout(resolve, deadlineMs).unref()
      })
      if (this.#options.tellRouter({ type: 'instance-drain', id: instance.id })) await drained
      this.#drainedById.delete(instance.id)
    }
    while (instance.exit === undefined && performance.now() < until && (await hasPendingWork(instance))) {
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    await instance.stop({ graceMs: INSTANCE_LIMITS.stopGraceMs })
  }

  #hasInstanceOf(versionId: string): boolean {
    for (const { instance, draining } of this.#heldById.values()) {
      if (instance.versionId === versionId && !draining) return true
    }
    return false
  }
}

function addressOf({ id, functionName, versionId, socketPath }: Instance): InstanceAddress {
  return { id, functionName, versionId, socketPath }
}
