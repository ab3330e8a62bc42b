import { describe, expect, test } from 'vitest'
import { Admission } from '../../runtime/pool/admission.ts'
import type { NodeAction, NodeEvent } from '../../runtime/pool/node-events.ts'
import { Planner, type PlannerOptions } from '../../runtime/pool/planner.ts'
import { InstancePool, type PooledInstance, type PoolOptions, type Waiter } from '../../runtime/pool/pool.ts'
import type { Policy } from '../../sdk/model/policy.ts'
import { CHECKERS } from './checkers/all.ts'
import { makeScenario } from './make-scenario.ts'
import { runScenario } from './run-scenario.ts'
import type { PlannerPort } from './simulated-agent.ts'
import type { NodeParts } from './simulated-node.ts'

type Property = keyof typeof CHECKERS

/** Runs seeds of one family on a node with a broken part, under the one checker that must see it. */
function isCaught(options: {
  readonly property: Property
  readonly family: string
  readonly parts: Partial<NodeParts>
  readonly seedsMax?: number
}): boolean {
  const { property, family, parts, seedsMax = 100 } = options
  for (let seed = 1, runs = 0; runs < seedsMax; seed++) {
    const scenario = makeScenario(seed)
    if (scenario.family !== family) continue
    runs++
    const violation = runScenario(scenario, { parts, checkers: { [property]: CHECKERS[property] } })
    if (violation?.property === property) return true
  }
  return false
}

/** A planner that hears other events than those that happened. */
function deaf(hear: (event: NodeEvent) => NodeEvent): Partial<NodeParts> {
  return {
    makePlanner: (options) => {
      const planner = new Planner(options)
      return { on: (event, nowMs) => planner.on(hear(event), nowMs) }
    },
  }
}

function withPolicy(change: (policy: Policy, functionName: string) => Partial<Policy>): Partial<NodeParts> {
  return deaf((event) => {
    if (event.type === 'prewarm') return { type: 'prewarm', minByFunction: new Map() }
    if (event.type !== 'head') return event
    const versions = event.versions.map((spec) => ({
      ...spec,
      policy: { ...spec.policy, ...change(spec.policy, spec.functionName) },
    }))
    return { type: 'head', versions }
  })
}

/** An agent that carries out only some of the planner's actions. */
function lazy(does: (action: NodeAction, nowMs: number) => boolean): Partial<NodeParts> {
  return {
    makePlanner: (options) => {
      const planner = new Planner(options)
      return { on: (event, nowMs) => planner.on(event, nowMs).filter((action) => does(action, nowMs)) }
    },
  }
}

class Restless implements PlannerPort {
  readonly #planner: Planner
  readonly #ids: string[] = []
  #retiredAtMs = 0

  constructor(options: PlannerOptions) {
    this.#planner = new Planner(options)
  }

  on(event: NodeEvent, nowMs: number): readonly NodeAction[] {
    const actions = this.#planner.on(event, nowMs)
    if (event.type === 'started') this.#ids.push(event.instanceId)
    if (nowMs - this.#retiredAtMs < 10_000) return actions
    this.#retiredAtMs = nowMs
    const id = this.#ids.shift()
    return id === undefined ? actions : [...actions, { type: 'retire', id, reason: 'restless' }]
  }
}

class NeverExpires extends InstancePool {
  override expire(): void {}
}

class AnswersTwice extends InstancePool {
  override wait(waiter: Waiter, nowMs: number): ReturnType<InstancePool['wait']> {
    return super.wait(
      {
        onSlot: (instance) => {
          waiter.onSlot(instance)
          waiter.onRefusal({ code: 'queue_timeout', message: 'too late' })
        },
        onRefusal: (refusal) => waiter.onRefusal(refusal),
        onClosed: () => waiter.onClosed(),
      },
      nowMs,
    )
  }
}

class LosesSlots extends InstancePool {
  #releases = 0
  override release(instance: PooledInstance): void {
    if (++this.#releases % 10 !== 0) super.release(instance)
  }
}

class ReleasesTwice extends InstancePool {
  #releases = 0
  override release(instance: PooledInstance): void {
    super.release(instance)
    if (++this.#releases % 10 === 0 && instance.inFlight > 0) super.release(instance)
  }
}

class NeverTakes extends InstancePool {
  override take(): undefined {
    this.requests++
    return undefined
  }
}

class PausesAnything extends InstancePool {
  readonly #freeze: (instance: PooledInstance) => boolean

  constructor(options: PoolOptions) {
    super(options)
    this.#freeze = options.onPause!
  }

