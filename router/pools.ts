/**
 * The pools of this node by version, kept in step with what the agent says: snapshots and instances. A pool lives as
 * long as its version can be asked for, or has instances, or has requests.
 */
import type { ErrorCode } from '../sdk/model/errors.ts'
import type { ExitCause } from '../sdk/model/node-status.ts'
import { DEFAULT_POLICY, type Policy } from '../sdk/model/policy.ts'
import type { Snapshot } from '../sdk/model/snapshot.ts'
import { InstancePool, type GoneCause, type PooledInstance } from '../runtime/pool/pool.ts'
import type {
  AgentToRouter,
  InstanceAddress,
  InstanceLoad,
  RouterToAgent,
  VersionLoad,
} from '../runtime/pool/wire.ts'

export interface PoolsOptions {
  /** Returns false where no agent listens: it will hear of it when it asks again. */
  send(message: RouterToAgent): boolean
  /** A draining instance has nothing in flight. */
  onDrained(instance: PooledInstance): void
}

/** What was last said about a pool, so that only changes are said again. */
interface Reported {
  readonly pool: InstancePool
  requests: number
  inFlight: number
  queued: number
}

export class Pools {
  readonly #options: PoolsOptions
  readonly #poolByVersionId = new Map<string, Reported>()
  readonly #poolByInstanceId = new Map<string, InstancePool>()
  /** Left out by an agent that came anew; their requests may go on, whether they live the connections will tell. */
  readonly #forgottenIds = new Set<string>()
  #loadByInstance = new WeakMap<PooledInstance, { inFlight: number; progress: number }>()
  /** Of the versions of the snapshot in force. */
  #policyByVersionId: ReadonlyMap<string, Policy> = new Map()

  constructor(options: PoolsOptions) {
    this.#options = options
  }

  /** Made at the first request for a version. */
  of(functionName: string, versionId: string): InstancePool {
    const reported = this.#poolByVersionId.get(versionId)
    return reported === undefined ? this.#make(functionName, versionId) : reported.pool
  }

  #make(functionName: string, versionId: string): InstancePool {
    const pool = new InstancePool({
      functionName,
      versionId,
      policy: this.#policyByVersionId.get(versionId) ?? DEFAULT_POLICY,
      onNeed: (pool) => {
        this.#options.send({ type: 'need', functionName, versionId, queued: pool.queued })
      },
      onDrained: (instance) => {
        const { id } = instance
        this.#options.onDrained(instance)
        this.#options.send({ type: 'instance-drained', id })
        if (this.#forgottenIds.has(id))
          this.#remove(id, { code: 'instance_crashed', message: `instance ${id} has ended` })
      },
    })
    this.#poolByVersionId.set(versionId, { pool, requests: 0, inFlight: 0, queued: 0 })
    return pool
  }

  /** To be called once the table of the snapshot is in force: who waits for a version that left is placed anew. */
  apply(snapshot: Snapshot): void {
    const policyByVersionId = new Map<string, Policy>()
    for (const { shares, previewVersionIds, policy } of snapshot.functions) {
      for (const { versionId } of shares) policyByVersionId.set(versionId, policy)
      for (const versionId of previewVersionIds) policyByVersionId.set(versionId, policy)
    }
    this.#policyByVersionId = policyByVersionId
    for (const [versionId, { pool }] of this.#poolByVersionId) {
      const policy = policyByVersionId.get(versionId)
      if (policy === undefined) pool.close()
      else pool.policy = policy
    }
  }

  /** What the agent says about instances; the other messages are not for pools. */
  onMessage(message: AgentToRouter): void {
    switch (message.type) {
      case 'instances':
        this.#setInstances(message.instances)
        break
      case 'instance-up':
        this.#add(message.instance, message.cold)
        break
      case 'instance-drain':
        this.#drain(message.id)
        break
      case 'instance-gone':
        this.#remove(message.id, goneCause(message.cause, message.message))
        break
      case 'start-refused': {
        const { code, retryAfterMs } = message
        const retryAfterS = Math.max(1, Math.ceil(retryAfterMs / 1_000))
        const refusal = { code, message: message.message, retryAfterS }
        this.#poolByVersionId.get(message.versionId)?.pool.refuse(refusal, performance.now() + retryAfterMs)
        break
      }
      default:
    }
  }

