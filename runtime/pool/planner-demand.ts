/** Requests as the router reports them: of instances, of versions, and the arrivals of whole functions. */
import { HEALTHY_ANSWERS } from './crash-loop.ts'
import { DemandWindow, STABLE_WINDOW_MS } from './demand-window.ts'
import { IdleHistogram } from './idle-histogram.ts'
import { type PlannedFunction, type PlannedInstance, type PlannedVersion } from './planner-records.ts'
import { type NodeState } from './planner-state.ts'
import type { InstanceLoad, VersionLoad } from './wire.ts'

/** A report is of the last 100 ms, or a little more; before it, since the last one that said zero, there was nothing. */
const REPORT_MS_MAX = 150

export function onInstanceLoad(
  node: NodeState,
  instance: PlannedInstance,
  load: InstanceLoad,
  nowMs: number,
): void {
  const { version } = instance
  const progressed = load.progress !== instance.progress
  if (load.inFlight > 0 || instance.inFlight > 0 || progressed || load.started !== instance.started) {
    instance.lastActiveMs = nowMs
    version.lastActiveMs = nowMs
    instance.checkAtMs = nowMs
  }
  instance.inFlight = load.inFlight
  instance.progress = load.progress
  instance.started = load.started
  setPaused(node, instance, load.paused)
  // Almost always nothing fails, and nothing need be looked up.
  if (node.crashLoops.size === 0 || !progressed) return
  node.crashLoops.onAnswer(version.id, instance.upSinceMs)
  if (Math.min(load.progress, load.started - load.inFlight) >= HEALTHY_ANSWERS) {
    node.crashLoops.onHealthy(version.id, instance.upSinceMs)
  }
}

export function setPaused(node: NodeState, instance: PlannedInstance, paused: boolean): void {
  if (instance.phase === 'draining' || paused === (instance.phase === 'paused')) return
  instance.phase = paused ? 'paused' : 'running'
  // The answer that was waited for has come: only its next rest counts for the next pause.
  if (paused) instance.pauseAfterMs = -Infinity
  node.reweighted.add(instance.version.fn)
}

export function onVersionLoad(version: PlannedVersion, load: VersionLoad, nowMs: number): void {
  const level = load.inFlight + load.queued
  const arrived = level > 0 || load.requests !== version.requests
  version.requests = load.requests
  version.queued = load.queued
  if (arrived || version.level > 0) version.lastActiveMs = nowMs
  if (arrived || version.window !== undefined) {
    const window = (version.window ??= new DemandWindow(nowMs - REPORT_MS_MAX))
    if (version.level === 0) window.step(0, nowMs - REPORT_MS_MAX)
    window.report(load.concurrency, level, nowMs)
  }
  setLevel(version, level, { arrived, nowMs })
}

export function onNeed(version: PlannedVersion, queued: number, nowMs: number): void {
  version.queued = queued
  version.lastActiveMs = nowMs
  version.window ??= new DemandWindow(nowMs)
  const level = Math.max(version.level, queued)
  version.window.step(level, nowMs)
  setLevel(version, level, { arrived: true, nowMs })
}

/** Nothing is in flight and nothing waits any more. */
export function onSilence(version: PlannedVersion, nowMs: number): void {
  version.queued = 0
  version.window?.step(0, nowMs)
  setLevel(version, 0, { arrived: false, nowMs })
}

export function dropOldWindow(version: PlannedVersion, nowMs: number): void {
  if (version.level === 0 && nowMs - version.lastActiveMs >= STABLE_WINDOW_MS) version.window = undefined
}

function setLevel(
  version: PlannedVersion,
  level: number,
  { arrived, nowMs }: { readonly arrived: boolean; readonly nowMs: number },
): void {
  const { fn } = version
  const before = fn.level
  fn.level += level - version.level
  version.level = level
  if (fn.policy?.idleMs !== 'auto') return
  if (arrived) onArrival(fn, nowMs)
  if (fn.level === 0 && (arrived || before > 0)) onRest(fn, nowMs)
}

function onArrival(fn: PlannedFunction, nowMs: number): void {
  if (fn.restSinceMs === undefined) return
  fn.history ??= new IdleHistogram()
  fn.history.record(nowMs - fn.restSinceMs)
  fn.restSinceMs = undefined
}

function onRest(fn: PlannedFunction, nowMs: number): void {
  fn.restSinceMs = nowMs
  fn.windows = fn.history?.windows()
}

/** Whether the next request is expected by now; true if that has changed. */
export function predict(fn: PlannedFunction, nowMs: number): boolean {
  const before = fn.predicted
  const { windows, restSinceMs } = fn
  const warmAtMs =
    windows === undefined || restSinceMs === undefined ? Infinity : restSinceMs + windows.preWarmMs
  fn.predicted =
    windows !== undefined &&
    windows.preWarmMs > 0 &&
    nowMs >= warmAtMs &&
    nowMs < warmAtMs + windows.keepAliveMs
  return fn.predicted !== before
}
