import { weightOf } from './fair-share.ts'
import type { NodeState } from './planner-state.ts'

const WEIGHT_ORDINARY = 100
const WEIGHT_MAX = 10_000

/** A function's instances together weigh what its policy says, however many they are. One that is paused weighs nothing. */
export function setCpuWeights(node: NodeState): void {
  for (const fn of node.reweighted) {
    let running = 0
    for (const { instances } of fn.versions) {
      for (const { phase } of instances) if (phase !== 'paused') running++
    }
    const weight = Math.round((WEIGHT_ORDINARY * weightOf(fn)) / Math.max(1, running))
    const clamped = Math.min(WEIGHT_MAX, Math.max(1, weight))
    for (const { instances } of fn.versions) {
      for (const instance of instances) {
        if (instance.phase === 'paused' || instance.cpuWeight === clamped) continue
        instance.cpuWeight = clamped
        node.act({ type: 'cpu-weight', id: instance.id, weight: clamped })
      }
    }
  }
  node.reweighted.clear()
}
