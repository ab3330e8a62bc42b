import { availableParallelism } from 'node:os'
import { isIsolaError, type ErrorCode } from '../../sdk/model/errors.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { ExitCause, InstanceState, ScalingStatus } from '../../sdk/model/node-status.ts'
import type { Head, Version } from '../../sdk/model/function.ts'
import { scheduledMin } from '../control/schedule.ts'
import type { ExitReport, Instance, InstanceDriver } from '../pool/driver.ts'
import type { FoundInstance, NodeAction, NodeBudget, NodeEvent, StartFault } from '../pool/node-events.ts'
import { Planner } from '../pool/planner.ts'
import type {
  AgentToRouter,
  InstanceAddress,
  InstanceLoad,
  RouterToAgent,
  VersionLoad,
} from '../pool/wire.ts'
import type { InstanceEnd } from './node-accounting.ts'
import { hasPendingWork } from './pending-work.ts'
import { Endings } from './supervisor-ending.ts'
import { HeldInstances, type Held } from './supervisor-instances.ts'
import { StartTurns } from './supervisor-turns.ts'
import { HeadVersions } from './supervisor-versions.ts'
import type { InstanceSample } from './usage-meter.ts'
import { allowedCpuMs, Watchdog } from './watchdog.ts'

/**
 * The shell around the planner: what happens to instances on this node becomes its events, and what it wants is
 * carried out here, by the driver and by the router. Only two things are decided here and not there: that an instance
 * burns CPU beyond its limit (`watchdog.ts`), and that a version may start before it is deployed.
 */
export interface SupervisorOptions {
  readonly driver: InstanceDriver
  readonly budget: NodeBudget
  getVersion(functionName: string, versionId: string): Promise<Version>
  /** Tells the router. False where none is connected: `addresses` makes up for it on connection. */
  tellRouter(message: AgentToRouter): boolean
  /** Of every instance, once a second. */
  onSample?(instances: readonly InstanceSample[]): void
  onInstanceEnd?(end: InstanceEnd): void
  onEvent(line: string): void
}

/** How an instance was paused, or not, as the router says it. */
export type PauseMessage = Extract<
  RouterToAgent,
  { readonly type: 'instance-paused' | 'pause-refused' | 'instance-resumed' }
>

const TICK_MS = 100
const SAMPLE_MS = 1_000
const SCHEDULE_MS = 5_000
const MIB = 1024 * 1024
/** For trial starts, which come before any head names their version. */
const BLANKS_BASE = new Map([['worker', 2]])
const STARTS_AT_ONCE_MAX = availableParallelism() * 2

export class Supervisor {
  readonly planner: Planner
  readonly #options: SupervisorOptions
  readonly #held = new HeldInstances()
  readonly #versions: HeadVersions
  readonly #endings: Endings
  readonly #watchdog = new Watchdog()
  readonly #trials = new StartTurns(STARTS_AT_ONCE_MAX)
  readonly #badSchedules = new Set<string>()
  #timer: NodeJS.Timeout | undefined
  #sampledAtMs = 0
  #scheduledAtMs = -SCHEDULE_MS
  #closing = false

