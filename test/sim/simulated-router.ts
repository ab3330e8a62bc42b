/**
 * The router process around the production pools and admission: takes requests in, runs them on instances, speaks with
 * the agent. Mirrors `router/pools.ts` and `router/server.ts` without bytes.
 */
import type { Admission } from '../../runtime/pool/admission.ts'
import type { InstancePool, PooledInstance, PoolOptions, Refusal } from '../../runtime/pool/pool.ts'
import { Occupancy } from '../../runtime/pool/occupancy.ts'
import type { AgentToRouter, InstanceAddress } from '../../runtime/pool/wire.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../../sdk/model/function-limits.ts'
import { ROUTER_LIMITS } from '../../sdk/model/limits.ts'
import { DEFAULT_POLICY } from '../../sdk/model/policy.ts'
import { LoadReport } from '../../router/load-report.ts'
import type { ServedVersion } from '../../router/served-version.ts'
import type { Policy } from '../../sdk/model/policy.ts'
import type { FleetFunction } from './fleet.ts'
import type { SimulatedDriver } from './simulated-driver.ts'
import type { SimulatedLink } from './simulated-link.ts'
import type { World } from './world.ts'

const ATTEMPTS_MAX = 5

export interface SimulatedRequest {
  readonly id: number
  readonly functionName: string
  /** Its client goes away at this time, if it is still waiting. */
  readonly givesUpAtMs: number
  attempts: number
  finished: boolean
}

export interface RouterOptions {
  readonly world: World
  readonly driver: SimulatedDriver
  readonly link: SimulatedLink
  makePool(options: PoolOptions): InstancePool
  makeAdmission(functionName: string, policy: Policy): Admission
}

export class SimulatedRouter {
  readonly #options: RouterOptions
  readonly #world: World
  readonly servedByVersionId = new Map<string, ServedVersion>()
  readonly #load = new LoadReport()
  readonly #poolByInstanceId = new Map<string, InstancePool>()
  readonly #forgottenIds = new Set<string>()
  readonly #admissionByFunction = new Map<string, Admission>()
  #functions: ReadonlyMap<string, FleetFunction> = new Map()
  #functionByVersionId: ReadonlyMap<string, FleetFunction> = new Map()
  readonly #admissionByRequest = new Map<SimulatedRequest, Admission>()
  #ended = false

  constructor(options: RouterOptions) {
    this.#options = options
    this.#world = options.world
  }

  apply(functions: ReadonlyMap<string, FleetFunction>): void {
    this.#functions = functions
    const functionByVersionId = new Map<string, FleetFunction>()
    for (const entry of functions.values()) {
      for (const { versionId } of entry.shares) functionByVersionId.set(versionId, entry)
    }
    this.#functionByVersionId = functionByVersionId
    for (const [name, admission] of this.#admissionByFunction) {
      const entry = functions.get(name)
      if (entry === undefined) this.#admissionByFunction.delete(name)
      else admission.policy = entry.policy
    }
    for (const served of this.servedByVersionId.values()) {
      const entry = functionByVersionId.get(served.versionId) ?? functions.get(served.functionName)
      if (entry === undefined) continue
      served.admission = this.#admissionOf(entry.name, entry.policy)
      served.pool.policy = entry.policy
    }
    for (const { versionId, pool } of this.servedByVersionId.values())
      if (!functionByVersionId.has(versionId)) pool.close()
  }

  receive(request: SimulatedRequest): void {
    const entry = this.#functions.get(request.functionName)
    if (entry === undefined) {
      this.#finish(request, 'route_not_found')
      return
    }
    const admission = this.#admissionOf(entry.name, entry.policy)
    const refusal = admission.enter(this.#world.nowMs)
    if (refusal !== undefined) {
      this.#finish(request, refusal.code)
      return
    }
    // The one it entered by: its function may be deleted and come again meanwhile.
    this.#admissionByRequest.set(request, admission)
    this.#place(request)
  }

  #place(request: SimulatedRequest): void {
    const entry = this.#functions.get(request.functionName)
    if (entry === undefined) {
      this.#finish(request, 'route_not_found')
      return
    }
    const served = this.#serve(entry.name, this.#choose(entry))
    served.occupancy.enter(this.#world.nowMs)
    const instance = served.pool.take()
    if (instance === undefined) this.#enqueue(request, served)
    else this.#run(request, served, instance)
  }

  #choose({ shares }: FleetFunction): string {
    let left = this.#world.random.next() * 100
    for (const { versionId, percent } of shares) {
      left -= percent
      if (left < 0) return versionId
    }
    return shares[0]!.versionId
  }

