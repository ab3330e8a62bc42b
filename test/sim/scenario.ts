/** What a simulated node is put through. Everything a run depends on is in here: the same scenario gives the same run. */
import type { Policy } from '../../sdk/model/policy.ts'
import type { NodeBudget } from '../../runtime/pool/node-events.ts'
import type { ArrivalPattern } from './arrivals.ts'

export interface Scenario {
  readonly seed: number
  /** Which kind of scenario it is; some checkers only know what to expect of one kind. */
  readonly family: string
  readonly durationMs: number
  readonly budget: NodeBudget
  readonly startsAtOnceMax: number
  /** Probability that the machine has no place for a start although the budget has. */
  readonly fullPerStart: number
  readonly functions: readonly SimulatedFunction[]
  readonly changes: readonly Change[]
}

export interface SimulatedFunction {
  readonly name: string
  readonly policy: Policy
  readonly memoryMib: number
  readonly reserveMib: number
  readonly arrivals: ArrivalPattern
  readonly behaviour: Behaviour
}

/** How instances of a version behave. Ranges are uniform, both ends included. */
export interface Behaviour {
  /** From a blank; without one, ten times as long. */
  readonly startMs: Range
  /** A request's time that takes no processor, and the time that does. */
  readonly waitMs: Range
  readonly cpuMs: Range
  /** What an instance takes when it starts, and how much more after each request. */
  readonly memoryMib: number
  readonly growthMibPerRequest: number
  /** Probability that a request crashes its instance. */
  readonly crashPerRequest: number
  /** Probability that a request leaves `waitUntil` work behind, and for how long. */
  readonly waitUntil: number
  readonly waitUntilMs: Range
  readonly broken?: Broken
}

/** While it is broken every start fails, or every instance ends right after its start. */
export interface Broken {
  readonly fromMs: number
  readonly untilMs: number
  readonly how: 'start' | 'crash'
}

export type Range = readonly [number, number]

export type Change =
  | { readonly type: 'policy'; readonly atMs: number; readonly functionName: string; readonly policy: Policy }
  /** Another limit for its instances. */
  | {
      readonly type: 'memory'
      readonly atMs: number
      readonly functionName: string
      readonly memoryMib: number
    }
  /** All traffic to a new version, or `percent` of it. */
  | {
      readonly type: 'deploy'
      readonly atMs: number
      readonly functionName: string
      readonly percent: number
      readonly behaviour: Behaviour
    }
  | { readonly type: 'delete'; readonly atMs: number; readonly functionName: string }
  | {
      readonly type: 'prewarm'
      readonly atMs: number
      readonly functionName: string
      readonly min: number
    }
  /** The process ends and comes again, knowing nothing. */
  | { readonly type: 'agent-restart'; readonly atMs: number; readonly downMs: number }
  | { readonly type: 'router-restart'; readonly atMs: number; readonly downMs: number }
