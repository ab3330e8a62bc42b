/**
 * A node in virtual time around a real planner: starts take `startMs`, who retires ends when nothing is in flight, and
 * every 100 ms there is a load report of what is in flight and a tick. Tests say what requests there are and when.
 */
import type { NodeAction, NodeEvent, StartFault, VersionSpec } from '../../runtime/pool/node-events.ts'
import { Planner, type PlannerOptions } from '../../runtime/pool/planner.ts'
import { DEFAULT_POLICY, type PolicyPatch } from '../../sdk/model/policy.ts'
import type { ScalingStatus } from '../../sdk/model/node-status.ts'

export interface TimelineInstance {
  readonly id: string
  readonly functionName: string
  readonly versionId: string
  inFlight: number
  progress: number
  started: number
  paused: boolean
  leaving: boolean
  memoryMib: number
  cpuShare: number
}

export interface TimedAction {
  readonly atMs: number
  readonly action: NodeAction
}

interface Demand {
  inFlight: number
  queued: number
  requests: number
}

type ActionOf<Type extends NodeAction['type']> = Extract<NodeAction, { readonly type: Type }>

/** Function `a` has the version `a1` unless said otherwise. */
export function specOf(
  functionName: string,
  policy: PolicyPatch = {},
  more: Partial<VersionSpec> = {},
): VersionSpec {
  return {
    functionName,
    versionId: `${functionName}1`,
    percent: 100,
    policy: { ...DEFAULT_POLICY, ...policy },
    memoryMib: 128,
    reserveMib: 20,
    blankClass: 'worker',
    ...more,
  }
}

export class Timeline {
  readonly planner: Planner
  readonly history: TimedAction[] = []
  readonly instances = new Map<string, TimelineInstance>()
  nowMs = 0
  /** How long a start takes; Infinity: it is answered by hand, with `answerStart`. */
  startMs = 0
  /** False: instances that shall leave stay, as if their requests did not end. */
  retires = true
  /** What the router answers to `pause`. */
  pauseAnswer: 'paused' | 'pause-refused' | 'none' = 'paused'
  readonly #demands = new Map<string, { readonly functionName: string; readonly demand: Demand }>()
  readonly pending: ActionOf<'start'>[] = []
  #instanceCount = 0

  constructor(options: Partial<PlannerOptions> = {}) {
    this.planner = new Planner({ budget: { memoryMib: 1_000, cpus: 4 }, startsAtOnceMax: 8, ...options })
  }

  send(event: NodeEvent): readonly NodeAction[] {
    const actions = this.planner.on(event, this.nowMs)
    for (const action of actions) {
      this.history.push({ atMs: this.nowMs, action })
      this.#carryOut(action)
    }
    return actions
  }

  head(...versions: VersionSpec[]): readonly NodeAction[] {
    return this.send({ type: 'head', versions })
  }

  /** Word of requests that wait now; those that go on waiting `requests` says. */
  need(functionName: string, queued = 1, versionId = `${functionName}1`): readonly NodeAction[] {
    return this.send({ type: 'need', functionName, versionId, queued })
  }

  /** From now on so many requests of the version are in flight and wait. */
  requests(functionName: string, inFlight: number, queued = 0, versionId = `${functionName}1`): void {
    const demand = this.#demand(functionName, versionId)
    demand.inFlight = inFlight
    demand.queued = queued
  }

  /** A request that comes and goes. */
  visit(functionName: string): void {
    this.requests(functionName, 1)
    if (this.of(functionName).length === 0) this.need(functionName)
    this.run(100)
    this.requests(functionName, 0)
    this.run(100)
  }

  /** Lets time pass: reports and ticks every 100 ms, memory and CPU every second. */
  run(forMs: number): readonly TimedAction[] {
    const from = this.history.length
    const untilMs = this.nowMs + forMs
    while (this.nowMs < untilMs) {
      this.nowMs += 100
      this.#answerDue()
      this.#report()
      if (this.nowMs % 1_000 === 0) this.measure()
      this.send({ type: 'tick' })
    }
    return this.history.slice(from)
  }

  measure(blanksMib: ReadonlyMap<string, number> = new Map()): readonly NodeAction[] {
    return this.send({ type: 'usage', instances: [...this.instances.values()], blanksMib })
  }

  of(functionName: string, versionId?: string): TimelineInstance[] {
    return [...this.instances.values()].filter(
      (instance) =>
        instance.functionName === functionName &&
        !instance.leaving &&
        (versionId === undefined || instance.versionId === versionId),
    )
  }

