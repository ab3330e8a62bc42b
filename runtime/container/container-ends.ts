/**
 * When containers end. The engine's event stream says it first, its inspection says why. Events are lost while the
 * engine is away, and one may be lost for no reason at all; so the processes themselves are looked at too, and a
 * process that is gone has ended whatever the engine says or does not say.
 */
import { isSameProcess, type ProcessIdentity } from '../machine/process-handle.ts'
import { CONTAINER_LABELS } from './container-labels.ts'
import type { ContainerEvent, Engine } from './engine.ts'

export interface ContainerEnd {
  /** Absent where nobody saw it. */
  readonly exitCode?: number
  /** The kernel has killed something inside for want of memory: not always the main process. */
  readonly outOfMemory: boolean
}

export interface ContainerEnds {
  /** Settles when the container has ended, once it was started. To be called before that. Never rejects. */
  watch(containerId: string): Promise<ContainerEnd>
  /** It runs as this process. */
  started(containerId: string, identity: ProcessIdentity): void
  forget(containerId: string): void
  /** The engine answers again. */
  onConnect(listener: () => void): void
  close(): void
}

interface Watched {
  readonly settle: (end: ContainerEnd) => void
  identity?: ProcessIdentity
  outOfMemory: boolean
  /** Looks that found no process. */
  missed: number
  asking: boolean
}

const LOOK_MS = 500
/** The engine is given a moment to say it itself. */
const LOOKS_MISSED_MAX = 2

export function watchContainerEnds(options: {
  readonly engine: Engine
  readonly isolationName: string
}): ContainerEnds {
  const { engine } = options
  const watchedById = new Map<string, Watched>()
  const listeners: (() => void)[] = []

  const end = (containerId: string, watched: Watched, seen: ContainerEnd): void => {
    if (watchedById.get(containerId) === watched) watchedById.delete(containerId)
    watched.settle(seen)
  }
  /** Asks how it ended; `exitCode` where the event already said so. */
  const conclude = async (containerId: string, watched: Watched, exitCode?: number): Promise<void> => {
    if (watched.asking && exitCode === undefined) return
    watched.asking = true
    const found = await engine.inspectContainer(containerId).catch(() => undefined)
    watched.asking = false
    const isRunning = found?.status === 'running' || found?.status === 'paused'
    if (isRunning && exitCode === undefined && watched.missed < LOOKS_MISSED_MAX) return
    const code = exitCode ?? (found === undefined || isRunning ? undefined : found.exitCode)
    end(containerId, watched, {
      ...(code !== undefined && { exitCode: code }),
      outOfMemory: watched.outOfMemory || found?.outOfMemory === true,
    })
  }
  const onEvent = ({ action, id, exitCode }: ContainerEvent): void => {
    const watched = watchedById.get(id)
    if (watched === undefined) return
    if (action === 'oom') watched.outOfMemory = true
    else if (action === 'die') void conclude(id, watched, exitCode)
    else if (action === 'destroy') end(id, watched, { outOfMemory: watched.outOfMemory })
  }
  const stream = engine.watchContainers({
    labels: { [CONTAINER_LABELS.node]: options.isolationName },
    onEvent,
    onConnect() {
      for (const [id, watched] of watchedById) if (watched.identity !== undefined) void conclude(id, watched)
      for (const listener of listeners) listener()
    },
    onDisconnect: () => undefined,
  })
  const looking = setInterval(() => {
    for (const [id, watched] of watchedById) {
      if (watched.identity === undefined || isSameProcess(watched.identity)) continue
      watched.missed += 1
      if (watched.missed >= LOOKS_MISSED_MAX) void conclude(id, watched)
    }
  }, LOOK_MS)

  return {
    watch: (containerId) =>
      new Promise((settle) => {
        watchedById.set(containerId, { settle, outOfMemory: false, missed: 0, asking: false })
      }),
    started(containerId, identity) {
      const watched = watchedById.get(containerId)
      if (watched !== undefined) watched.identity = identity
    },
    forget: (containerId) => void watchedById.delete(containerId),
    onConnect: (listener) => void listeners.push(listener),
    close() {
      stream.stop()
      clearInterval(looking)
    },
  }
}
