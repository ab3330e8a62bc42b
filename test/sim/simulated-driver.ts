/**
 * The machine: processes that start, work, grow, crash and stop. What the isolate driver and the kernel do in
 * production, and only that: nothing here decides how many there are.
 */
import type { ExitCause } from '../../sdk/model/node-status.ts'
import type { Behaviour } from './scenario.ts'
import type { World } from './world.ts'

export const BLANK_MIB = 9
const BLANK_START_MS = [15, 60] as const
const STOP_MS = [1, 20] as const
const STOP_GRACE_MS = 5_000

export class SimulatedInstance {
  readonly id: string
  readonly functionName: string
  readonly versionId: string
  readonly behaviour: Behaviour
  readonly memoryLimitMib: number
  /** As the planner knows it. */
  reserveMib: number
  readonly startAtMs: number
  state: 'starting' | 'running' | 'gone' = 'starting'
  runningSinceMs = 0
  /** As the agent decided; the process knows nothing of it. */
  retiring = false
  stopping = false
  frozen = false
  memoryMib: number
  /** As last told to the planner. */
  measuredMib = 0
  cpuMs = 0
  cpuMsAtSample = 0
  answered = 0
  /** When its `waitUntil` work ends. */
  pendingUntilMs = 0
  /** What to call when it ends, by the request it works on. */
  readonly onEndByRequestId = new Map<number, () => void>()

  constructor(options: {
    readonly id: string
    readonly functionName: string
    readonly versionId: string
    readonly behaviour: Behaviour
    readonly memoryLimitMib: number
    readonly reserveMib: number
    readonly startAtMs: number
  }) {
    this.id = options.id
    this.functionName = options.functionName
    this.versionId = options.versionId
    this.behaviour = options.behaviour
    this.memoryLimitMib = options.memoryLimitMib
    this.reserveMib = options.reserveMib
    this.startAtMs = options.startAtMs
    this.memoryMib = options.behaviour.memoryMib
  }
}

interface StartCallbacks {
  onRunning(): void
  onFailed(failure: { readonly full: boolean; readonly message: string }): void
}

export class SimulatedDriver {
  readonly #world: World
  readonly #fullPerStart: number
  /** All processes but blanks, also those that are starting. */
  readonly instances = new Map<string, SimulatedInstance>()
  blanks = 0
  #blanksWanted = 0
  #blankOnItsWay = false
  /** The agent's ear. */
  onExit: (instance: SimulatedInstance, cause: ExitCause) => void = () => {}

  constructor(world: World, fullPerStart: number) {
    this.#world = world
    this.#fullPerStart = fullPerStart
  }

  start(instance: SimulatedInstance, callbacks: StartCallbacks): void {
    const { behaviour } = instance
    const world = this.#world
    this.instances.set(instance.id, instance)
    const fromBlank = this.blanks > 0
    if (fromBlank) this.blanks--
    this.#refill()
    world.in(world.between(behaviour.startMs) * (fromBlank ? 1 : 10), () => {
      if (instance.state === 'gone') return
      const full = world.random.chance(this.#fullPerStart)
      if (full || this.#isBroken(instance, 'start')) {
        this.#remove(instance)
        callbacks.onFailed({ full, message: full ? 'no place' : 'a throw at load' })
        return
      }
      instance.state = 'running'
      instance.runningSinceMs = world.nowMs
      callbacks.onRunning()
      if (this.#isBroken(instance, 'crash'))
        world.in(world.random.between(0, 4), () => this.end(instance, 'crashed'))
    })
  }

  #isBroken({ behaviour: { broken } }: SimulatedInstance, how: 'start' | 'crash'): boolean {
    const { nowMs } = this.#world
    return broken?.how === how && nowMs >= broken.fromMs && nowMs < broken.untilMs
  }

  keepBlanks(count: number): void {
    this.#blanksWanted = count
    this.blanks = Math.min(this.blanks, count)
    this.#refill()
  }

  #refill(): void {
    if (this.#blankOnItsWay || this.blanks >= this.#blanksWanted) return
    this.#blankOnItsWay = true
    this.#world.in(this.#world.between(BLANK_START_MS), () => {
      this.#blankOnItsWay = false
      if (this.blanks < this.#blanksWanted) this.blanks++
      this.#refill()
    })
  }

  /** Works on a request; `onDone` or, if the process ends before, `onEnd`. */
  serve(instance: SimulatedInstance, requestId: number, callbacks: { onDone(): void; onEnd(): void }): void {
    const world = this.#world
    const { behaviour } = instance
    instance.onEndByRequestId.set(requestId, callbacks.onEnd)
    const cpuMs = world.between(behaviour.cpuMs)
    // One process uses one core: whatever is in it at the same time shares it.
    const durationMs = world.between(behaviour.waitMs) + cpuMs * instance.onEndByRequestId.size
    const crashes = behaviour.crashPerRequest > 0 && world.random.chance(behaviour.crashPerRequest)
    world.in(durationMs, () => {
      if (instance.state === 'gone') return
      instance.cpuMs += cpuMs
      if (crashes) {
        this.end(instance, 'crashed')
        return
      }
      instance.onEndByRequestId.delete(requestId)
      instance.answered++
      instance.memoryMib += behaviour.growthMibPerRequest
      if (behaviour.waitUntil > 0 && world.random.chance(behaviour.waitUntil)) {
        instance.pendingUntilMs = Math.max(
          instance.pendingUntilMs,
          world.nowMs + world.between(behaviour.waitUntilMs),
        )
      }
      callbacks.onDone()
      if (instance.memoryMib > instance.memoryLimitMib) this.end(instance, 'out_of_memory')
    })
  }

  hasPendingWork(instance: SimulatedInstance): boolean {
    return instance.pendingUntilMs > this.#world.nowMs
  }

  /** SIGTERM to one at rest ends it soon; what still has requests is killed after the grace. */
  stop(instance: SimulatedInstance): void {
    if (instance.stopping) return
    instance.stopping = true
    const world = this.#world
    const isAtRest = instance.onEndByRequestId.size === 0
    world.in(isAtRest ? world.between(STOP_MS) : STOP_GRACE_MS, () => this.end(instance, 'stopped'))
  }

  end(instance: SimulatedInstance, cause: ExitCause): void {
    if (instance.state === 'gone') return
    this.#remove(instance)
    this.#world.observe({ type: 'gone', id: instance.id, versionId: instance.versionId, cause })
    const ends = [...instance.onEndByRequestId.values()]
    instance.onEndByRequestId.clear()
    for (const onEnd of ends) onEnd()
    this.onExit(instance, cause)
  }

  #remove(instance: SimulatedInstance): void {
    instance.state = 'gone'
    this.instances.delete(instance.id)
  }
}
