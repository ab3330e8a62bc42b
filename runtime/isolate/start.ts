/**
 * From a blank and a version to a running instance; or to `start_failed` with the function's own message, which counts
 * against the version: what failed for the node's reasons is `internal` or `node_full`.
 */
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { WorkerVersion } from '../../sdk/model/function.ts'
import { calledServices } from '../pool/dispatch-call.ts'
import type { LogSink, StartOptions } from '../pool/driver.ts'
import type { Blank } from './blank.ts'
import type { LoadedVersion } from './config-cache.ts'
import { askGuest } from './control-request.ts'
import { reportExit } from './exit-report.ts'
import type { EgressPort } from './home.ts'
import { createInstance, instanceLine, type IsolateInstance } from './instance.ts'
import { createOutputParser, describeStartFailure } from './output.ts'
import { writeRecord } from './record.ts'

export interface InstanceStart {
  readonly blank: Blank
  readonly version: WorkerVersion
  /** In force for the instance. */
  readonly limits: StartOptions
  /** Processors it may use. */
  readonly cpus: number
  readonly loaded: LoadedVersion
  readonly egress: EgressPort
  readonly startTimeoutMs: number
  readonly log: LogSink
}

export async function startInstance(options: InstanceStart): Promise<IsolateInstance> {
  const { blank, version, log } = options
  const ending = watchEnding(options)
  // A function's own long work at load is not what neighbours should wait for.
  const boost = setTimeout(() => settle(blank), INSTANCE_LIMITS.startBoostMs)
  let failure: Failure
  try {
    configure(options)
    failure = await Promise.race([becomeReady(options, ending.reason), ending.reason])
    if (failure === undefined) return takeUp(options)
  } catch (error) {
    failure = nodeFault(error)
  } finally {
    ending.cancel()
    clearTimeout(boost)
  }
  const { code, message: why } = await abandon(blank, failure)
  const message = `function "${version.functionName}" did not start: ${why}`
  log(instanceLine(version, blank.home.id, message))
  throw new IsolaError(code, message)
}

export function attachOutput(options: {
  readonly blank: Pick<Blank, 'home'>
  readonly version: WorkerVersion
  readonly loaded: Pick<LoadedVersion, 'mapStack'>
  readonly log: LogSink
}): void {
  const { version, loaded, log } = options
  const { id, logs } = options.blank.home
  const parser = createOutputParser({
    functionName: version.functionName,
    versionId: version.id,
    instanceId: id,
    mapStack: loaded.mapStack,
    onLine: log,
  })
  logs.attach(parser, (bytes) => {
    log(
      instanceLine(
        version,
        id,
        `${bytes} bytes of output were dropped: it writes faster than is read`,
        'warn',
      ),
    )
  })
}

/** Undefined once it may get its first request; else what is wrong, to be asked after the output was read. */
type Failure = (() => Fault) | undefined

interface Fault {
  readonly code: 'start_failed' | 'node_full' | 'internal'
  readonly message: string
}

function versionFault(message: string): Fault {
  return { code: 'start_failed', message }
}

function nodeFault(error: unknown): () => Fault {
  return () => ({ code: 'internal', message: (error as Error).message })
}

function configure({ blank, version, limits, cpus, loaded, egress, log }: InstanceStart): void {
  const { home } = blank
  attachOutput({ blank, version, loaded, log })
  home.cgroup?.limit({ memoryMib: limits.memoryMib, cpus, pids: INSTANCE_LIMITS.pidsMax })
  egress.assign(home.id, version.functionName, calledServices(version.content))
  blank.configure(loaded.config)
}

async function becomeReady({ blank, version }: InstanceStart, ended: Promise<Failure>): Promise<Failure> {
  const { home } = blank
  await blank.listening(['http', 'control', 'rpc'])
  let handlers: readonly string[]
  try {
    home.pinSockets()
    ;({ handlers } = await askGuest(home.controlSocket, INSTANCE_LIMITS.startTimeoutMs))
  } catch (error) {
    // Its end is told a moment later than its connections break, and explains them.
    const patience = new Promise<Failure>((resolve) => {
      setTimeout(() => resolve(() => versionFault((error as Error).message)), INSTANCE_LIMITS.exitPollMs)
    })
    return Promise.race([ended, patience])
  }
  try {
    await home.egressReady
  } catch (error) {
    return nodeFault(error)
  }
  if (handlers.includes('fetch') || handlers.includes('rpc') || handlers.includes('tail')) return undefined
  const { mainModule, format } = version.content
  const example =
    format === 'service-worker'
      ? `addEventListener('fetch', (event) => { event.respondWith(…) })`
      : 'export default { fetch(request, env, ctx) { … } }'
  return () => versionFault(`${mainModule} has no fetch handler: write \`${example}\` in it`)
}

/** Settles when the process ends or the time is over. */
function watchEnding({ blank, limits, startTimeoutMs }: InstanceStart): {
  readonly reason: Promise<Failure>
  cancel(): void
} {
  const { home, process } = blank
  let timer: NodeJS.Timeout | undefined
  const reason = new Promise<Failure>((resolve) => {
    timer = setTimeout(() => {
      resolve(() =>
        versionFault(
          `not ready after ${startTimeoutMs} ms: look for an endless loop or long work outside of the fetch handler`,
        ),
      )
    }, startTimeoutMs)
    void process.exited.then((exit) => {
      clearTimeout(timer)
      resolve(() => {
        const errors = home.logs.lastErrors()
        const memoryKill = home.cgroup?.memoryKill()
        const report = reportExit({ exit, requested: undefined, memoryKill, errors, limits })
        const { cause, message } = report
        if (cause === 'node_out_of_memory') return { code: 'node_full', message }
        return versionFault(cause === 'crashed' && errors !== '' ? describeStartFailure(errors) : message)
      })
    })
  })
  return { reason, cancel: () => clearTimeout(timer) }
}

function settle({ home }: Blank): void {
  home.cgroup?.setCpuWeight(INSTANCE_LIMITS.cpuWeightOrdinary)
}

function takeUp({ blank, version, limits, log }: InstanceStart): IsolateInstance {
  const { home, identity, process } = blank
  settle(blank)
  const startedAtMs = Date.now()
  writeRecord(home.directory, {
    formatVersion: 1,
    id: home.id,
    process: identity,
    uid: home.uid,
    ...(home.cgroup === undefined ? {} : { cgroup: home.cgroup.directories }),
    running: { version, startedAtMs, limits },
  })
  return createInstance({ home, process, version, startedAtMs, limits, log })
}

/** Leaves nothing of it; the fault is made in between, when all output was read and the cgroup still counts. */
async function abandon({ home, process }: Blank, failure: () => Fault): Promise<Fault> {
  process.signal('SIGKILL')
  home.cgroup?.kill()
  await process.exited
  home.logs.drain()
  const fault = failure()
  await home.clear()
  return fault
}
