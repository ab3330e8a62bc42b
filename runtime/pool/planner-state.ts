/**
 * What the planner knows of a node: the records, and the sums over them that every decision reads. All changes of those
 * sums are in this file, so that they cannot drift from the records.
 */
import assert from 'node:assert'
import { BlankStock } from './blank-stock.ts'
import { CrashLoops } from './crash-loop.ts'
import type { NodeAction, NodeBudget } from './node-events.ts'
import {
  newFunction,
  newInstance,
  newVersion,
  reserveOf,
  type PlannedFunction,
  type PlannedInstance,
  type PlannedStart,
  type PlannedVersion,
} from './planner-records.ts'

const EPSILON_MIB = 1e-6

export class NodeState {
  readonly budget: NodeBudget
  readonly startsAtOnceMax: number
  readonly functionByName = new Map<string, PlannedFunction>()
  readonly versionById = new Map<string, PlannedVersion>()
  readonly instanceById = new Map<string, PlannedInstance>()
  /** That schedules ask for now. */
  minByFunction: ReadonlyMap<string, number> = new Map()
  readonly startById = new Map<number, PlannedStart>()
  /** With instances, starts, demand or a minimum: what ticks look at. */
  readonly active = new Set<PlannedVersion>()
  readonly wanting = new Set<PlannedVersion>()
  /** With `idle: auto`. */
  readonly predictable = new Set<PlannedFunction>()
  readonly reweighted = new Set<PlannedFunction>()
  readonly crashLoops = new CrashLoops()
  readonly blanks: BlankStock
  /** Of instances, those that leave included, and of starts. */
  chargedMib = 0
  /** Of the event that is being taken. */
  nowMs = 0
  leavingMib = 0
  cpuShare = 0
  /** A driver had no place although the budget had. */
  fullUntilMs = -Infinity
  headSeen = false
  /** Somebody wants more than before, or there is more room than before. */
  unsettled = false
  #actions: NodeAction[] = []
  #lastStartId = 0

  constructor(options: {
    readonly budget: NodeBudget
    readonly startsAtOnceMax: number
    readonly blanksBase?: ReadonlyMap<string, number>
  }) {
    this.blanks = new BlankStock(options.blanksBase ?? new Map())
    this.budget = options.budget
    this.startsAtOnceMax = Math.max(1, options.startsAtOnceMax)
  }

  act(action: NodeAction): void {
    this.#actions.push(action)
  }

  takeActions(): readonly NodeAction[] {
    const actions = this.#actions
    this.#actions = []
    return actions
  }

  freeMib(nowMs: number): number {
    return nowMs < this.fullUntilMs ? 0 : this.budget.memoryMib - this.chargedMib
  }

  functionNamed(name: string): PlannedFunction {
    const known = this.functionByName.get(name)
    if (known !== undefined) return known
    const fn = newFunction(name, this.minByFunction.get(name) ?? 0)
    this.functionByName.set(name, fn)
    return fn
  }

  versionOf(functionName: string, versionId: string): PlannedVersion {
    const known = this.versionById.get(versionId)
    if (known !== undefined) return known
    const fn = this.functionNamed(functionName)
    const version = newVersion(versionId, fn)
    this.versionById.set(versionId, version)
    fn.versions.add(version)
    return version
  }

  beginStart(version: PlannedVersion, reason: string, nowMs: number): void {
    const startId = ++this.#lastStartId
    const reservedMib = reserveOf(version)
    this.startById.set(startId, { version, reservedMib, memoryMib: version.spec?.memoryMib })
    version.starting++
    this.#hold(version.fn, reservedMib)
    this.chargedMib += reservedMib
    this.active.add(version)
    this.blanks.onStart(version.spec?.blankClass, nowMs)
    this.act({ type: 'start', startId, functionName: version.fn.name, versionId: version.id, reason })
  }

  endStart(startId: number): PlannedStart {
    const start = this.startById.get(startId)
    assert(start !== undefined, `start ${startId} was asked for and has not ended before`)
    this.startById.delete(startId)
    start.version.starting--
    this.#hold(start.version.fn, -start.reservedMib)
    this.chargedMib -= start.reservedMib
    this.unsettled = true
    return start
  }

  addInstance(
    made: Pick<PlannedInstance, 'id' | 'version' | 'memoryMib' | 'reserveMib'>,
    nowMs: number,
  ): PlannedInstance {
    const { id, version } = made
    const instance = newInstance(made, nowMs)
    version.lastActiveMs = Math.max(version.lastActiveMs, nowMs)
    this.instanceById.set(id, instance)
    version.instances.add(instance)
    this.active.add(version)
    this.charge(instance, 0)
    this.reweighted.add(version.fn)
    return instance
  }

  /** `memoryMib`: what it takes, at least what is set aside for it. */
  charge(instance: PlannedInstance, memoryMib: number): void {
    const more = Math.max(memoryMib, instance.reserveMib) - instance.chargedMib
    instance.chargedMib += more
    this.chargedMib += more
    if (instance.phase === 'draining') this.leavingMib += more
    else this.#hold(instance.version.fn, more)
  }

  drain(instance: PlannedInstance, reason: string): void {
    if (instance.phase === 'draining') return
    instance.phase = 'draining'
    this.#hold(instance.version.fn, -instance.chargedMib)
    this.leavingMib += instance.chargedMib
    // What it still works on moves nowhere: how many the others must be is decided anew.
    instance.version.decidedAtMs = -Infinity
    this.reweighted.add(instance.version.fn)
    this.act({ type: 'retire', id: instance.id, reason })
  }

  removeInstance(instance: PlannedInstance): void {
    const { version } = instance
    this.instanceById.delete(instance.id)
    version.instances.delete(instance)
    this.chargedMib -= instance.chargedMib
    if (instance.phase === 'draining') this.leavingMib -= instance.chargedMib
    else this.#hold(version.fn, -instance.chargedMib)
    // Sums of fractions: empty is nothing at all.
    if (this.instanceById.size === 0 && this.startById.size === 0) this.chargedMib = this.leavingMib = 0
    if (instance.leavesFor !== undefined) instance.leavesFor.awaited = undefined
    this.cpuShare = Math.max(0, this.cpuShare - instance.cpuShare)
    this.reweighted.add(version.fn)
    this.unsettled = true
  }

  #hold(fn: PlannedFunction, moreMib: number): void {
    fn.heldMib += moreMib
    // Sums of fractions: what is hardly anything is nothing.
    if (moreMib >= 0 || fn.heldMib > EPSILON_MIB) return
    fn.heldMib = 0
    fn.noneSinceMs = this.nowMs
  }

  /** A version that nothing is left of; its function with the last of them, unless a head names it. */
  forget(version: PlannedVersion): void {
    if (version.instances.size > 0 || version.starting > 0 || version.spec !== undefined) return
    if (version.level > 0 || version.missing > 0) return
    this.active.delete(version)
    this.wanting.delete(version)
    this.versionById.delete(version.id)
    const { fn } = version
    fn.level -= version.level
    fn.versions.delete(version)
    if (fn.main === version) fn.main = undefined
    if (fn.versions.size === 0 && fn.policy === undefined) this.functionByName.delete(fn.name)
  }
}