  /** No connection to it can be made: nothing new for it until the agent has looked. What runs on it may go on. */
  sideline(instanceId: string): void {
    this.#poolByInstanceId.get(instanceId)?.drain(instanceId)
  }

  #remove(instanceId: string, cause: GoneCause): void {
    const pool = this.#poolByInstanceId.get(instanceId)
    this.#poolByInstanceId.delete(instanceId)
    this.#forgottenIds.delete(instanceId)
    pool?.remove(instanceId, cause)
  }

  #drain(instanceId: string): void {
    const pool = this.#poolByInstanceId.get(instanceId)
    // The agent waits for the answer, so one that is not here is drained too.
    if (pool === undefined) this.#options.send({ type: 'instance-drained', id: instanceId })
    else pool.drain(instanceId)
  }

  #add(instance: InstanceAddress, cold: boolean): void {
    const pool = this.of(instance.functionName, instance.versionId)
    this.#poolByInstanceId.set(instance.id, pool)
    this.#forgottenIds.delete(instance.id)
    pool.add(instance, cold)
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

  /** Every 100 ms: ends waits that are over, says what changed, forgets pools that nobody needs. */
  tick(nowMs: number): void {
    const instances: InstanceLoad[] = []
    const versions: VersionLoad[] = []
    for (const [versionId, reported] of this.#poolByVersionId) {
      const { pool } = reported
      pool.expire(nowMs)
      const { inFlight, queued, requests, functionName } = pool
      const isQuiet = inFlight === 0 && queued === 0
      if (isQuiet && pool.instances.length === 0 && !this.#policyByVersionId.has(versionId)) {
        this.#poolByVersionId.delete(versionId)
      }
      for (const instance of pool.instances) this.#addLoad(instance, instances)
      if (isQuiet && requests === reported.requests && reported.inFlight === 0 && reported.queued === 0)
        continue
      reported.requests = requests
      reported.inFlight = inFlight
      reported.queued = queued
      versions.push({ functionName, versionId, inFlight, queued, requests })
    }
    if (instances.length > 0 || versions.length > 0) this.#options.send({ type: 'load', instances, versions })
  }

  /** For an agent that has just come: everything counts as changed. */
  forgetReports(): void {
    for (const reported of this.#poolByVersionId.values()) reported.requests = -1
    this.#loadByInstance = new WeakMap()
  }

  /** Refuses all who wait. */
  refuseAll(code: ErrorCode, message: string): void {
    for (const { pool } of this.#poolByVersionId.values()) pool.refuseWaiting({ code, message })
  }

  #addLoad(instance: PooledInstance, loads: InstanceLoad[]): void {
    const { id, inFlight, progress } = instance
    const said = this.#loadByInstance.get(instance)
    if (said === undefined) this.#loadByInstance.set(instance, { inFlight, progress })
    else if (inFlight === 0 && said.inFlight === 0 && said.progress === progress) return
    else {
      said.inFlight = inFlight
      said.progress = progress
    }
    loads.push({ id, inFlight, progress })
  }
}

const CODE_BY_CAUSE: Readonly<Record<ExitCause, ErrorCode>> = {
  // Only at the end of a drain's time: the request was slower than a replaced instance may live.
  stopped: 'draining',
  crashed: 'instance_crashed',
  out_of_memory: 'memory_limit_exceeded',
  cpu_limit: 'cpu_limit_exceeded',
  start_failed: 'start_failed',
  killed: 'instance_crashed',
}

function goneCause(cause: ExitCause, message: string): GoneCause {
  return { code: CODE_BY_CAUSE[cause], message }
}
