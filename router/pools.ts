/**
 * The versions that this node serves, each with its pool, kept in step with what the agent says: snapshots and
 * instances. A pool lives as long as its version can be asked for, or has instances, or has requests.
 *
 * This side alone writes the freezers of instances: a request that needs a paused one resumes it at once, agent or not,
 * and with one writer there is no race between freezing and thawing.
 */
import type { ErrorCode } from '../sdk/model/errors.ts'
import type { ExitCause } from '../sdk/model/node-status.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../sdk/model/function-limits.ts'
import { DEFAULT_POLICY } from '../sdk/model/policy.ts'
import type { Snapshot, SnapshotFunction } from '../sdk/model/snapshot.ts'
import { Admission } from '../runtime/pool/admission.ts'
import { Occupancy } from '../runtime/pool/occupancy.ts'
import {
  InstancePool,
  type GoneCause,
  type PooledInstance,
  type WaitingPlaces,
} from '../runtime/pool/pool.ts'
import type { AgentToRouter, InstanceAddress, RouterToAgent } from '../runtime/pool/wire.ts'
import { versionIdsOf } from './table/table.ts'
import { writeFreezer } from './freezer.ts'
import { LoadReport } from './load-report.ts'
import type { Metrics } from './metrics.ts'
import type { ServedVersion } from './served-version.ts'

export interface PoolsOptions {
  readonly metrics: Metrics
  /** In all queues together. */
  readonly waitingRequestsMax: number
  readonly startDelayKeptMs: number
  /** Returns false where no agent listens: it will hear of it when it asks again. */
  send(message: RouterToAgent): boolean
  /** A draining instance has nothing in flight. */
  onDrained(instance: PooledInstance): void
  /** It is about to be frozen: connections that it would find timed out when it wakes are of no use. */
  onPause(instance: PooledInstance): void
  /** For the operator. */
  warn(message: string): void
}

export class Pools {
  readonly #options: PoolsOptions
  readonly #servedByVersionId = new Map<string, ServedVersion>()
  readonly #admissionByFunction = new Map<string, Admission>()
  readonly #poolByInstanceId = new Map<string, InstancePool>()
  readonly #waitingPlaces: WaitingPlaces
  readonly #load = new LoadReport()
  /** Left out by an agent that came anew; their requests may go on, whether they live the connections will tell. */
  readonly #forgottenIds = new Set<string>()
  /** Of the snapshot in force. */
  #tailed: ReadonlySet<string> = new Set()
  #functionByName: ReadonlyMap<string, SnapshotFunction> = new Map()
  #functionByVersionId: ReadonlyMap<string, SnapshotFunction> = new Map()

  constructor(options: PoolsOptions) {
    this.#options = options
    this.#waitingPlaces = { taken: 0, max: options.waitingRequestsMax }
  }

  /** Made at the first request for a version. */
  of(functionName: string, versionId: string): ServedVersion {
    return this.#servedByVersionId.get(versionId) ?? this.#make(functionName, versionId)
  }

  /** Of these, requests are told in more detail from now on; of all others not any more. */
  setTailed(functionNames: readonly string[]): void {
    this.#tailed = new Set(functionNames)
    for (const served of this.#servedByVersionId.values())
      served.tailed = this.#tailed.has(served.functionName)
  }

  #make(functionName: string, versionId: string): ServedVersion {
    const { send, metrics } = this.#options
    // A version that is not live yet, or not any more, is bound by what its function is.
    const record = this.#functionByVersionId.get(versionId) ?? this.#functionByName.get(functionName)
    const policy = record?.policy ?? DEFAULT_POLICY
    const served: ServedVersion = {
      functionName,
      versionId,
      admission: this.#admissionOf(functionName, policy),
      limits: record?.limits ?? DEFAULT_FUNCTION_LIMITS,
      tailed: this.#tailed.has(functionName),
      occupancy: new Occupancy(performance.now()),
      meter: metrics.of(functionName, versionId),
      pool: new InstancePool({
        functionName,
        versionId,
        policy,
        waitingPlaces: this.#waitingPlaces,
        onNeed: ({ queued }) => void send({ type: 'need', functionName, versionId, queued }),
        onDrained: (instance) => this.#onDrained(instance),
        onPause: (instance) => this.#freeze(instance),
        onResume: (instance) => this.#thaw(instance),
      }),
    }
    this.#servedByVersionId.set(versionId, served)
    return served
  }