  override pause(instanceId: string): boolean {
    const instance = this.instances.find(({ id }) => id === instanceId)
    if (instance === undefined) return false
    instance.paused = this.#freeze(instance)
    return instance.paused
  }
}

class Generous extends Admission {
  override enter(): undefined {
    super.enter(0)
    return undefined
  }
}

const BROKEN: readonly {
  readonly variant: string
  readonly property: Property
  readonly family: string
  readonly parts: Partial<NodeParts>
}[] = [
  {
    variant: 'a planner that knows no max',
    property: 'never above max',
    family: 'mixed',
    parts: withPolicy(() => ({ max: 100 })),
  },
  {
    variant: 'a planner that believes in twice the memory',
    property: 'never above budget',
    family: 'tight',
    parts: {
      makePlanner: (options) => {
        const { memoryMib, cpus } = options.budget
        return new Planner({ ...options, budget: { memoryMib: memoryMib * 2, cpus } })
      },
    },
  },
  {
    variant: 'a planner that knows no minimum',
    property: 'never below min',
    family: 'mixed',
    parts: withPolicy(() => ({ min: 0 })),
  },
  {
    variant: 'a pool whose waits never end',
    property: 'every request ends once',
    family: 'tight',
    parts: { makePool: (options) => new NeverExpires(options) },
  },
  {
    variant: 'a pool that refuses whom it has served',
    property: 'every request ends once',
    family: 'mixed',
    parts: { makePool: (options) => new AnswersTwice(options) },
  },
  {
    variant: 'a pool that loses slots',
    property: 'every slot is released once',
    family: 'mixed',
    parts: { makePool: (options) => new LosesSlots(options) },
  },
  {
    variant: 'a pool that releases slots twice',
    property: 'every slot is released once',
    family: 'mixed',
    parts: { makePool: (options) => new ReleasesTwice(options) },
  },
  {
    variant: 'a pool that lets everybody wait',
    property: 'nobody waits beside a free slot',
    family: 'mixed',
    parts: { makePool: (options) => new NeverTakes(options) },
  },
  {
    variant: 'an admission without bounds',
    property: 'rate and quota are kept',
    family: 'mixed',
    parts: { makeAdmission: (functionName, policy) => new Generous(functionName, policy) },
  },
  {
    variant: 'a pool that pauses what is at work',
    property: 'what is paused is at rest',
    family: 'mixed',
    parts: { makePool: (options) => new PausesAnything(options) },
  },
  {
    variant: 'a pool that uses what it has not resumed',
    property: 'what is paused is at rest',
    family: 'mixed',
    parts: { makePool: (options) => new InstancePool({ ...options, onResume: () => true }) },
  },
  {
    variant: 'an agent that never pauses',
    property: 'what is at rest is paused',
    family: 'quiet',
    parts: lazy(({ type }) => type !== 'pause'),
  },
  {
    variant: 'a planner that never finds anything idle',
    property: 'what is idle is gone',
    family: 'quiet',
    parts: withPolicy(() => ({ idleMs: 600_000 })),
  },
  {
    variant: 'an agent that takes no place from anybody',
    property: 'nobody starves',
    family: 'turns',
    parts: lazy(({ type }) => type !== 'retire'),
  },
  {
    variant: 'a planner that knows no weights',
    property: 'shares follow weights',
    family: 'contention',
    parts: withPolicy(() => ({ weight: 1 })),
  },
  {
    variant: 'a planner for which the flood weighs a thousand times as much',
    property: 'a flood hurts nobody',
    family: 'flood',
    parts: withPolicy((_, functionName) => ({ weight: functionName === 'flood' ? 1_000 : 1 })),
  },
  {
    variant: 'an agent that replaces an instance every ten seconds',
    property: 'a steady load is steady',
    family: 'steady',
    parts: { makePlanner: (options) => new Restless(options) },
  },
  {
    variant: 'a planner that takes every failed start for a full machine',
    property: 'what is broken is tried seldom',
    family: 'broken',
    parts: deaf((event) => (event.type === 'start-failed' ? { ...event, fault: 'full' } : event)),
  },
  {
    variant: 'an agent that gives up on what it started before',
    property: 'what is broken is tried seldom',
    family: 'broken',
    parts: lazy((action, nowMs) => action.type !== 'start' || nowMs < 100),
  },
]

describe('each checker', () => {
  for (const { variant, ...options } of BROKEN) {
    test(`of "${options.property}" catches ${variant}`, () => {
      expect(isCaught(options)).toBe(true)
    })
  }
  test('has a broken variant', () => {
    const covered = new Set(BROKEN.map(({ property }) => property))
    expect(Object.keys(CHECKERS).filter((property) => !covered.has(property as Property))).toEqual([])
  })
})
