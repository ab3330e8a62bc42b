/** From a blank and a version to a running instance; or to `start_failed` with the function's own message. */
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { Version } from '../../sdk/model/function.ts'
import type { LogSink } from '../pool/driver.ts'
import type { Blank } from './blank.ts'
import type { LoadedVersion } from './config-cache.ts'
import { askGuest } from './control-request.ts'
import { reportExit } from './exit-report.ts'
import type { EgressPort } from './home.ts'
import { createInstance, instanceLine, type IsolateInstance } from './instance.ts'
import { createOutputParser, describeStartFailure } from './output.ts'
import { writeRecord } from './record.ts'
import { INSTANCE_SOCKETS } from './config.ts'

export interface StartOptions {
  readonly blank: Blank
  readonly version: Version
  readonly loaded: LoadedVersion
  readonly egress: EgressPort
  readonly startTimeoutMs: number
  readonly log: LogSink
}

export async function startInstance(options: StartOptions): Promise<IsolateInstance> {
  const { blank, version, loaded, log } = options
  const { home } = blank
  attachOutput({ blank, version, loaded, log })
  home.cgroup?.limit(cgroupLimits(version.content.limits.memoryMib))
  options.egress.assign(home.id, version.functionName)
  blank.configure(loaded.config)

  const failure = await Promise.race([becomeReady(blank, version), endOrTimeout(options)])
  if (failure !== undefined) {
    blank.process.signal('SIGKILL')
    home.cgroup?.kill()
    await blank.process.exited
    home.logs.drain()
    const message = `function "${version.functionName}" did not start: ${failure()}`
    await home.clear()
    log(instanceLine(version, home.id, message))
    throw new IsolaError('start_failed', message)
  }
  const startedAtMs = Date.now()
  writeRecord(home.directory, {
    formatVersion: 1,
    id: home.id,
    process: blank.identity,
    uid: home.uid,
    ...(home.cgroup === undefined ? {} : { cgroup: home.cgroup.directories }),
    running: { version, startedAtMs },
  })
  return createInstance({ home, process: blank.process, version, startedAtMs, log })
}

export function cgroupLimits(memoryMib: number): { memoryMib: number; cpus: number; pids: number } {
  return { memoryMib, cpus: INSTANCE_LIMITS.cpusDefault, pids: INSTANCE_LIMITS.pidsMax }
}

export function attachOutput(options: {
  readonly blank: Pick<Blank, 'home'>
  readonly version: Version
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
type Failure = (() => string) | undefined

async function becomeReady({ home, listening }: Blank, version: Version): Promise<Failure> {
  await listening([INSTANCE_SOCKETS.http, INSTANCE_SOCKETS.control].map((file) => file.replace('.sock', '')))
  try {
    home.pinSockets()
    const { handlers } = await askGuest(home.controlSocket, INSTANCE_LIMITS.startTimeoutMs)
    await home.egressReady
    if (handlers.includes('fetch')) return undefined
  } catch (error) {
    return () => (error as Error).message
  }
  return () =>
    `${version.content.mainModule} has no fetch handler: write \`export default { fetch(request, env, ctx) { … } }\` in it`
}

function endOrTimeout({ blank, version, startTimeoutMs }: StartOptions): Promise<Failure> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      resolve(
        () =>
          `not ready after ${startTimeoutMs} ms: look for an endless loop or long work outside of the fetch handler`,
      )
    }, startTimeoutMs)
    void blank.process.exited.then((exit) => {
      clearTimeout(timer)
      resolve(() => {
        const errors = blank.home.logs.lastErrors()
        const memoryKills = blank.home.cgroup?.memoryKills() ?? 0
        const report = reportExit({
          exit,
          requested: undefined,
          memoryKills,
          errors,
          limits: version.content.limits,
        })
        return report.cause === 'crashed' && errors !== '' ? describeStartFailure(errors) : report.message
      })
    })
  })
}