  #enqueue(request: SimulatedRequest, served: ServedVersion): void {
    const world = this.#world
    const { pool, occupancy } = served
    let waits = true
    const stopWaiting = (): void => {
      waits = false
    }
    const waiting = pool.wait(
      {
        onSlot: (instance: PooledInstance) => {
          stopWaiting()
          this.#run(request, served, instance)
        },
        onRefusal: (refusal: Refusal) => {
          stopWaiting()
          occupancy.leave(world.nowMs)
          this.#finish(request, refusal.code)
        },
        onClosed: () => {
          stopWaiting()
          occupancy.leave(world.nowMs)
          this.#place(request)
        },
      },
      world.nowMs,
    )
    if ('refusal' in waiting) {
      occupancy.leave(world.nowMs)
      this.#finish(request, waiting.refusal.code)
      return
    }
    world.observe({ type: 'queued', requestId: request.id, versionId: pool.versionId })
    world.at(request.givesUpAtMs, () => {
      if (!waits || request.finished) return
      stopWaiting()
      waiting.leave()
      occupancy.leave(world.nowMs)
      this.#finish(request, 'client_gone')
    })
  }

  #run(request: SimulatedRequest, served: ServedVersion, pooled: PooledInstance): void {
    const { world, driver, link } = this.#options
    const { cold } = pooled
    pooled.cold = false
    request.attempts++
    const instance = driver.instances.get(pooled.id)
    const release = (): void => {
      if (this.#ended) return
      served.occupancy.leave(world.nowMs)
      world.observe({ type: 'released', requestId: request.id, instanceId: pooled.id })
      served.pool.release(pooled)
    }
    world.observe({ type: 'slot', requestId: request.id, instanceId: pooled.id, cold })
    if (instance === undefined) {
      // Connection refused: it cannot have run.
      world.in(world.random.between(0.05, 1), () => {
        if (this.#ended) return
        if (!pooled.draining) {
          served.pool.drain(pooled.id)
          link.toAgent({ type: 'instance-unreachable', id: pooled.id, message: 'ECONNREFUSED' })
        }
        release()
        if (request.attempts >= ATTEMPTS_MAX) this.#finish(request, 'instance_crashed')
        else this.#place(request)
      })
      return
    }
    driver.serve(instance, request.id, {
      onDone: () => {
        if (this.#ended) return
        pooled.progress++
        release()
        this.#finish(request, 'answered')
      },
      onEnd: () => {
        // The connection breaks a moment later.
        world.in(world.random.between(0.05, 1), () => {
          if (this.#ended) return
          release()
          this.#finish(request, 'failed')
        })
      },
    })
  }

  #finish(request: SimulatedRequest, outcome: string): void {
    this.#admissionByRequest.get(request)?.leave()
    this.#admissionByRequest.delete(request)
    const { id, functionName } = request
    request.finished = true
    this.#world.observe({ type: 'finished', requestId: id, functionName, outcome })
  }

  #serve(functionName: string, versionId: string): ServedVersion {
    const known = this.servedByVersionId.get(versionId)
    if (known !== undefined) return known
    const { link } = this.#options
    const policy =
      (this.#functionByVersionId.get(versionId) ?? this.#functions.get(functionName))?.policy ??
      DEFAULT_POLICY
    const served: ServedVersion = {
      functionName,
      versionId,
      admission: this.#admissionOf(functionName, policy),
      tailed: false,
      limits: DEFAULT_FUNCTION_LIMITS,
      occupancy: new Occupancy(this.#world.nowMs),
      // Nothing that is simulated counts.
      meter: undefined as unknown as ServedVersion['meter'],
      pool: this.#options.makePool({
        functionName,
        versionId,
        policy,
        onNeed: ({ queued }) => void link.toAgent({ type: 'need', functionName, versionId, queued }),
        onDrained: ({ id }) => {
          link.toAgent({ type: 'instance-drained', id })
          if (this.#forgottenIds.has(id)) this.#remove(id, 'it has ended')
        },
        onPause: ({ id }) => this.#freeze(id, true),
        onResume: ({ id, draining }) => {
          const isThawed = this.#freeze(id, false)
          if (draining) return isThawed
          if (isThawed) link.toAgent({ type: 'instance-resumed', id })
          else link.toAgent({ type: 'instance-unreachable', id, message: 'no such file' })
          return isThawed
        },
      }),
    }
    this.servedByVersionId.set(versionId, served)
    return served
  }

  #admissionOf(functionName: string, policy: Policy): Admission {
    let admission = this.#admissionByFunction.get(functionName)
    if (admission === undefined) {
      admission = this.#options.makeAdmission(functionName, policy)
      this.#admissionByFunction.set(functionName, admission)
    }
    return admission
  }

  /** What writing the freezer's file does; the file of one that has ended is gone. */
  #freeze(id: string, frozen: boolean): boolean {
    const { driver, world } = this.#options
    const instance = driver.instances.get(id)
    if (instance === undefined) return false
    if (instance.frozen !== frozen) {
      instance.frozen = frozen
      world.observe({ type: frozen ? 'frozen' : 'thawed', id })
    }
    return true
  }

  onMessage(message: AgentToRouter): void {
    switch (message.type) {
      case 'instances':
        this.#setInstances(message.instances)
        break
      case 'instance-up':
        this.#add(message.instance, message.cold)
        break
      case 'instance-drain': {
        const pool = this.#poolByInstanceId.get(message.id)
        if (pool === undefined) this.#options.link.toAgent({ type: 'instance-drained', id: message.id })
        else pool.drain(message.id)
        break
      }
      case 'instance-gone':
        this.#remove(message.id, message.message)
        break
      case 'instance-pause': {
        const { id, started } = message
        const isPaused = this.#poolByInstanceId.get(id)?.pause(id, started) ?? false
        this.#options.link.toAgent({ type: isPaused ? 'instance-paused' : 'pause-refused', id })
        break
      }
      case 'start-delayed': {
        const untilMs = this.#world.nowMs + ROUTER_LIMITS.startDelayKeptMs
        this.servedByVersionId.get(message.versionId)?.pool.delay(message.message, untilMs)
        break
      }
      case 'start-refused': {
        const { code, retryAfterMs } = message
        const refusal = {
          code,
          message: message.message,
          retryAfterS: Math.max(1, Math.ceil(retryAfterMs / 1_000)),
        }
        this.servedByVersionId.get(message.versionId)?.pool.refuse(refusal, this.#world.nowMs + retryAfterMs)
        break
      }
      default:
    }
  }

  #setInstances(instances: readonly InstanceAddress[]): void {
    const ids = new Set(instances.map(({ id }) => id))
    for (const [id, pool] of this.#poolByInstanceId) {
      if (ids.has(id)) continue
      this.#forgottenIds.add(id)
      pool.drain(id)
    }
    for (const instance of instances) this.#add(instance, false)
  }

  #add(instance: InstanceAddress, cold: boolean): void {
    const { pool } = this.#serve(instance.functionName, instance.versionId)
    // A router before this one may have left it frozen.
    if (!this.#poolByInstanceId.has(instance.id)) this.#freeze(instance.id, false)
    this.#poolByInstanceId.set(instance.id, pool)
    this.#forgottenIds.delete(instance.id)
    pool.add(instance, cold)
  }

  #remove(id: string, message: string): void {
    const pool = this.#poolByInstanceId.get(id)
    this.#poolByInstanceId.delete(id)
    this.#forgottenIds.delete(id)
    pool?.remove(id, { code: 'instance_crashed', message })
  }

  /** Every 100 ms. */
  tick(): void {
    const { nowMs } = this.#world
    for (const { pool } of this.servedByVersionId.values()) pool.expire(nowMs)
    const load = this.#load.make(this.servedByVersionId.values(), nowMs)
    if (load.instances.length > 0 || load.versions.length > 0)
      this.#options.link.toAgent({ type: 'load', ...load })
    for (const [versionId, { pool }] of this.servedByVersionId) {
      const isNeeded = this.#functionByVersionId.has(versionId) || pool.queued > 0
      if (!isNeeded && pool.instances.length === 0) this.servedByVersionId.delete(versionId)
    }
  }

  /** For an agent that has just come. */
  forgetReports(): void {
    this.#load.forget()
  }

  /** The process is killed: its requests break off, its slots are no more. */
  end(): void {
    for (const request of this.#admissionByRequest.keys()) this.#finish(request, 'router_gone')
    this.#ended = true
  }
}
