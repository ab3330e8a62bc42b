import { IdleHistogram, type IdleHistogramJson } from './idle-histogram.ts'
import type { NodeState } from './planner-state.ts'

/** What `idle: auto` has learnt, by function: kept across restarts of the agent. */
export interface HistoryJson {
  readonly formatVersion: 1
  readonly functions: Readonly<Record<string, IdleHistogramJson>>
}

export function exportHistory(node: NodeState): HistoryJson {
  const functions: Record<string, IdleHistogramJson> = {}
  for (const fn of node.functionByName.values()) {
    if (fn.history !== undefined) functions[fn.name] = fn.history.toJson()
  }
  return { formatVersion: 1, functions }
}

/** Before or after the first head. What is no history, or of a function that already has one, is ignored. */
export function importHistory(node: NodeState, json: unknown): void {
  const { formatVersion, functions } = (json ?? {}) as Partial<Record<keyof HistoryJson, unknown>>
  if (formatVersion !== 1 || typeof functions !== 'object' || functions === null) return
  for (const [name, histogramJson] of Object.entries(functions)) {
    const history = IdleHistogram.fromJson(histogramJson)
    if (history === undefined) continue
    if (node.headSeen && node.functionByName.get(name)?.policy?.idleMs !== 'auto') continue
    const fn = node.functionNamed(name)
    fn.history ??= history
    fn.windows = fn.history.windows()
  }
}
