/**
 * The isolate driver: blanks kept ready, versions started on them, instances of an earlier agent taken over. An
 * instance that runs needs nothing of this process; only its start, its limits and its end do.
 */
import assert from 'node:assert'
import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import { isWorkerVersion, type WorkerVersion } from '../../sdk/model/function.ts'
import type { InstanceDriver, LogSink } from '../pool/driver.ts'
import type { NodeBudget } from '../pool/node-events.ts'
import { adoptInstances } from './adopt.ts'
import { startBlank, type Blank } from './blank.ts'
import { createBlanks } from './blanks.ts'
import { openCgroupTree, type Cgroup, type CgroupTree } from '../machine/cgroup.ts'
import { INSTANCE_SOCKETS, type ConfigOptions } from './config.ts'
import { createConfigCache } from './config-cache.ts'
import { openHome, removeCgroup, SOCKET_FOLDER, type EgressPort, type Home } from './home.ts'
import type { IsolateInstance } from './instance.ts'
import { limitsInForce } from './limits-in-force.ts'
import { processUsage } from '../machine/process-handle.ts'
import { prepareSandbox, type SandboxChoice } from './sandbox.ts'
import { startInstance } from './start.ts'
import { createUidPool } from './uid-pool.ts'
import { workerdBinaryPath } from '../machine/workerd-binary.ts'

export interface IsolateDriverOptions {
  /** Absolute and short, because sockets lie in it: their paths may have 107 bytes. */
  readonly runDirectory: string
  readonly egress: EgressPort
  /** Bodies of the version's modules by digest, source maps included. */
  loadModules(version: WorkerVersion): Promise<ReadonlyMap<string, Uint8Array>>
  /** Opens a version's secrets, when an instance of it is configured and at no other time. Absent: there is no key. */
  readonly openSecret?: ConfigOptions['openSecret']
  readonly log: LogSink
  /** @default 'auto': the best that works here */
  readonly sandbox?: SandboxChoice
  /** Unique among the nodes of this machine: names cgroups and separates user ids. */
  readonly isolationName: string
  /**
   * What all instances and blanks may use together, enforced by the kernel: whatever they do, it takes no memory and no
   * processor from the router and the agent. Absent: whatever the machine has.
   */
  readonly budget?: NodeBudget
  /** @default INSTANCE_LIMITS.startTimeoutMs */
  readonly startTimeoutMs?: number
}

const ID_BYTES = 5
/** Any version can be put into any blank. */
const BLANK_CLASS = 'worker'

