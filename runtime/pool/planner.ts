/**
 * Decides for one node which instances there are. It has no clock and does nothing itself: `on` takes what happened and
 * returns what is to be done, so the same code runs on a node and in the simulator.
 *
 * An event changes the records (`planner-state`); versions it concerns are decided anew (`planner-scale`, `scaling`);
 * then places are given out (`planner-places`, `fair-share`). Ticks tend what rests (`planner-rest`). What is not here:
 * admission and queues, which are the router's, and watching what instances burn, which is the supervisor's.
 */
import type { ScalingStatus } from '../../sdk/model/node-status.ts'
import { setCpuWeights } from './cpu-weights.ts'
import type { NodeAction, NodeBudget, NodeEvent } from './node-events.ts'
import { dropOldWindow, onInstanceLoad, onNeed, onVersionLoad, predict, setPaused } from './planner-demand.ts'
import { applyHead } from './planner-head.ts'
import { exportHistory, importHistory, type HistoryJson } from './planner-history.ts'
import { onEnded, onFound, onRouterLost, onStarted, onStartFailed, onUsage } from './planner-instances.ts'
import { givePlaces } from './planner-places.ts'
import { presentOf, type PlannedVersion } from './planner-records.ts'
import { onPauseRefused, tend } from './planner-rest.ts'
import { askedMinOf, DECISION_MS, explain, scale } from './planner-scale.ts'
import { NodeState } from './planner-state.ts'

export interface PlannerOptions {
  readonly budget: NodeBudget
  /** Starts under way at a time. */
  readonly startsAtOnceMax: number
  /** Classes of blanks that are always kept, and how many of each while nothing starts. @default none */
  readonly blanksBase?: ReadonlyMap<string, number>
}

export class Planner {
  readonly #node: NodeState

  constructor(options: PlannerOptions) {
    this.#node = new NodeState(options)
  }

  on(event: NodeEvent, nowMs: number): readonly NodeAction[] {
    const node = this.#node
    node.nowMs = nowMs
    this.#take(event, nowMs)
    if (node.unsettled) givePlaces(node, nowMs)
    setCpuWeights(node)
    for (const action of node.blanks.changes(node.budget.memoryMib - node.chargedMib, nowMs)) node.act(action)
    return node.takeActions()
  }

  /** Of every version with instances, demand or a minimum. */
  explain(nowMs: number): readonly ScalingStatus[] {
    return explain(this.#node, nowMs)
  }

  /** What `idle: auto` has learnt, as plain JSON. */
  exportHistory(): HistoryJson {
    return exportHistory(this.#node)
  }

  /** What is no history is ignored. */
  importHistory(json: unknown): void {
    importHistory(this.#node, json)
  }

  #take(event: NodeEvent, nowMs: number): void {
    const node = this.#node
    switch (event.type) {
      case 'head':
        return applyHead(node, event.versions, nowMs)
      case 'prewarm':
        return this.#onPrewarm(event.minByFunction, nowMs)
      case 'load':
        for (const load of event.instances) {
          const instance = node.instanceById.get(load.id)
          if (instance !== undefined) onInstanceLoad(node, instance, load, nowMs)
        }
        for (const load of event.versions) {
          const version = this.#known(load)
          if (version === undefined) continue
          onVersionLoad(version, load, nowMs)
          scale(node, version, nowMs)
        }
        return
      case 'need': {
        const version = this.#known(event)
        if (version === undefined) return
        onNeed(version, event.queued, nowMs)
        return scale(node, version, nowMs)
      }
      case 'found':
        return onFound(node, event, nowMs)
      case 'started':
        return onStarted(node, event, nowMs)
      case 'start-failed':
        return onStartFailed(node, event, nowMs)
      case 'usage':
        node.blanks.onMeasured(event.blanksMib)
        return onUsage(node, event, nowMs)
      case 'paused':
      case 'resumed':
      case 'pause-refused': {
        const instance = node.instanceById.get(event.id)
        if (instance === undefined) return
        setPaused(node, instance, event.type === 'paused')
        if (event.type === 'pause-refused') onPauseRefused(instance, nowMs)
        return
      }
      case 'ended':
        return onEnded(node, event, nowMs)
      case 'router-lost':
        return onRouterLost(node, nowMs)
      case 'tick':
        return this.#onTick(nowMs)
    }
  }

  /** Of a function that is deployed: whatever else is under way ends where it is. */
  #known({
    functionName,
    versionId,
  }: {
    functionName: string
    versionId: string
  }): PlannedVersion | undefined {
    if (this.#node.functionByName.get(functionName)?.policy === undefined) return undefined
    return this.#node.versionOf(functionName, versionId)
  }

  #onPrewarm(minByFunction: ReadonlyMap<string, number>, nowMs: number): void {
    this.#node.minByFunction = minByFunction
    for (const fn of this.#node.functionByName.values()) {
      const min = minByFunction.get(fn.name) ?? 0
      if (min === fn.scheduledMin) continue
      fn.scheduledMin = min
      for (const version of fn.versions) scale(this.#node, version, nowMs)
    }
  }

  #onTick(nowMs: number): void {
    const node = this.#node
    for (const fn of node.predictable) {
      if (predict(fn, nowMs) && fn.main !== undefined) scale(node, fn.main, nowMs)
    }
    for (const version of node.active) {
      if (nowMs - version.decidedAtMs < DECISION_MS) continue
      dropOldWindow(version, nowMs)
      scale(node, version, nowMs)
      if (isQuiet(version)) node.active.delete(version)
      node.forget(version)
    }
    for (const instance of node.instanceById.values()) {
      if (nowMs >= instance.checkAtMs) tend(node, instance, nowMs)
    }
    if (node.crashLoops.size > 0) node.crashLoops.forgetOld(nowMs)
    // Turns come with time alone.
    if (node.wanting.size > 0) node.unsettled = true
  }
}

function isQuiet(version: PlannedVersion): boolean {
  return (
    presentOf(version) + version.instances.size + version.starting + version.level === 0 &&
    version.window === undefined &&
    askedMinOf(version) === 0 &&
    !version.fn.predicted
  )
}