  constructor(options: SupervisorOptions) {
    this.#options = options
    const { driver, getVersion, tellRouter, onEvent } = options
    this.planner = new Planner({
      budget: options.budget,
      startsAtOnceMax: STARTS_AT_ONCE_MAX,
      blanksBase: BLANKS_BASE,
    })
    this.#versions = new HeadVersions({
      getVersion,
      foresee: (version) => driver.foresee(version),
      onChange: () => this.#plan({ type: 'head', versions: this.#versions.specs() }),
      onEvent,
    })
    this.#endings = new Endings({
      tellDrain: (id) => tellRouter({ type: 'instance-drain', id }),
      isPaused: (id) => this.#held.get(id)?.paused ?? false,
    })
  }

  /** Takes over what an earlier agent left, and begins to watch. */
  async start(): Promise<number> {
    const adopted = await this.#options.driver.adopt()
    for (const instance of adopted) {
      const { functionName, versionId } = instance
      // Without its document the limits of its function hold.
      await this.#options.getVersion(functionName, versionId).then(
        (version) => this.#versions.remember(version),
        () => undefined,
      )
      this.#hold(instance)
      this.#plan({ type: 'found', instance: foundOf(instance) })
    }
    // Before the first head gives out places: for a function that is not in it nothing else says what its instances take.
    const instances = adopted.map((instance) => {
      return { id: instance.id, memoryMib: instance.usage().memoryBytes / MIB, cpuShare: 0 }
    })
    if (instances.length > 0) this.#plan({ type: 'usage', instances, blanksMib: new Map() })
    this.#timer = setInterval(() => this.#tick(performance.now()), TICK_MS)
    return adopted.length
  }

  get instances(): readonly Instance[] {
    return this.#held.all().map(({ instance }) => instance)
  }

  stateOf({ id, state }: Instance): InstanceState {
    const held = this.#held.get(id)
    if (held?.draining) return 'draining'
    return held?.paused && state === 'running' ? 'paused' : state
  }

  /** Why there are as many instances as there are. */
  explain(): readonly ScalingStatus[] {
    return this.planner.explain(performance.now())
  }

  addresses(): InstanceAddress[] {
    return this.#held
      .all()
      .filter(({ draining }) => !draining)
      .map(({ instance }) => addressOf(instance))
  }

  /** Also when a policy or limits have changed: both are part of the head. */
  applyHead(head: Head): void {
    this.#versions.apply(head, this.#held.versionIds())
    this.#plan({ type: 'head', versions: this.#versions.specs() })
    this.#followSchedules()
  }

  /** Starts an instance to see whether the version can start; it stays for the first requests. */
  async trialStart(version: Version): Promise<void> {
    await this.#trials.take(async () => {
      if (this.#held.hasRunning(version.id)) return
      this.#versions.remember(version)
      const instance = await this.#launch(version)
      const held = this.#hold(instance)
      if (this.#closing) return this.#finish(held, 0)
      this.#options.tellRouter({ type: 'instance-up', instance: addressOf(instance), cold: false })
      this.#plan({ type: 'found', instance: foundOf(instance) })
    })
  }

  onNeed({ functionName, versionId, queued }: Extract<RouterToAgent, { readonly type: 'need' }>): void {
    this.#plan({ type: 'need', functionName, versionId, queued })
  }

  onLoad(instances: readonly InstanceLoad[], versions: readonly VersionLoad[]): void {
    const nowMs = performance.now()
    for (const load of instances) {
      const held = this.#held.get(load.id)
      if (held === undefined) continue
      held.progress = load.progress
      held.started = load.started
      held.paused = load.paused
      this.#judge(held, this.#watchdog.onLoad(load.id, load, held.instance.usage().cpuMs, nowMs))
    }
    this.#plan({ type: 'load', instances, versions })
  }

  onDrained(id: string): void {
    this.#endings.onDrained(id)
  }

  onPause({ type, id }: PauseMessage): void {
    const held = this.#held.get(id)
    if (held === undefined) return
    if (type === 'pause-refused') return this.#plan({ type, id })
    held.paused = type === 'instance-paused'
    this.#plan({ type: held.paused ? 'paused' : 'resumed', id })
  }

  /** The router could not connect: if the process is still there, it does not serve. */
  onUnreachable(id: string, message: string): void {
    const held = this.#held.get(id)
    if (held === undefined || held.draining) return
    this.#options.onEvent(`instance ${id} of "${held.instance.functionName}" is unreachable: ${message}`)
    held.instance.kill('crashed')
  }

  /** No router: nothing is in flight, what was being drained is drained, and the next one counts and thaws anew. */
  onRouterLost(): void {
    this.#endings.onRouterLost()
    for (const held of this.#held.all()) {
      held.paused = false
      held.started = 0
    }
    this.#plan({ type: 'router-lost' })
  }

  /** Stops everything; `waitUntil` work is waited for within the deadline. */
  async close(deadlineMs: number): Promise<void> {
    this.#closing = true
    clearInterval(this.#timer)
    await Promise.all(this.#held.all().map((held) => this.#finish(held, deadlineMs)))
  }

  #plan(event: NodeEvent): void {
    if (this.#closing) return
    for (const action of this.planner.on(event, performance.now())) this.#carryOut(action)
  }

  #carryOut(action: NodeAction): void {
    const { driver, tellRouter } = this.#options
    switch (action.type) {
      case 'start':
        void this.#start(action)
        return
      case 'pause':
        void this.#pause(action.id)
        return
      case 'retire': {
        const held = this.#held.get(action.id)
        if (held !== undefined) void this.#finish(held, INSTANCE_LIMITS.drainTimeoutMs)
        return
      }
      case 'delay':
        tellRouter({ type: 'start-delayed', versionId: action.versionId, message: action.reason })
        return
      case 'refuse': {
        const { versionId, code, message } = action
        const retryAfterMs = Math.ceil(action.retryAfterMs)
        tellRouter({ type: 'start-refused', versionId, code, message, retryAfterMs })
        return
      }
      case 'blanks':
        driver.keepBlanks(action.blankClass, action.count)
        return
      case 'cpu-weight':
        this.#held.get(action.id)?.instance.setCpuWeight(action.weight)
        return
      case 'memory-rank':
        this.#held.get(action.id)?.instance.setMemoryRank(action.rank)
    }
  }

  async #start(start: Extract<NodeAction, { readonly type: 'start' }>): Promise<void> {
    const { startId, functionName, versionId } = start
    let instance: Instance
    try {
      const version = await this.#options.getVersion(functionName, versionId)
      this.#versions.remember(version)
      instance = await this.#launch(version)
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      this.#options.onEvent(`function "${functionName}" version ${versionId} did not start: ${message}`)
      this.#plan({
        type: 'start-failed',
        startId,
        fault: faultOf(error),
        message: toldToVisitors(error, message),
      })
      return
    }
    const held = this.#hold(instance)
    if (this.#closing) return this.#finish(held, 0)
    this.#options.tellRouter({ type: 'instance-up', instance: addressOf(instance), cold: true })
    this.#plan({ type: 'started', startId, instanceId: instance.id, memoryMib: instance.memoryMib })
  }

  #launch(version: Version): Promise<Instance> {
    const { memoryMib, cpuMs } = this.#versions.limits(version.functionName, version.id)
    return this.#options.driver.start(version, { memoryMib, cpuMs })
  }

  /**
   * Only at rest: the number of requests it had is taken before it is asked for `waitUntil` work, so that the router
   * can tell whether one came in between, which may have left more of it.
   */
  async #pause(id: string): Promise<void> {
    const held = this.#held.get(id)
    if (held === undefined) return
    const { instance, started } = held
    const mayPause = instance.freezer !== undefined && !held.draining && !(await hasPendingWork(instance))
    if (mayPause && this.#options.tellRouter({ type: 'instance-pause', id, started })) return
    this.#plan({ type: 'pause-refused', id })
  }

  #hold(instance: Instance): Held {
    const held = this.#held.add(instance)
    void instance.exited.then((report) => this.#ended(held, report))
    return held
  }

  #ended({ instance, progress }: Held, { cause, message, cpuMs }: ExitReport): void {
    const { id, functionName, versionId } = instance
    this.#held.delete(id)
    this.#options.onInstanceEnd?.({ id, functionName, versionId, cause, cpuMs })
    this.#watchdog.forget(id)
    this.#endings.onDrained(id)
    this.#options.tellRouter({ type: 'instance-gone', id, cause, message })
    if (cause !== 'stopped') this.#options.onEvent(`instance ${id} of "${functionName}" ended: ${message}`)
    // A sign of life was part of a response; how many of them made one is nobody's concern.
    this.#plan({ type: 'ended', id, cause, message, answered: progress })
  }

  #finish(held: Held, deadlineMs: number): Promise<void> {
    held.draining = true
    return this.#endings.finish(held.instance, deadlineMs)
  }

  #judge(held: Held, burntMs: number): void {
    const { id, functionName, versionId } = held.instance
    // The limit of now: it changes without a deploy.
    const limitMs = this.#versions.limits(functionName, versionId).cpuMs
    if (burntMs <= allowedCpuMs(limitMs, this.#watchdog.requestsAtWork(id))) return
    this.#end(
      held,
      'cpu_limit',
      `CPU limit of ${limitMs} ms exceeded: ${Math.round(burntMs)} ms used without an answer`,
    )
  }

  /** The router hears the cause before the connections break, so that the requests fail with its name. */
  #end(held: Held, cause: ExitCause, message: string): void {
    this.#options.tellRouter({ type: 'instance-gone', id: held.instance.id, cause, message })
    held.instance.kill(cause, message)
  }

  #tick(nowMs: number): void {
    if (nowMs - this.#sampledAtMs >= SAMPLE_MS) this.#sample(nowMs)
    if (nowMs - this.#scheduledAtMs >= SCHEDULE_MS) this.#followSchedules()
    this.#plan({ type: 'tick' })
  }

  #sample(nowMs: number): void {
    const passedMs = Math.max(1, nowMs - this.#sampledAtMs)
    this.#sampledAtMs = nowMs
    const samples: InstanceSample[] = []
    const instances = this.#held.all().map((held) => {
      const { id, functionName, versionId, startedAtMs } = held.instance
      const { cpuMs, memoryBytes } = held.instance.usage()
      const cpuShare = Math.max(0, cpuMs - held.cpuMsAtSample) / passedMs
      held.cpuMsAtSample = cpuMs
      samples.push({ id, functionName, versionId, startedAtMs, cpuMs, memoryBytes })
      this.#judge(held, this.#watchdog.onTick(id, cpuMs, nowMs))
      return { id, memoryMib: memoryBytes / MIB, cpuShare }
    })
    this.#options.onSample?.(samples)
    const blanksMib = new Map<string, number>()
    for (const { blankClass, memoryBytes } of this.#options.driver.blanks()) {
      blanksMib.set(blankClass, (blanksMib.get(blankClass) ?? 0) + memoryBytes / MIB)
    }
    this.#plan({ type: 'usage', instances, blanksMib })
  }

  #followSchedules(): void {
    this.#scheduledAtMs = performance.now()
    const minByFunction = new Map<string, number>()
    for (const [functionName, prewarm] of this.#versions.prewarms()) {
      try {
        const min = scheduledMin(prewarm, Date.now())
        if (min > 0) minByFunction.set(functionName, min)
      } catch (error) {
        const message = (error as Error).message
        if (!this.#badSchedules.has(message)) {
          this.#badSchedules.add(message)
          this.#options.onEvent(`prewarm of "${functionName}" is left out: ${message}`)
        }
      }
    }
    this.#plan({ type: 'prewarm', minByFunction })
  }
}

function addressOf({ id, functionName, versionId, socketPath, freezer }: Instance): InstanceAddress {
  return { id, functionName, versionId, socketPath, ...(freezer !== undefined && { freezer }) }
}

/** A function's own last words may hold what visitors must not see; who deploys it, and its log, have them. */
function toldToVisitors(error: unknown, message: string): string {
  const told = isIsolaError(error) ? error.details?.['forVisitors'] : undefined
  return typeof told === 'string' ? told : message
}

/** Also what is lost of it: no waiting brings that back, a deploy does. */
const VERSION_FAULTS: ReadonlySet<ErrorCode> = new Set([
  'start_failed',
  'version_refused',
  'version_not_found',
  'blob_missing',
  'data_unusable',
])

/** What is not plainly the version's own is ours: it may be a bucket that does not answer, for every version alike. */
function faultOf(error: unknown): StartFault {
  const code = isIsolaError(error) ? error.code : undefined
  if (code === 'node_full') return 'full'
  if (code === 'engine_unavailable') return 'engine'
  return code !== undefined && VERSION_FAULTS.has(code) ? 'version' : 'node'
}

function foundOf({ id, functionName, versionId, memoryMib }: Instance): FoundInstance {
  return { id, functionName, versionId, memoryMib }
}
