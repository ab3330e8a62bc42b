import type { ScalingStatus } from '../../sdk/model/node-status.ts'
import type { NodeAction, NodeBudget, NodeEvent } from './node-events.ts'

export interface PlannerOptions {
  readonly budget: NodeBudget
  /** Starts under way at a time. */
  readonly startsAtOnceMax: number
}

/** Decides for one node which instances there are. It has no clock and does nothing itself: `on` takes what happened and returns what is to be done. */
export class Planner {
  constructor(options: PlannerOptions) {
    void options
  }

  on(event: NodeEvent, nowMs: number): readonly NodeAction[] {
    void event
    void nowMs
    return []
  }

  /** Of every version with instances, demand or a minimum. */
  explain(nowMs: number): readonly ScalingStatus[] {
    void nowMs
    return []
  }
}
