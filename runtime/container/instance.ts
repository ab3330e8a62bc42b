/** A running container as the agent holds it, started by this agent or taken over from an earlier one. */
import type { ExitCause, InstanceState } from '../../sdk/model/node-status.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { ContainerVersion } from '../../sdk/model/function.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { ExitReport, Instance, MemoryRank, StartOptions } from '../pool/driver.ts'
import { adjustOomScore } from '../machine/process-handle.ts'
import type { Body } from './body.ts'
import type { ContainerEnd } from './container-ends.ts'
import { environmentEnd, reportExit } from './exit-report.ts'
import type { ContainerParts } from './parts.ts'

export interface ContainerInstance extends Instance {
  /** Of the processes on the host, its sandbox's among them. */
  readonly pids: readonly number[]
  /** Settles after `exited`, once nothing of it is left on the machine. */
  readonly cleared: Promise<void>
}

const MIB = 1024 * 1024
/** What a forwarder takes changes little. */
const SANDBOX_MEASURE_MS = 1_000

export function createInstance(
  parts: ContainerParts,
  options: {
    readonly body: Body
    readonly version: ContainerVersion
    readonly startedAtMs: number
    /** In force for it. */
    readonly limits: StartOptions
  },
): ContainerInstance {
  const { body, version, limits } = options
  const { home, container, sandbox, output } = body
  const { cgroup } = container
  const { cgroups } = parts.tools
  const hitsBefore = cgroups.budgetHits()
  let state: InstanceState = 'running'
  let exit: ExitReport | undefined
  let requested: ExitCause | undefined
  let requestedMessage: string | undefined
  let ended = false
  let thawing: NodeJS.Timeout | undefined
  let seen = { cpuMs: 0, memoryBytes: 0 }
  let sandboxBytes = 0
  let sandboxMeasuredMs = Number.NEGATIVE_INFINITY

  const report = async (end: ContainerEnd): Promise<ExitReport> => {
    ended = true
    clearInterval(thawing)
    await output.readUp()
    output.stop()
    const errors = output.lastErrors()
    if (body.environment !== undefined) parts.lambda.ended(home.id, environmentEnd(end, errors))
    // Half of its limit, and then all of it between two looks: the limit was its own.
    const wasFarBelow = seen.memoryBytes > 0 && seen.memoryBytes < (limits.memoryMib * MIB) / 2
    const budgetReachedMib = wasFarBelow ? cgroups.budgetReachedMib(hitsBefore) : undefined
    const reported = reportExit({ end, requested, requestedMessage, errors, limits, budgetReachedMib })
    exit = seen.cpuMs > 0 ? { ...reported, cpuMs: seen.cpuMs } : reported
    state = 'gone'
    if (exit.cause !== 'stopped') {
      parts.log(
        instanceLine(
          version,
          home.id,
          `ended (${exit.cause}): ${[exit.message, ...(exit.detail ? [exit.detail] : [])].join(': ')}`,
        ),
      )
    }
    return exit
  }
  const exited = container.ended.then(report)
  const cleared = exited.then(async () => {
    await container.remove()
    if (body.environment !== undefined) parts.lambda.close(home.id)
    await sandbox?.discard()
    await home.clear()
  })

  /** Again until it is gone: the router may be freezing it at this moment, which no signal would get through. */
  const keepThawed = (): void => {
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
    container.signal('SIGKILL')
    keepThawed()
  }
  void sandbox?.ended.then(() => kill('crashed', 'the sandbox of its network has ended'))
  const measure = (): { cpuMs: number; memoryBytes: number } => {
    const now = performance.now()
    if (sandbox !== undefined && now - sandboxMeasuredMs > SANDBOX_MEASURE_MS) {
      sandboxMeasuredMs = now
      sandboxBytes = sandbox.usage().memoryBytes
    }
    const { cpuMs = seen.cpuMs, memoryBytes = 0 } = cgroup?.usage() ?? {}
    return { cpuMs, memoryBytes: memoryBytes + sandboxBytes }
  }
  return {
    id: home.id,
    functionName: version.functionName,
    versionId: version.id,
    pid: container.pid,
    pids: sandbox === undefined ? [container.pid] : [container.pid, sandbox.pid],
    socketPath: body.socketPath,
    startedAtMs: options.startedAtMs,
    memoryMib: limits.memoryMib,
    freezer: cgroup?.freezer,
    exited,
    cleared,
    get state() {
      return state
    },
    get exit() {
      return exit
    },
    setCpuWeight(weight) {
      if (!ended) cgroup?.setCpuWeight(weight)
    },
    setMemoryRank(rank) {
      if (ended || cgroup === undefined) return
      for (const pid of cgroups.processesOf(cgroup)) adjustOomScore(pid, OOM_SCORE_ADJUST[rank])
    },
    usage() {
      if (ended) return { cpuMs: 0, memoryBytes: 0 }
      const usage = measure()
      // Its cgroup is gone before its end is told: nothing is what it takes then, and not what it took.
      if (usage.memoryBytes > 0) seen = usage
      return usage
    },
    pendingWork: () => Promise.resolve(0),
    async stop({ graceMs }) {
      if (!ended) {
        requested ??= 'stopped'
        state = 'draining'
        keepThawed()
        container.signal('SIGTERM')
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

/** What isola itself says of an instance, or of a start that became none. */
export function instanceLine(
  version: ContainerVersion,
  instanceId: string | undefined,
  message: string,
  level: LogLine['level'] = 'error',
): LogLine {
  return {
    time: new Date().toISOString(),
    source: 'instance',
    level,
    functionName: version.functionName,
    versionId: version.id,
    ...(instanceId !== undefined && { instanceId }),
    message,
  }
}