/** Throws `unsupported_machine`, and `invalid_argument` for a directory whose path is too long. */
export async function createIsolateDriver(options: IsolateDriverOptions): Promise<InstanceDriver> {
  const { egress, log } = options
  const instancesDirectory = join(options.runDirectory, 'i')
  checkPathLength(instancesDirectory)
  mkdirSync(instancesDirectory, { recursive: true, mode: 0o700 })
  const sandbox = await prepareSandbox({
    choice: options.sandbox ?? 'auto',
    directory: options.runDirectory,
    workerd: workerdBinaryPath(),
  })
  const found = openCgroupTree({ name: options.isolationName })
  const tree: CgroupTree | undefined = 'unavailable' in found ? undefined : found
  const uids = createUidPool({ name: options.isolationName, own: !sandbox.ownUid })
  const configs = createConfigCache({
    loadModules: options.loadModules,
    socketDirectory: sandbox.socketsInside,
    openSecret: options.openSecret,
  })

  let isBudgetInForce = tree?.limitTogether(options.budget) ?? true
  // The kernel lets no group have more than the one around it.
  const cpus = Math.min(INSTANCE_LIMITS.cpusDefault, options.budget?.cpus ?? Number.POSITIVE_INFINITY)
  const claimed = new Set<Blank>()
  const instances = new Map<string, IsolateInstance>()
  const endings = new Set<Promise<unknown>>()
  let closed = false

  const untilCleared = (ending: Promise<unknown>): void => {
    endings.add(ending)
    void ending.finally(() => endings.delete(ending))
  }
  const makeBlank = (): Blank => {
    const id = randomBytes(ID_BYTES).toString('hex')
    const uid = uids.take()
    let home: Home | undefined
    let cgroup: Cgroup | undefined
    try {
      cgroup = tree?.create(id)
      cgroup?.limit({ memoryMib: INSTANCE_LIMITS.memoryMibDefault, cpus, pids: INSTANCE_LIMITS.pidsMax })
      // Beside eight loops at the ordinary weight, making it takes half a second.
      cgroup?.setCpuWeight(INSTANCE_LIMITS.cpuWeightStarting)
      const onCleared = (): void => uids.release(uid)
      home = openHome({
        id,
        uid,
        cgroup,
        egress,
        onCleared,
        directory: join(instancesDirectory, id),
        adopted: false,
      })
      return startBlank(home, sandbox)
    } catch (cause) {
      untilCleared(home?.clear() ?? removeCgroup(cgroup).then(() => uids.release(uid)))
      throw new IsolaError('internal', `no instance can be prepared: ${(cause as Error).message}`, { cause })
    }
  }
  const blanks = createBlanks({ make: makeBlank, untilCleared })
  const refuseWhenClosed = (): void => {
    if (closed) throw new IsolaError('draining', 'this node is shutting down: ask another')
  }
  const hold = (instance: IsolateInstance): IsolateInstance => {
    instances.set(instance.id, instance)
    untilCleared(instance.cleared)
    void instance.exited.then(() => instances.delete(instance.id))
    void instance.cleared.then(() => {
      // It was lower than what instances of an earlier agent had: each that ends may make room for it.
      if (!isBudgetInForce) isBudgetInForce = tree?.limitTogether(options.budget) ?? true
    })
    return instance
  }

  return {
    sandbox: sandbox.description,
    limits:
      tree?.description ?? `none but files and time (${'unavailable' in found ? found.unavailable : ''})`,

    async adopt() {
      const known = new Set([...blanks.waiting].map(({ home }) => home.id).concat([...instances.keys()]))
      const adopted = await adoptInstances({ ...options, instancesDirectory, tree, uids, known })
      return adopted.map(hold)
    },

    keepBlanks(blankClass, count) {
      if (blankClass === BLANK_CLASS) blanks.keep(count)
    },

    async start(version, inForce) {
      refuseWhenClosed()
      assert(isWorkerVersion(version), `version ${version.id} is of kind ${version.content.kind}`)
      const limits = limitsInForce(version, inForce)
      const loaded = await configs.load(version, limits.memoryMib)
      refuseWhenClosed()
      const blank = blanks.claim()
      const starting = startInstance({
        blank,
        version,
        limits,
        cpus,
        loaded,
        egress,
        log,
        startTimeoutMs: options.startTimeoutMs ?? INSTANCE_LIMITS.startTimeoutMs,
      })
      claimed.add(blank)
      untilCleared(starting.catch(() => undefined).finally(() => claimed.delete(blank)))
      return hold(await starting)
    },

    foresee: ({ memoryMib }) => ({
      reserveMib: Math.min(memoryMib, INSTANCE_LIMITS.reserveMib),
      blankClass: BLANK_CLASS,
    }),

    blanks: () =>
      [...blanks.waiting].map(({ process, home }) => {
        const coarse = processUsage(process.pid)
        const { cpuMs, memoryBytes } = home.cgroup?.usage() ?? {}
        return {
          blankClass: BLANK_CLASS,
          pid: process.pid,
          cpuMs: cpuMs ?? coarse.cpuMs,
          memoryBytes: memoryBytes ?? coarse.memoryBytes,
        }
      }),

    pids: () => [
      ...[...blanks.waiting, ...claimed].map(({ process }) => process.pid),
      ...[...instances.values()].map(({ pid }) => pid),
    ],

    async close() {
      closed = true
      blanks.close()
      // A start that was under way may still become an instance.
      while (endings.size > 0) {
        for (const blank of claimed) blank.process.signal('SIGKILL')
        for (const instance of instances.values()) instance.kill('stopped')
        await Promise.race(endings)
      }
      tree?.close()
      for (const name of ['i', 'root', 'mounts'])
        rmSync(join(options.runDirectory, name), { recursive: true, force: true })
    },
  }
}

/** The kernel cuts socket paths without a word on some paths of libuv; better to say it once, here. */
function checkPathLength(instancesDirectory: string): void {
  const longest = join(instancesDirectory, '0'.repeat(2 * ID_BYTES), SOCKET_FOLDER, INSTANCE_SOCKETS.control)
  const bytes = Buffer.byteLength(longest)
  if (bytes <= INSTANCE_LIMITS.socketPathBytesMax) return
  throw new IsolaError(
    'invalid_argument',
    `socket paths like ${longest} would have ${bytes} bytes, and the kernel takes ${INSTANCE_LIMITS.socketPathBytesMax}: choose a run directory with a shorter path`,
  )
}
