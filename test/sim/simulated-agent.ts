/**
 * The agent process around the production planner: turns what happens into events and carries out actions. Mirrors
 * `runtime/node/supervisor.ts`.
 */
import type { NodeAction, NodeEvent } from '../../runtime/pool/node-events.ts'
import type { InstanceAddress, RouterToAgent } from '../../runtime/pool/wire.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { ExitCause } from '../../sdk/model/node-status.ts'
import type { Fleet } from './fleet.ts'
import { BLANK_MIB, SimulatedInstance, type SimulatedDriver } from './simulated-driver.ts'
import type { SimulatedLink } from './simulated-link.ts'
import type { World } from './world.ts'

/** What the agent needs of the planner: broken variants stand in for it. */
export interface PlannerPort {
  on(event: NodeEvent, nowMs: number): readonly NodeAction[]
}

export interface AgentOptions {
  readonly world: World
  readonly driver: SimulatedDriver
  readonly link: SimulatedLink
  readonly fleet: Fleet
  readonly planner: PlannerPort
  nextInstanceId(): string
}

const PENDING_WORK_POLL_MS = 100
/** Asking an instance takes a round trip. */
const PENDING_WORK_MS = [0.2, 5] as const

export class SimulatedAgent {
  readonly #options: AgentOptions
  readonly #world: World
  readonly #startedById = new Map<string, number>()
  readonly #drainedById = new Map<string, () => void>()
  #ended = false

  constructor(options: AgentOptions) {
    this.#options = options
    this.#world = options.world
  }

  /** Takes over what an earlier agent left. */
  begin(): void {
    const { driver, fleet } = this.#options
    for (const {
      id,
      functionName,
      versionId,
      state,
      memoryLimitMib: memoryMib,
    } of driver.instances.values()) {
      if (state === 'running')
        this.#on({ type: 'found', instance: { id, functionName, versionId, memoryMib } })
    }
    this.sampleUsage(Number.POSITIVE_INFINITY)
    this.applyHead()
    this.#on({ type: 'prewarm', minByFunction: new Map(fleet.minByFunction) })
  }

  applyHead(): void {
    this.#on({ type: 'head', versions: this.#options.fleet.specs() })
  }

  applyPrewarm(): void {
    this.#on({ type: 'prewarm', minByFunction: new Map(this.#options.fleet.minByFunction) })
  }

