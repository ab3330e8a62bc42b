/**
 * The isolate driver: blanks kept ready, versions started on them, instances of an earlier agent taken over. An
 * instance that runs needs nothing of this process; only its start, its limits and its end do.
 */
import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { Version } from '../../sdk/model/function.ts'
import type { InstanceDriver, LogSink } from '../pool/driver.ts'
import { adoptInstances } from './adopt.ts'
import { startBlank, type Blank } from './blank.ts'
import { openCgroupTree, type Cgroup, type CgroupTree } from './cgroup.ts'
import { INSTANCE_SOCKETS } from './config.ts'
import { createConfigCache } from './config-cache.ts'
import { openHome, removeCgroup, SOCKET_FOLDER, type EgressPort, type Home } from './home.ts'
import type { IsolateInstance } from './instance.ts'
import { processUsage } from './process-handle.ts'
import { prepareSandbox, type SandboxChoice } from './sandbox.ts'
import { cgroupLimits, startInstance } from './start.ts'
import { createUidPool } from './uid-pool.ts'
import { workerdBinaryPath } from './workerd.ts'

export interface IsolateDriverOptions {
  /** Absolute and short, because sockets lie in it: their paths may have 107 bytes. */
  readonly runDirectory: string
  readonly egress: EgressPort
  /** Bodies of the version's modules by digest, source maps included. */
  loadModules(version: Version): Promise<ReadonlyMap<string, Uint8Array>>
  readonly log: LogSink
  /** @default 'auto': the best that works here */
  readonly sandbox?: SandboxChoice
  /** Unique among the nodes of this machine: names cgroups and separates user ids. */
  readonly isolationName: string
  /** @default INSTANCE_LIMITS.startTimeoutMs */
  readonly startTimeoutMs?: number
}

const ID_BYTES = 5

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
  })

  const waiting = new Set<Blank>()
  const claimed = new Set<Blank>()
  const instances = new Map<string, IsolateInstance>()
  const endings = new Set<Promise<unknown>>()
  let wanted = 0
  let refill: NodeJS.Timeout | undefined
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
      cgroup?.limit(cgroupLimits(INSTANCE_LIMITS.memoryMibDefault))
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
  const fill = (delayMs: number): void => {
    if (closed || refill !== undefined || waiting.size >= wanted) return
    refill = setTimeout(() => {
      refill = undefined
      try {
        if (waiting.size < wanted) waitForClaim(makeBlank())
        fill(INSTANCE_LIMITS.blankSpacingMs)
      } catch {
        // A start says what is wrong, to whoever asks for one; here there is only trying again.
        fill(INSTANCE_LIMITS.blankRetryMs)
      }
    }, delayMs)
  }
  const waitForClaim = (blank: Blank): void => {
    waiting.add(blank)
    void blank.process.exited.then(() => {
      // Still unclaimed: it ended by itself, or with us.
      if (!waiting.delete(blank)) return
      untilCleared(blank.home.clear())
      fill(INSTANCE_LIMITS.blankRetryMs)
    })
  }
  const claim = (): Blank => {
    for (const blank of waiting) {
      waiting.delete(blank)
      return blank
    }
    return makeBlank()
  }
  const refuseWhenClosed = (): void => {
    if (closed) throw new IsolaError('draining', 'this node is shutting down: ask another')
  }
  const hold = (instance: IsolateInstance): IsolateInstance => {
    instances.set(instance.id, instance)
    untilCleared(instance.cleared)
    void instance.exited.then(() => instances.delete(instance.id))
    return instance
  }

  return {
    kind: 'worker',
    sandbox: sandbox.description,
    limits:
      tree?.description ?? `none but files and time (${'unavailable' in found ? found.unavailable : ''})`,

    async adopt() {
      const known = new Set([...waiting].map(({ home }) => home.id).concat([...instances.keys()]))
      const adopted = await adoptInstances({ ...options, instancesDirectory, tree, uids, known })
      return adopted.map(hold)
    },

    keepBlanks(count) {
      wanted = Math.min(Math.max(0, count), INSTANCE_LIMITS.blanksMax)
      for (const blank of waiting) {
        if (waiting.size <= wanted) break
        waiting.delete(blank)
        untilCleared(discard(blank))
      }
      fill(0)
    },

    async start(version) {
      refuseWhenClosed()
      const loaded = await configs.load(version)
      refuseWhenClosed()
      const blank = claim()
      const starting = startInstance({
        blank,
        version,
        loaded,
        egress,
        log,
        startTimeoutMs: options.startTimeoutMs ?? INSTANCE_LIMITS.startTimeoutMs,
      })
      claimed.add(blank)
      untilCleared(starting.catch(() => undefined).finally(() => claimed.delete(blank)))
      fill(INSTANCE_LIMITS.blankAfterStartMs)
      return hold(await starting)
    },

    blanks: () =>
      [...waiting].map(({ process, home }) => {
        const coarse = processUsage(process.pid)
        const { cpuMs, memoryBytes } = home.cgroup?.usage() ?? {}
        return {
          pid: process.pid,
          cpuMs: cpuMs ?? coarse.cpuMs,
          memoryBytes: memoryBytes ?? coarse.memoryBytes,
        }
      }),

    pids: () => [
      ...[...waiting, ...claimed].map(({ process }) => process.pid),
      ...[...instances.values()].map(({ pid }) => pid),
    ],

    async close() {
      closed = true
      clearTimeout(refill)
      for (const blank of waiting) {
        waiting.delete(blank)
        untilCleared(discard(blank))
      }
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

async function discard(blank: Blank): Promise<void> {
  blank.process.signal('SIGKILL')
  await blank.process.exited
  await blank.home.clear()
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
