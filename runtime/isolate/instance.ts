/** A running isolate as the agent holds it, started by this agent or taken over from an earlier one. */
import type { ExitCause, InstanceState } from '../../sdk/model/node-status.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { Version } from '../../sdk/model/function.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { ExitReport, Instance, LogSink } from '../pool/driver.ts'
import { askGuest } from './control-request.ts'
import { reportExit } from './exit-report.ts'
import type { Home } from './home.ts'
import { processUsage, type ProcessHandle } from './process-handle.ts'
import { createRelief } from './relief.ts'

const MIB = 1024 * 1024

export interface IsolateInstance extends Instance {
  /** Settles after `exited`, once nothing of it is left on the machine. */
  readonly cleared: Promise<void>
}

export interface IsolateInstanceOptions {
  readonly home: Home
  readonly process: ProcessHandle
  readonly version: Version
  readonly startedAtMs: number
  readonly log: LogSink
}

export function createInstance(options: IsolateInstanceOptions): IsolateInstance {
  const { home, process, version, log } = options
  const { limits } = version.content
  let state: InstanceState = 'running'
  let exit: ExitReport | undefined
  let requested: ExitCause | undefined
  let ended = false

  const exited = process.exited.then((outcome) => {
    ended = true
    home.logs.drain()
    exit = reportExit({
      exit: outcome,
      requested,
      memoryKills: home.cgroup?.memoryKills() ?? 0,
      errors: home.logs.lastErrors(),
      limits,
    })
    state = 'gone'
    if (exit.cause !== 'stopped')
      log(instanceLine(version, home.id, `ended (${exit.cause}): ${exit.message}`))
    return exit
  })
  const cleared = exited.then(() => home.clear())

  const kill = (cause: ExitCause): void => {
    if (ended) return
    requested ??= cause
    process.signal('SIGKILL')
    home.cgroup?.kill()
  }
  const relief = createRelief({
    limitBytes: limits.memoryMib * MIB,
    // A function too busy to answer is asked again with a later measurement.
    collect: () =>
      void askGuest(home.controlSocket, INSTANCE_LIMITS.controlTimeoutMs, '/collect').catch(() => undefined),
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
    exited,
    cleared,
    get state() {
      return state
    },
    get exit() {
      return exit
    },
    usage() {
      if (ended) return { cpuMs: 0, memoryBytes: 0 }
      const usage = measure()
      // Whoever measures gives the occasion: no timer of its own for each instance.
      relief.observe(usage.memoryBytes, performance.now())
      return usage
    },
    async pendingWork() {
      if (ended) return 0
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
        const timer = setTimeout(() => kill('stopped'), graceMs)
        void exited.then(() => clearTimeout(timer))
      }
      return exited
    },
    kill,
  }
}

/** What isola itself says of an instance. */
export function instanceLine(
  version: Version,
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
