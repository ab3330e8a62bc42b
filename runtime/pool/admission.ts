import type { Policy } from '../../sdk/model/policy.ts'
import type { Refusal } from './pool.ts'

/**
 * Which requests of one function are let in on this node at all, whatever its instances do: a rate (token bucket) and
 * a quota of requests that are in flight or wait. One per function, shared by its versions.
 */
export class Admission {
  policy: Policy

  constructor(functionName: string, policy: Policy) {
    void functionName
    this.policy = policy
  }

  /** Lets a request in, or says why not. Balance each that was let in with `leave`. */
  enter(nowMs: number): Refusal | undefined {
    void nowMs
    return undefined
  }

  leave(): void {}
}
