/**
 * A platform runtime that waits for its function: a hardened container without a network, its runtime client started
 * and connected. It becomes an instance when its code is linked into the directory that it sees as /var/task and the
 * Lambda process tells it its function. Used once.
 */
import { chmodSync } from 'node:fs'
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { BlankClass } from './blank-class.ts'
import type { Blank } from './blanks.ts'
import { describeEnd } from './exit-report.ts'
import { openHome, type Home } from './home.ts'
import type { ContainerParts } from './parts.ts'
import { createContainer, type CreatedContainer, type RunningContainer } from './running-container.ts'
import { blankSpec } from './specs.ts'
import { createUndo } from './undo.ts'
import { containerName } from './container-labels.ts'

export interface RuntimeBlank extends Blank {
  readonly type: 'runtime'
  readonly home: Home
  readonly container: RunningContainer
  readonly hasEnded: boolean
}

type RuntimeClass = Extract<BlankClass, { type: 'runtime' }>

/** Throws `engine_unavailable`, and what the base image's making throws. Whatever else goes wrong is the node's own fault. */
export async function makeRuntimeBlank(
  parts: ContainerParts,
  { blankClass, urgent }: { readonly blankClass: RuntimeClass; readonly urgent: boolean },
): Promise<RuntimeBlank> {
  const { images, gate, lambda } = parts
  const undo = createUndo()
  try {
    const { imageId } = await images.runtimeImage(blankClass.runtime)
    const home = openHome({ ...parts, id: parts.ids.next(), adopted: false })
    undo.add(() => home.clear())
    undo.add(() => lambda.close(home.id))
    const spec = blankSpec(parts, {
      home,
      imageId,
      blankClass,
      cgroupParent: await parts.tools.cgroups.parent(),
    })
    const container = await gate.run({ urgent }, async () => {
      const created = await openAndCreate(parts, home, () =>
        createContainer(parts.tools, { name: containerName(parts.isolationName, home.id), spec }),
      )
      return created.start()
    })
    undo.add(() => container.remove())
    container.cgroup?.setCpuWeight(INSTANCE_LIMITS.cpuWeightStarting)
    await untilWaiting(parts, home, container)
    return runtimeBlank(parts, home, container)
  } catch (error) {
    await undo.run()
    if (isIsolaError(error) && error.code !== 'start_failed' && error.code !== 'image_not_found') throw error
    throw new IsolaError(
      'internal',
      `no blank of runtime ${blankClass.runtime} can be made: ${(error as Error).message}`,
      { cause: error },
    )
  }
}

/** Its door must be there before it starts; what takes the engine time goes side by side with that. */
async function openAndCreate(
  { lambda }: ContainerParts,
  home: Home,
  create: () => Promise<CreatedContainer>,
): Promise<CreatedContainer> {
  const { id, httpSocket, apiSocket } = home
  const [opened, created] = await Promise.allSettled([
    lambda.open({ id, httpSocket, runtimeApi: { type: 'socket', path: apiSocket } }).then(() => {
      letIn(apiSocket)
    }),
    create(),
  ])
  if (created.status === 'rejected') throw created.reason
  if (opened.status === 'rejected') {
    await created.value.remove()
    throw opened.reason
  }
  return created.value
}

/** Who runs inside is another user, and sees nothing but this one socket. */
export function letIn(apiSocket: string): void {
  chmodSync(apiSocket, 0o666)
}

async function untilWaiting(
  { lambda, startTimeoutMs }: ContainerParts,
  home: Home,
  container: RunningContainer,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`its runtime was not ready after ${startTimeoutMs} ms`)),
      startTimeoutMs,
    )
  })
  const ended = container.ended.then((end) => {
    throw new Error(`its runtime ended: ${describeEnd(end, '')}`)
  })
  try {
    await Promise.race([lambda.whenWaiting(home.id), late, ended])
  } finally {
    clearTimeout(timer)
  }
}

function runtimeBlank({ lambda }: ContainerParts, home: Home, container: RunningContainer): RuntimeBlank {
  let hasEnded = false
  container.cgroup?.setCpuWeight(INSTANCE_LIMITS.cpuWeightOrdinary)
  return {
    type: 'runtime',
    id: home.id,
    pid: container.pid,
    home,
    container,
    ended: container.ended.then(() => (hasEnded = true)),
    get hasEnded() {
      return hasEnded
    },
    usage() {
      const { cpuMs = 0, memoryBytes = 0 } = container.cgroup?.usage() ?? {}
      return { cpuMs, memoryBytes }
    },
    async discard() {
      container.signal('SIGKILL')
      await container.remove()
      lambda.close(home.id)
      await home.clear()
    },
  }
}
