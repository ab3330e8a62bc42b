/**
 * The container driver: blanks and sandboxes kept ready, versions started on them, instances of an earlier agent taken
 * over. An instance that runs needs nothing of this process; only its start, its limits and its end do. The engine may
 * go away and come back at any time: nothing here needs it but starts, which say so.
 */
import assert from 'node:assert'
import { mkdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import { isContainerVersion } from '../../sdk/model/function.ts'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import type { InstanceDriver, LogSink } from '../pool/driver.ts'
import type { NodeBudget } from '../pool/node-events.ts'
import { adoptInstances, clearRemains } from './adopt.ts'
import { blankClassOf, nameBlankClass, parseBlankClass, type BlankClass } from './blank-class.ts'
import { createBlanks, type Blank } from './blanks.ts'
import type { CodeStore } from './code-store.ts'
import { openContainerCgroups } from './container-cgroup.ts'
import { watchContainerEnds } from './container-ends.ts'
import { CONTAINER_ID_CHARS, createContainerIds } from './container-ids.ts'
import type { EgressNetwork } from './egress-network.ts'
import type { Engine } from './engine.ts'
import { checkPathLength, DATA_FOLDER, RUN_FOLDER } from './home.ts'
import type { ContainerInstance } from './instance.ts'
import type { LambdaPort } from './lambda-port.ts'
import { limitsInForce } from './limits-in-force.ts'
import type { ContainerParts, RuntimeImages } from './parts.ts'
import { createRemoval } from './removal.ts'
import type { RunningContainer } from './running-container.ts'
import { makeRuntimeBlank, type RuntimeBlank } from './runtime-blank.ts'
import type { SandboxMaker } from './sandbox.ts'
import { makeSandboxBlank, type SandboxBlank } from './sandbox-blank.ts'
import { startInstance } from './start.ts'
import { createStartGate } from './start-gate.ts'

export interface ContainerDriverOptions {
  readonly engine: Engine
  readonly images: RuntimeImages
  readonly sandboxes: SandboxMaker
  readonly code: CodeStore
  readonly lambda: LambdaPort
  /** Unique among the nodes of this machine: labels and names containers, and names their cgroup. */
  readonly isolationName: string
  /** Absolute and short, because sockets lie in it: their paths may have 107 bytes. */
  readonly runDirectory: string
  /** On the file system of the code store, so that code is linked and not copied. */
  readonly dataDirectory: string
  /** Bytes of a blob by its digest. Throws `blob_missing`. */
  loadBlob(sha256: string): Promise<Uint8Array>
  readonly openSecret?: ContainerParts['openSecret']
  readonly log: LogSink
  /** Removed with the driver; absent where the node has none. */
  readonly egressNetwork?: Pick<EgressNetwork, 'remove'>
  /** What all containers may use together, enforced by the kernel. Absent: whatever the machine has. */
  readonly budget?: NodeBudget
  /** Containers that the engine makes at a time. @default twice the processors */
  readonly startsAtOnceMax?: number
  /** @default CONTAINER_LIMITS.initTimeoutMs */
  readonly startTimeoutMs?: number
}

type AnyBlank = RuntimeBlank | SandboxBlank
type BlankOf<Class extends BlankClass> = Extract<AnyBlank, { type: Class['type'] }>

/** Adoption answers with what runs; what is cleared away may take the engine longer. */
const CLEARING_WAIT_MS = 1_500

/** Throws `invalid_argument` for a directory whose path is too long. An engine that is away is no reason to throw. */
export async function createContainerDriver(options: ContainerDriverOptions): Promise<InstanceDriver> {
  const { engine, isolationName, runDirectory, dataDirectory, budget } = options
  checkPathLength(runDirectory, CONTAINER_ID_CHARS)
  for (const folder of [join(runDirectory, RUN_FOLDER), join(dataDirectory, DATA_FOLDER)]) {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  }
  const ends = watchContainerEnds({ engine, isolationName })
  const cgroups = openContainerCgroups({ engine, isolationName, budget })
  const removal = createRemoval(engine)
  const alive = new Set<RunningContainer>()
  const parts: ContainerParts = {
    ...options,
    tools: { engine, ends, cgroups, removal, alive },
    gate: createStartGate(options.startsAtOnceMax ?? 2 * availableParallelism()),
    ids: createContainerIds(),
    startTimeoutMs: options.startTimeoutMs ?? CONTAINER_LIMITS.initTimeoutMs,
  }
  const instances = new Map<string, ContainerInstance>()
  const endings = new Set<Promise<unknown>>()
  let closed = false
  let hasMissedRemains = false

  const untilCleared = (ending: Promise<unknown>): void => {
    endings.add(ending)
    void ending.finally(() => endings.delete(ending))
  }
  const makeBlank = <Class extends BlankClass>(
    blankClass: Class,
    urgent: boolean,
  ): Promise<BlankOf<Class>> => {
    const made: Promise<AnyBlank> =
      blankClass.type === 'runtime'
        ? makeRuntimeBlank(parts, { blankClass, urgent })
        : makeSandboxBlank(parts, { blankClass, urgent })
    return made as Promise<BlankOf<Class>>
  }
  const blanks = createBlanks<AnyBlank>({
    untilCleared,
    make: (name) => makeBlank(parseBlankClass(name)!, false),
  })
  /** One that waits and has not just ended, else a new one. */
  const takeBlank = async <Class extends BlankClass>(blankClass: Class): Promise<BlankOf<Class>> => {
    const name = nameBlankClass(blankClass)
    for (let blank = blanks.claim(name); blank !== undefined; blank = blanks.claim(name)) {
      if (!blank.hasEnded) return blank as BlankOf<Class>
      untilCleared(blank.discard())
    }
    return makeBlank(blankClass, true)
  }
  const refuseWhenClosed = (): void => {
    if (closed) throw new IsolaError('draining', 'this node is shutting down: ask another')
  }
  const hold = (instance: ContainerInstance): ContainerInstance => {
    instances.set(instance.id, instance)
    untilCleared(instance.cleared)
    void instance.exited.then(() => instances.delete(instance.id))
    return instance
  }
  options.lambda.onTimeout((id, message) => instances.get(id)?.kill('killed', message))
  ends.onConnect(() => {
    removal.retry()
    blanks.retry()
    if (!hasMissedRemains) return
    hasMissedRemains = false
    untilCleared(
      clearRemains(parts, new Set(instances.keys())).catch(() => {
        hasMissedRemains = true
      }),
    )
  })

  return {
    sandbox: CONFINEMENT,
    limits: 'cgroup of the container: memory, cpu, pids',

    async adopt() {
      let adoption: Awaited<ReturnType<typeof adoptInstances>>
      try {
        adoption = await adoptInstances(parts, new Set(instances.keys()))
      } catch (error) {
        if (!isIsolaError(error) || error.code !== 'engine_unavailable') throw error
        // A node without an engine is as good as ever for its workers.
        hasMissedRemains = true
        return []
      }
      const { instances: adopted, cleared } = adoption
      untilCleared(cleared)
      for (const instance of adopted) hold(instance)
      await orAfter(cleared, CLEARING_WAIT_MS)
      return adopted
    },

    keepBlanks(name, count) {
      if (parseBlankClass(name) !== undefined) blanks.keep(name, count)
    },

    async start(version, inForce) {
      refuseWhenClosed()
      assert(isContainerVersion(version), `version ${version.id} is of kind ${version.content.kind}`)
      const limits = limitsInForce(version, inForce)
      const blankClass = blankClassOf(version.content, limits.memoryMib)
      const take = async <Wanted extends AnyBlank['type']>(type: Wanted) => {
        assert(blankClass.type === type)
        const blank = await takeBlank(blankClass)
        if (!closed) return blank as Extract<AnyBlank, { type: Wanted }>
        await blank.discard()
        return refuseWhenClosed() as never
      }
      const starting = startInstance(parts, {
        version,
        limits,
        takeRuntimeBlank: () => take('runtime'),
        takeSandbox: () => take('sandbox'),
      })
      untilCleared(starting.catch(() => undefined))
      return hold(
        await starting.catch((error: unknown) => {
          // What was ended under its hands is none of the version's doing.
          refuseWhenClosed()
          throw error
        }),
      )
    },

    foresee({ content, memoryMib }) {
      const reserveMib = Math.min(memoryMib, CONTAINER_LIMITS.reserveMib)
      if (content?.kind !== 'container') return { reserveMib }
      return { reserveMib, blankClass: nameBlankClass(blankClassOf(content, memoryMib)) }
    },

    blanks: () =>
      blanks.waiting().map(({ blankClass, blank }: { blankClass: string; blank: Blank }) => ({
        blankClass,
        pid: blank.pid,
        ...blank.usage(),
      })),

    pids: () => [
      ...new Set([
        ...[...alive].map(({ pid }) => pid),
        ...blanks.waiting().map(({ blank }) => blank.pid),
        ...[...instances.values()].flatMap(({ pids }) => pids),
      ]),
    ],

    async close() {
      closed = true
      blanks.close()
      // A start that was under way may still become an instance.
      while (endings.size > 0) {
        for (const instance of instances.values()) instance.kill('stopped')
        for (const container of alive) container.signal('SIGKILL')
        await Promise.race(endings)
      }
      // An engine that is away keeps it; the next agent finds it by its name.
      await options.egressNetwork?.remove().catch(() => undefined)
      ends.close()
      await cgroups.close()
    },
  }
}

const CONFINEMENT =
  'container: namespaces, own user, no capabilities, no new privileges, seccomp, read-only root, no network or its own'

async function orAfter(ending: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  await Promise.race([ending, new Promise((resolve) => (timer = setTimeout(resolve, ms)))])
  clearTimeout(timer)
}