  actions<Type extends NodeAction['type']>(type: Type): ActionOf<Type>[] {
    return this.history
      .filter(({ action }) => action.type === type)
      .map(({ action }) => action as ActionOf<Type>)
  }

  status(functionName: string): ScalingStatus | undefined {
    return this.planner.explain(this.nowMs).find((status) => status.functionName === functionName)
  }

  /** One that the planner did not ask for, of the function's only version. */
  find(functionName: string, memoryMib?: number): void {
    const instance = this.#instance(functionName, `${functionName}1`)
    const limit = memoryMib === undefined ? {} : { memoryMib }
    const { id, versionId } = instance
    this.send({ type: 'found', instance: { id, functionName, versionId, ...limit } })
  }

  answerStart(start: ActionOf<'start'>, memoryMib?: number): TimelineInstance {
    const { functionName, versionId, startId } = start
    const instance = this.#instance(functionName, versionId)
    const limit = memoryMib === undefined ? {} : { memoryMib }
    this.send({ type: 'started', startId, instanceId: instance.id, ...limit })
    return instance
  }

  failStart(start: ActionOf<'start'>, message: string, fault: StartFault = 'version'): readonly NodeAction[] {
    return this.send({ type: 'start-failed', startId: start.startId, fault, message })
  }

  crash(instance: TimelineInstance, answered: number): readonly NodeAction[] {
    this.instances.delete(instance.id)
    return this.send({ type: 'ended', id: instance.id, cause: 'crashed', message: 'boom', answered })
  }

  stop(instance: TimelineInstance): readonly NodeAction[] {
    this.instances.delete(instance.id)
    return this.send({
      type: 'ended',
      id: instance.id,
      cause: 'stopped',
      message: 'stopped',
      answered: instance.progress,
    })
  }

  #instance(functionName: string, versionId: string): TimelineInstance {
    const instance: TimelineInstance = {
      id: `i${++this.#instanceCount}`,
      functionName,
      versionId,
      inFlight: 0,
      progress: 0,
      started: 0,
      paused: false,
      leaving: false,
      memoryMib: 0,
      cpuShare: 0,
    }
    this.instances.set(instance.id, instance)
    return instance
  }

  #carryOut(action: NodeAction): void {
    if (action.type === 'start') {
      if (this.startMs === 0) this.answerStart(action)
      else this.pending.push(action)
      return
    }
    if (action.type === 'pause' && this.pauseAnswer !== 'none') {
      this.instances.get(action.id)!.paused = this.pauseAnswer === 'paused'
      this.send({ type: this.pauseAnswer, id: action.id })
    }
    if (action.type === 'retire') {
      const instance = this.instances.get(action.id)!
      instance.leaving = true
      if (this.retires && instance.inFlight === 0) this.stop(instance)
    }
  }

  #answerDue(): void {
    for (const start of this.pending.splice(0)) {
      const at = this.history.find(({ action }) => action === start)!.atMs
      if (at + this.startMs <= this.nowMs) this.answerStart(start)
      else this.pending.push(start)
    }
    for (const instance of this.instances.values()) {
      if (instance.leaving && this.retires) {
        instance.inFlight = 0
        this.stop(instance)
      }
    }
  }

  /** In flight evenly over the version's instances; what there is no instance for waits. */
  #report(): void {
    for (const [versionId, { functionName, demand }] of this.#demands) {
      const instances = this.of(functionName, versionId)
      let { inFlight, queued } = demand
      if (instances.length === 0) {
        queued += inFlight
        inFlight = 0
      }
      for (const [index, instance] of instances.entries()) {
        const share = Math.floor((inFlight + index) / instances.length)
        if (share > 0 && share !== instance.inFlight) instance.started += share
        if (share > 0 || instance.inFlight > 0) instance.progress++
        instance.inFlight = share
      }
      demand.requests += inFlight
      this.send({
        type: 'load',
        instances,
        versions: [
          {
            functionName,
            versionId,
            inFlight,
            queued,
            requests: demand.requests,
            concurrency: inFlight + queued,
          },
        ],
      })
      if (queued > 0) this.send({ type: 'need', functionName, versionId, queued })
      if (inFlight + queued === 0) this.#demands.delete(versionId)
    }
  }

  #demand(functionName: string, versionId: string): Demand {
    const known = this.#demands.get(versionId)?.demand
    if (known !== undefined) return known
    const demand = { inFlight: 0, queued: 0, requests: this.nowMs }
    this.#demands.set(versionId, { functionName, demand })
    return demand
  }
}
