/** The registry's head as it is now: which functions there are, with which versions and policy. */
import type { VersionSpec } from '../../runtime/pool/node-events.ts'
import type { TrafficShare } from '../../sdk/model/function.ts'
import type { Policy } from '../../sdk/model/policy.ts'
import type { Behaviour, Change, SimulatedFunction } from './scenario.ts'

export interface FleetFunction {
  readonly name: string
  readonly policy: Policy
  readonly shares: readonly TrafficShare[]
  readonly memoryMib: number
  readonly reserveMib: number
}

export class Fleet {
  #functions: ReadonlyMap<string, FleetFunction>
  readonly #behaviourByVersionId = new Map<string, Behaviour>()
  readonly minByFunction = new Map<string, number>()

  constructor(functions: readonly SimulatedFunction[]) {
    this.#functions = new Map(
      functions.map(({ name, policy, memoryMib, reserveMib, behaviour }) => {
        const versionId = `${name}.v1`
        this.#behaviourByVersionId.set(versionId, behaviour)
        return [name, { name, policy, memoryMib, reserveMib, shares: [{ versionId, percent: 100 }] }]
      }),
    )
  }

  get functions(): ReadonlyMap<string, FleetFunction> {
    return this.#functions
  }

  behaviour(versionId: string): Behaviour {
    const behaviour = this.#behaviourByVersionId.get(versionId)
    if (behaviour === undefined) throw new Error(`no version ${versionId} was ever deployed`)
    return behaviour
  }

  specs(): VersionSpec[] {
    return [...this.#functions.values()].flatMap(({ name, policy, shares, memoryMib, reserveMib }) =>
      shares.map(({ versionId, percent }) => ({
        functionName: name,
        versionId,
        percent,
        policy,
        memoryMib,
        reserveMib,
      })),
    )
  }

  change(change: Extract<Change, { readonly type: 'policy' | 'memory' | 'deploy' | 'delete' }>): void {
    const functions = new Map(this.#functions)
    const { functionName: name } = change
    const before = functions.get(name)
    if (before === undefined) return
    if (change.type === 'delete') functions.delete(name)
    else if (change.type === 'policy') functions.set(name, { ...before, policy: change.policy })
    else if (change.type === 'memory') functions.set(name, { ...before, memoryMib: change.memoryMib })
    else {
      const number = Number(before.shares[0]!.versionId.split('.v')[1]) + 1
      const versionId = `${name}.v${number}`
      this.#behaviourByVersionId.set(versionId, change.behaviour)
      const rest = { versionId: before.shares[0]!.versionId, percent: 100 - change.percent }
      const shares = [{ versionId, percent: change.percent }, ...(rest.percent > 0 ? [rest] : [])]
      functions.set(name, { ...before, shares })
    }
    this.#functions = functions
  }
}