  #admissionOf(functionName: string, policy: SnapshotFunction['policy']): Admission {
    let admission = this.#admissionByFunction.get(functionName)
    if (admission === undefined) {
      admission = new Admission(functionName, policy)
      this.#admissionByFunction.set(functionName, admission)
    }
    return admission
  }

  /** To be called once the table of the snapshot is in force: who waits for a version that left is placed anew. */
  apply(snapshot: Snapshot): void {
    const functionByVersionId = new Map<string, SnapshotFunction>()
    for (const record of snapshot.functions) {
      for (const versionId of versionIdsOf(record)) functionByVersionId.set(versionId, record)
    }
    const functionByName = new Map(snapshot.functions.map((record) => [record.name, record]))
    this.#functionByVersionId = functionByVersionId
    this.#functionByName = functionByName
    for (const [name, admission] of this.#admissionByFunction) {
      const record = functionByName.get(name)
      if (record === undefined) this.#admissionByFunction.delete(name)
      else admission.policy = record.policy
    }
    for (const served of this.#servedByVersionId.values()) {
      const record = functionByVersionId.get(served.versionId) ?? functionByName.get(served.functionName)
      if (record === undefined) continue
      // A function that was gone and is back has a new one.
      served.admission = this.#admissionOf(record.name, record.policy)
      served.limits = record.limits
      served.pool.policy = record.policy
    }
    // Last: who is placed anew finds the limits of this snapshot.
    for (const { versionId, pool } of this.#servedByVersionId.values())
      if (!functionByVersionId.has(versionId)) pool.close()
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
        this.#servedByVersionId.get(message.versionId)?.pool.refuse(refusal, performance.now() + retryAfterMs)
        break
      }
      case 'start-delayed':
        this.#delay(message.versionId, message.message)
        break
      case 'instance-pause': {
        const { id, started } = message
        const isPaused = this.#poolByInstanceId.get(id)?.pause(id, started) ?? false
        this.#options.send({ type: isPaused ? 'instance-paused' : 'pause-refused', id })
        break
      }
      default:
    }
  }

  /** The agent repeats it every second for as long as it holds, and does not say when it has ended. */
  #delay(versionId: string, reason: string): void {
    const untilMs = performance.now() + this.#options.startDelayKeptMs
    this.#servedByVersionId.get(versionId)?.pool.delay(reason, untilMs)
  }

  /** No connection to it can be made: nothing new for it until the agent has looked. What runs on it may go on. */
  sideline(instanceId: string): void {
    this.#poolByInstanceId.get(instanceId)?.drain(instanceId)
  }

  #onDrained(instance: PooledInstance): void {
    const { id } = instance
    this.#options.onDrained(instance)
    this.#options.send({ type: 'instance-drained', id })
    if (this.#forgottenIds.has(id))
      this.#remove(id, { code: 'instance_crashed', message: `instance ${id} has ended` })
  }

  #freeze(instance: PooledInstance): boolean {
    const { id, freezer } = instance
    if (freezer === undefined) return false
    this.#options.onPause(instance)
    const wrong = writeFreezer(freezer, 'frozen')
    if (wrong === undefined) return true
    writeFreezer(freezer, 'thawed')
    this.#options.warn(`instance ${id} cannot be paused, it goes on: ${wrong}`)
    return false
  }

  #thaw({ id, freezer, draining }: PooledInstance): boolean {
    const wrong = freezer === undefined ? undefined : writeFreezer(freezer, 'thawed')
    // Of one that is to end, the agent only waits to hear that it has drained.
    if (draining) return wrong === undefined
    if (wrong === undefined) this.#options.send({ type: 'instance-resumed', id })
    else {
      const message = `instance ${id} cannot be resumed from pause: ${wrong}`
      this.#options.send({ type: 'instance-unreachable', id, message })
    }
    return wrong === undefined
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
    const { pool } = this.of(instance.functionName, instance.versionId)
    const isKnown = this.#poolByInstanceId.has(instance.id)
    this.#poolByInstanceId.set(instance.id, pool)
    this.#forgottenIds.delete(instance.id)
    pool.add(isKnown ? instance : this.#awake(instance), cold)
  }

  /** One that this router has not met may have been frozen by the router before it. */
  #awake(instance: InstanceAddress): InstanceAddress {
    if (instance.freezer === undefined) return instance
    const wrong = writeFreezer(instance.freezer, 'thawed')
    if (wrong === undefined) return instance
    this.#options.warn(`instance ${instance.id} will not be paused, its freezer cannot be written: ${wrong}`)
    const { id, functionName, versionId, socketPath } = instance
    return { id, functionName, versionId, socketPath }
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

  /** Every 100 ms: ends waits that are over, says what changed, forgets versions that nobody needs. */
  tick(nowMs: number): void {
    for (const { pool } of this.#servedByVersionId.values()) pool.expire(nowMs)
    const load = this.#load.make(this.#servedByVersionId.values(), nowMs)
    if (load.instances.length > 0 || load.versions.length > 0) this.#options.send({ type: 'load', ...load })
    for (const [versionId, { pool, meter }] of this.#servedByVersionId) {
      const isNeeded = this.#functionByVersionId.has(versionId) || pool.queued > 0
      if (isNeeded || pool.instances.length > 0) continue
      this.#servedByVersionId.delete(versionId)
      meter.retiredAtMs = nowMs
    }
  }

  /** For an agent that has just come: everything counts as changed. */
  forgetReports(): void {
    this.#load.forget()
  }

  /** Refuses all who wait. */
  refuseAll(code: ErrorCode, message: string): void {
    for (const { pool } of this.#servedByVersionId.values()) pool.refuseWaiting({ code, message })
  }
}

const CODE_BY_CAUSE: Readonly<Record<ExitCause, ErrorCode>> = {
  // Only at the end of a drain's time: the request was slower than a replaced instance may live.
  stopped: 'draining',
  crashed: 'instance_crashed',
  out_of_memory: 'memory_limit_exceeded',
  // Below its own limit: whoever asked did nothing wrong, and may ask again.
  node_out_of_memory: 'node_full',
  cpu_limit: 'cpu_limit_exceeded',
  start_failed: 'start_failed',
  killed: 'instance_crashed',
}

function goneCause(cause: ExitCause, message: string): GoneCause {
  const code = CODE_BY_CAUSE[cause]
  if (code !== 'instance_crashed') return { code, message }
  return {
    code,
    message: `the function's instance ended before it answered (${message}): its log may say why`,
  }
}