  addresses(): InstanceAddress[] {
    return [...this.#options.driver.instances.values()]
      .filter(({ state, retiring }) => state === 'running' && !retiring)
      .map(addressOf)
  }

  onMessage(message: RouterToAgent): void {
    switch (message.type) {
      case 'need':
        this.#on(message)
        break
      case 'load':
        for (const { id, started } of message.instances) this.#startedById.set(id, started)
        this.#on(message)
        break
      case 'instance-drained':
        this.#drainedById.get(message.id)?.()
        break
      case 'instance-paused':
        this.#on({ type: 'paused', id: message.id })
        break
      case 'pause-refused':
        this.#on({ type: 'pause-refused', id: message.id })
        break
      case 'instance-resumed':
        this.#on({ type: 'resumed', id: message.id })
        break
      case 'instance-unreachable': {
        const instance = this.#options.driver.instances.get(message.id)
        if (instance !== undefined && !instance.retiring) this.#options.driver.end(instance, 'crashed')
        break
      }
      default:
    }
  }

  onRouterLost(): void {
    this.#startedById.clear()
    for (const drained of this.#drainedById.values()) drained()
    this.#on({ type: 'router-lost' })
  }

  onExit(instance: SimulatedInstance, cause: ExitCause): void {
    if (this.#ended) return
    const { id, answered } = instance
    const message = `instance ${id} ended: ${cause}`
    this.#startedById.delete(id)
    this.#drainedById.get(id)?.()
    this.#options.link.toRouter({ type: 'instance-gone', id, cause, message })
    this.#on({ type: 'ended', id, cause, message, answered })
  }

  /** Every 100 ms. */
  tick(): void {
    this.#on({ type: 'tick' })
  }

  /** Every second. */
  sampleUsage(elapsedMs: number): void {
    const { driver } = this.#options
    const instances = []
    for (const instance of driver.instances.values()) {
      if (instance.state !== 'running') continue
      const cpuShare = Math.min(1, (instance.cpuMs - instance.cpuMsAtSample) / Math.max(1, elapsedMs))
      instance.cpuMsAtSample = instance.cpuMs
      instance.measuredMib = instance.memoryMib
      instances.push({ id: instance.id, memoryMib: instance.memoryMib, cpuShare })
    }
    this.#on({ type: 'usage', instances, blanksMib: new Map([['worker', driver.blanks * BLANK_MIB]]) })
  }

  end(): void {
    this.#ended = true
  }

  #on(event: NodeEvent): void {
    if (this.#ended) return
    for (const action of this.#options.planner.on(event, this.#world.nowMs)) this.#act(action)
  }

  #act(action: NodeAction): void {
    const { driver, link } = this.#options
    switch (action.type) {
      case 'start':
        this.#start(action)
        break
      case 'pause':
        this.#pause(action.id)
        break
      case 'retire':
        this.#retire(action)
        break
      case 'delay': {
        const { versionId, reason } = action
        this.#world.observe(action)
        link.toRouter({ type: 'start-delayed', versionId, message: reason })
        break
      }
      case 'refuse': {
        const { type: _, ...refusal } = action
        this.#world.observe(action)
        link.toRouter({ type: 'start-refused', ...refusal })
        break
      }
      case 'blanks':
        driver.keepBlanks(action.count)
        break
      case 'cpu-weight':
      case 'memory-rank':
        break
      default:
        action satisfies never
    }
  }

  #start(action: Extract<NodeAction, { type: 'start' }>): void {
    const { startId, functionName, versionId, reason } = action
    const { driver, fleet, link } = this.#options
    const spec = fleet.functions.get(functionName)
    const id = this.#options.nextInstanceId()
    const instance = new SimulatedInstance({
      id,
      functionName,
      versionId,
      behaviour: fleet.behaviour(versionId),
      memoryLimitMib: spec?.memoryMib ?? 128,
      reserveMib: spec?.reserveMib ?? 0,
      startAtMs: this.#world.nowMs,
    })
    driver.start(instance, {
      onRunning: () => {
        // Of an agent that died meanwhile: the next one clears away what was half started.
        if (this.#ended) {
          driver.end(instance, 'killed')
          return
        }
        this.#world.observe({ type: 'running', id, versionId })
        link.toRouter({ type: 'instance-up', instance: addressOf(instance), cold: true })
        this.#on({ type: 'started', startId, instanceId: id, memoryMib: instance.memoryLimitMib })
      },
      onFailed: ({ full, message }) => {
        this.#world.observe({ type: 'start-failed', id, versionId, full })
        this.#on({ type: 'start-failed', startId, fault: full ? 'full' : 'version', message })
      },
    })
    this.#world.observe({ type: 'start', id, functionName, versionId, reason })
  }

  #pause(id: string): void {
    const { driver, link } = this.#options
    const instance = driver.instances.get(id)
    const started = this.#startedById.get(id) ?? 0
    this.#world.in(this.#world.between(PENDING_WORK_MS), () => {
      if (this.#ended) return
      if (
        instance === undefined ||
        instance.state === 'gone' ||
        driver.hasPendingWork(instance) ||
        !link.toRouter({ type: 'instance-pause', id, started })
      ) {
        this.#on({ type: 'pause-refused', id })
      }
    })
  }

  /** Drain, wait for `waitUntil` work, stop. */
  #retire({ id, reason }: { readonly id: string; readonly reason: string }): void {
    const world = this.#world
    const { driver, link } = this.#options
    const instance = driver.instances.get(id)
    world.observe({ type: 'retire', id, reason })
    if (instance === undefined || instance.retiring) return
    instance.retiring = true
    const untilMs = world.nowMs + INSTANCE_LIMITS.drainTimeoutMs
    const stopOnceAtRest = (): void => {
      if (this.#ended || instance.state === 'gone') return
      if (world.nowMs < untilMs && driver.hasPendingWork(instance))
        world.in(PENDING_WORK_POLL_MS, stopOnceAtRest)
      else driver.stop(instance)
    }
    let drained = false
    const onDrained = (): void => {
      if (drained) return
      drained = true
      this.#drainedById.delete(id)
      stopOnceAtRest()
    }
    this.#drainedById.set(id, onDrained)
    world.at(untilMs, onDrained)
    if (!link.toRouter({ type: 'instance-drain', id })) onDrained()
  }
}

function addressOf({ id, functionName, versionId }: SimulatedInstance): InstanceAddress {
  return { id, functionName, versionId, socketPath: id, freezer: { file: id, frozen: '1', thawed: '0' } }
}
