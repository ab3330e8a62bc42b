/**
 * One node in virtual time: the production planner, pools and admission between a simulated router, agent and machine.
 * A run is decided by its scenario alone. Processes can be killed and come again.
 */
import { Admission } from '../../runtime/pool/admission.ts'
import { InstancePool, type PoolOptions } from '../../runtime/pool/pool.ts'
import { Planner, type PlannerOptions } from '../../runtime/pool/planner.ts'
import type { Policy } from '../../sdk/model/policy.ts'
import { makeArrivals, type Arrivals } from './arrivals.ts'
import type { Fact } from './facts.ts'
import { Fleet } from './fleet.ts'
import { Random } from './random.ts'
import type { Change, Scenario } from './scenario.ts'
import { SimulatedAgent, type PlannerPort } from './simulated-agent.ts'
import { SimulatedDriver } from './simulated-driver.ts'
import { SimulatedLink } from './simulated-link.ts'
import { SimulatedRouter } from './simulated-router.ts'
import { World } from './world.ts'

export interface NodeParts {
  makePlanner(options: PlannerOptions): PlannerPort
  makePool(options: PoolOptions): InstancePool
  makeAdmission(functionName: string, policy: Policy): Admission
}

const PRODUCTION: NodeParts = {
  makePlanner: (options) => new Planner(options),
  makePool: (options) => new InstancePool(options),
  makeAdmission: (functionName, policy) => new Admission(functionName, policy),
}

const TICK_MS = 100
const USAGE_MS = 1_000
/** Clients that lose patience before the queue's deadline. */
const IMPATIENT = 0.02

export class SimulatedNode {
  readonly scenario: Scenario
  readonly world: World
  readonly fleet: Fleet
  readonly driver: SimulatedDriver
  readonly #link: SimulatedLink
  readonly #parts: NodeParts
  #router: SimulatedRouter | undefined
  #agent: SimulatedAgent | undefined
  #instanceCount = 0
  #requestCount = 0

  constructor(
    scenario: Scenario,
    options: { readonly parts?: Partial<NodeParts>; observe(fact: Fact, nowMs: number): void },
  ) {
    this.scenario = scenario
    this.#parts = { ...PRODUCTION, ...options.parts }
    const random = new Random(scenario.seed)
    this.world = new World(random.fork(), (fact, nowMs) => options.observe(fact, nowMs))
    this.fleet = new Fleet(scenario.functions)
    this.driver = new SimulatedDriver(this.world, scenario.fullPerStart)
    this.#link = new SimulatedLink(this.world)
    this.#link.onAgentMessage = (message) => this.#agent?.onMessage(message)
    this.#link.onRouterMessage = (message) => this.#router?.onMessage(message)
    this.driver.onExit = (instance, cause) => this.#agent?.onExit(instance, cause)
    for (const { name, arrivals } of scenario.functions)
      this.#arrive(name, makeArrivals(arrivals, random.fork()), 0)
  }

  get router(): SimulatedRouter | undefined {
    return this.#router
  }

  get agentIsUp(): boolean {
    return this.#agent !== undefined
  }

  /** `everySecond` is called between events. */
  run(everySecond: () => void): void {
    const { world, scenario } = this
    this.#beginRouter()
    this.#beginAgent()
    world.every(TICK_MS, () => this.#router?.tick())
    world.every(TICK_MS, () => this.#agent?.tick())
    world.every(USAGE_MS, () => this.#agent?.sampleUsage(USAGE_MS))
    for (const change of scenario.changes) world.at(change.atMs, () => this.#apply(change))
    for (let atMs = 1_000; atMs <= scenario.durationMs; atMs += 1_000) {
      world.runUntil(atMs)
      everySecond()
    }
  }

  #arrive(functionName: string, arrivals: Arrivals, nowMs: number): void {
    const { world, scenario } = this
    const atMs = arrivals.nextMs(nowMs)
    if (atMs > scenario.durationMs) return
    world.at(atMs, () => {
      const id = this.#requestCount++
      world.observe({ type: 'arrived', requestId: id, functionName })
      const givesUpAtMs = world.random.chance(IMPATIENT)
        ? world.nowMs + world.random.exponential(500)
        : Number.POSITIVE_INFINITY
      const router = this.#router
      if (router === undefined)
        world.observe({ type: 'finished', requestId: id, functionName, outcome: 'router_gone' })
      else router.receive({ id, functionName, givesUpAtMs, attempts: 0, finished: false })
      this.#arrive(functionName, arrivals, atMs)
    })
  }

  #apply(change: Change): void {
    const { fleet, world } = this
    switch (change.type) {
      case 'policy':
      case 'memory':
      case 'deploy':
      case 'delete':
        fleet.change(change)
        world.observe({ type: 'head', versions: fleet.specs() })
        if (this.#agent === undefined) return
        this.#agent.applyHead()
        world.in(world.random.between(0.1, 2), () => {
          if (this.#agent !== undefined) this.#router?.apply(fleet.functions)
        })
        break
      case 'prewarm':
        fleet.minByFunction.set(change.functionName, change.min)
        world.observe({ type: 'prewarm', functionName: change.functionName, min: change.min })
        this.#agent?.applyPrewarm()
        break
      case 'agent-restart':
        // Down already: it comes again when it would have.
        if (this.#agent === undefined) return
        this.#endAgent()
        world.in(change.downMs, () => this.#beginAgent())
        break
      case 'router-restart':
        if (this.#router === undefined) return
        this.#endRouter()
        world.in(change.downMs, () => this.#beginRouter())
        break
      default:
        change satisfies never
    }
  }

  #beginAgent(): void {
    const { world, driver, fleet } = this
    const { budget, startsAtOnceMax } = this.scenario
    // Half started: cleared away before anything else.
    for (const instance of driver.instances.values()) {
      if (instance.state === 'starting') driver.end(instance, 'killed')
      else {
        instance.retiring = false
        // What the agent before it knew is forgotten, and of a function that is deleted no head says it again.
        if (!fleet.functions.has(instance.functionName)) instance.reserveMib = 0
        instance.measuredMib = 0
      }
    }
    world.observe({ type: 'agent', up: true })
    world.observe({ type: 'head', versions: fleet.specs() })
    this.#agent = new SimulatedAgent({
      world,
      driver,
      link: this.#link,
      fleet,
      planner: this.#parts.makePlanner({ budget, startsAtOnceMax }),
      nextInstanceId: () => `i${this.#instanceCount++}`,
    })
    this.#agent.begin()
    this.#connect()
  }

  #beginRouter(): void {
    const { world, driver } = this
    world.observe({ type: 'router', up: true })
    this.#router = new SimulatedRouter({
      world,
      driver,
      link: this.#link,
      makePool: this.#parts.makePool,
      makeAdmission: this.#parts.makeAdmission,
    })
    this.#connect()
  }

  /** The agent says all it knows. */
  #connect(): void {
    if (this.#agent === undefined || this.#router === undefined) return
    this.#link.connect()
    this.#router.apply(this.fleet.functions)
    this.#router.forgetReports()
    this.#link.toRouter({ type: 'instances', instances: this.#agent.addresses() })
  }

  #endAgent(): void {
    this.#link.disconnect()
    this.#agent?.end()
    this.#agent = undefined
    this.world.observe({ type: 'agent', up: false })
  }

  #endRouter(): void {
    this.#link.disconnect()
    this.#router?.end()
    this.#router = undefined
    for (const instance of this.driver.instances.values()) instance.onEndByRequestId.clear()
    this.world.observe({ type: 'router', up: false })
    this.#agent?.onRouterLost()
  }
}
