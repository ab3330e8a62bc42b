/** A running isolate as the agent holds it, started by this agent or taken over from an earlier one. */
import type { ExitCause, InstanceState } from '../../sdk/model/node-status.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { WorkerVersion } from '../../sdk/model/function.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { ExitReport, Instance, LogSink, MemoryRank, StartOptions } from '../pool/driver.ts'
import { askGuest } from './control-request.ts'
import { reportExit } from './exit-report.ts'
import type { Home } from './home.ts'
import { adjustOomScore, processUsage, type ProcessHandle } from '../machine/process-handle.ts'
import { createRelief } from './relief.ts'

const MIB = 1024 * 1024

export interface IsolateInstance extends Instance {
  /** Settles after `exited`, once nothing of it is left on the machine. */
  readonly cleared: Promise<void>
}

export interface IsolateInstanceOptions {
  readonly home: Home
  readonly process: ProcessHandle
  readonly version: WorkerVersion
  readonly startedAtMs: number
  /** In force for it. */
  readonly limits: StartOptions
  readonly log: LogSink
}

export function createInstance(options: IsolateInstanceOptions): IsolateInstance {
  const { home, process, version, limits, log } = options
  let state: InstanceState = 'running'
  let exit: ExitReport | undefined
  let requested: ExitCause | undefined
  let requestedMessage: string | undefined
  let ended = false
  let thawing: NodeJS.Timeout | undefined
  let cpuMsSeen: number | undefined

  const exited = process.exited.then((outcome) => {
    ended = true
    clearInterval(thawing)
    home.logs.drain()
    const report = reportExit({
      exit: outcome,
      requested,
      requestedMessage,
      memoryKill: home.cgroup?.memoryKill(),
      errors: home.logs.lastErrors(),
      limits,
    })
    // Of a process that is gone only its cgroup still knows; without one, what was seen last.
    const cpuMs = home.cgroup?.usage().cpuMs ?? cpuMsSeen
    exit = cpuMs === undefined ? report : { ...report, cpuMs }
    state = 'gone'
    if (exit.cause !== 'stopped')
      log(instanceLine(version, home.id, `ended (${exit.cause}): ${exit.message}`))
    return exit
  })
  const cleared = exited.then(() => home.clear())

  /** Again until it is gone: the router may be freezing it at this moment, which no signal would get through. */
  const keepThawed = (): void => {
    const { cgroup } = home
    if (cgroup?.freezer === undefined) return
    cgroup.thaw()
    thawing ??= setInterval(() => cgroup.thaw(), INSTANCE_LIMITS.exitPollMs)
  }
  const kill = (cause: ExitCause, message?: string): void => {
    if (ended) return
    if (requested === undefined) {
      requested = cause
      requestedMessage = message
    }
    process.signal('SIGKILL')
    home.cgroup?.kill()
    keepThawed()
  }
  const isFrozen = (): boolean => home.cgroup?.isFrozen() === true
  const relief = createRelief({
    limitBytes: limits.memoryMib * MIB,
    // A function too busy to answer is asked again with a later measurement; one that is frozen cannot answer.
    collect() {
      if (isFrozen()) return false
      askGuest(home.controlSocket, INSTANCE_LIMITS.controlTimeoutMs, '/collect').catch(() => undefined)
      return true
    },
  })
  const measure = (): { cpuMs: number; memoryBytes: number } => {
    const { cpuMs, memoryBytes } = home.cgroup?.usage() ?? {}
    if (cpuMs !== undefined && memoryBytes !== undefined) return { cpuMs, memoryBytes }
    const coarse = processUsage(process.pid)
    return { cpuMs: cpuMs ?? coarse.cpuMs, memoryBytes: memoryBytes ?? coarse.memoryBytes }
  }
  return {
    id: home.id,
    functionName: version.functionName,
    versionId: version.id,
    pid: process.pid,
    socketPath: home.httpSocket,
    startedAtMs: options.startedAtMs,
    memoryMib: limits.memoryMib,
    freezer: home.cgroup?.freezer,
    exited,
    cleared,
    get state() {
      return state
    },
    get exit() {
      return exit
    },
    setCpuWeight(weight) {
      if (!ended) home.cgroup?.setCpuWeight(weight)
    },
    setMemoryRank(rank) {
      if (!ended) adjustOomScore(process.pid, OOM_SCORE_ADJUST[rank])
    },
    usage() {
      if (ended) return { cpuMs: 0, memoryBytes: 0 }
      const usage = measure()
      cpuMsSeen = usage.cpuMs
      // Whoever measures gives the occasion: no timer of its own for each instance.
      relief.observe(usage.memoryBytes, performance.now())
      return usage
    },
    async pendingWork() {
      // One is frozen only when it has none, and asking it would take the whole second.
      if (ended || isFrozen()) return 0
      try {
        return (await askGuest(home.controlSocket, INSTANCE_LIMITS.controlTimeoutMs)).pending
      } catch {
        return 0
      }
    },
    async stop({ graceMs }) {
      if (!ended) {
        requested ??= 'stopped'
        state = 'draining'
        process.signal('SIGTERM')
        keepThawed()
        const timer = setTimeout(() => kill('stopped'), graceMs)
        void exited.then(() => clearTimeout(timer))
      }
      return exited
    },
    kill,
  }
}

const OOM_SCORE_ADJUST: Readonly<Record<MemoryRank, number>> = {
  first: INSTANCE_LIMITS.oomScoreAdjustFirst,
  ordinary: INSTANCE_LIMITS.oomScoreAdjust,
  last: INSTANCE_LIMITS.oomScoreAdjustLast,
}

/** What isola itself says of an instance. */
export function instanceLine(
  version: WorkerVersion,
  instanceId: string,
  message: string,
  level: LogLine['level'] = 'error',
): LogLine {
  return {
    time: new Date().toISOString(),
    source: 'instance',
    level,
    functionName: version.functionName,
    versionId: version.id,
    instanceId,
    message,
  }
}
