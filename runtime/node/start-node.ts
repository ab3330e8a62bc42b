import { randomUUID } from 'node:crypto'
import { networkInterfaces } from 'node:os'
import { serve } from '@hono/node-server'
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { Head, Version } from '../../sdk/model/function.ts'
import type { InstanceDriver, LogSink } from '../pool/driver.ts'
import { createIsolateDriver } from '../isolate/driver.ts'
import type { SandboxChoice } from '../isolate/sandbox.ts'
import { openEmbeddedBucket } from '../registry/embedded-bucket.ts'
import { openRegistry } from '../registry/registry-store.ts'
import type { Registry } from '../registry/registry.ts'
import { createControlApi } from '../control/api.ts'
import type { ControlPorts } from '../control/ports.ts'
import { openDataDirectory, type DataDirectory } from './data-directory.ts'
import { EgressHold } from './egress-hold.ts'
import { LogStore } from './log-store.ts'
import { killIfThere } from './process-link.ts'
import { RouterHold } from './router-hold.ts'
import { originsOf, snapshotOf } from './snapshot.ts'
import { describeNode } from './status.ts'
import { Supervisor } from './supervisor.ts'

/**
 * One node. The agent (this process) records, decides and supervises; the router and the egress proxy are processes of
 * their own that outlive it. Everything is wired here, in the order in which it must come up, and goes down in
 * reverse: first no new requests, then the instances, then what they needed.
 */
export interface NodeOptions {
  readonly dataDirectory: string
  /** `host:port` the router listens on; port 0 takes a free one. */
  readonly http: string
  readonly control: string
  readonly baseDomain: string
  /** CIDR blocks that functions may reach although they are private. */
  readonly allowEgress: readonly string[]
  readonly sandbox: SandboxChoice
  /** Instances started ahead and waiting for a function. @default 2 */
  readonly blanks?: number
  onEvent(line: string): void
}

export interface RunningNode {
  readonly httpUrl: string
  readonly controlUrl: string
  readonly dataDirectory: string
  readonly token: string
  readonly sandbox: string
  readonly limits: string
  /** Instances taken over from an agent that died. */
  readonly adopted: number
  readonly stopped: Promise<void>
  /** Drains and stops everything. */
  stop(): Promise<void>
  /** Ends every process of the node at once. */
  kill(): void
}

const COLLECT_EVERY_MS = 3_600_000
const COLLECT_GRACE_MS = 3_600_000
const BLANKS_DEFAULT = 2

export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const http = parseAddress(options.http, '--http')
  const control = parseAddress(options.control, '--control')
  const data = openDataDirectory(options.dataDirectory)
  const registry = await openRegistry({
    bucket: openEmbeddedBucket({ directory: data.bucketPath }),
    now: () => Date.now(),
    newId: randomUUID,
  })
  const undo: (() => Promise<void> | void)[] = [() => registry.close()]
  try {
    return await startParts(options, { http, control, data, registry, undo })
  } catch (error) {
    for (const step of undo.toReversed()) await step()
    throw error
  }
}

interface Parts {
  readonly http: Address
  readonly control: Address
  readonly data: DataDirectory
  readonly registry: Registry
  /** What to take back if a later part does not start. */
  readonly undo: (() => Promise<void> | void)[]
}

async function startParts(options: NodeOptions, parts: Parts): Promise<RunningNode> {
  const { http, control, data, registry, undo } = parts
  const { onEvent } = options
  // First of all: a port that is taken must not cost the instances that an earlier agent left.
  const server = await listen(control)
  undo.push(() => server.close())
  const logs = new LogStore(data.logsPath, onEvent)
  const log: LogSink = (line) => logs.append(line)

  const egress = new EgressHold({
    runPath: data.runPath,
    logsPath: data.logsPath,
    onEvent,
    onLog: ({ id, functionName, message }) => {
      const versionId = supervisor.instances.find((instance) => instance.id === id)?.versionId ?? ''
      const time = new Date().toISOString()
      log({ time, source: 'instance', level: 'warn', functionName, versionId, instanceId: id, message })
    },
  })
  const setRules = (head: Head): void =>
    egress.setRules({
      allowedCidrs: options.allowEgress,
      ownAddresses: ownAddresses(),
      origins: originsOf(head),
    })
  setRules(registry.head)
  const driver: InstanceDriver = await createIsolateDriver({
    runDirectory: data.runPath,
    isolationName: data.name,
    egress,
    log,
    sandbox: options.sandbox,
    loadModules: (version) => loadModules(registry, version),
  })
  // Instances taken over outlive an agent that cannot start, as they outlived the one before.
  let adopted = 0
  undo.push(() => (adopted > 0 ? undefined : driver.close()))
  const supervisor = new Supervisor({
    driver,
    onEvent,
    tellRouter: (message) => router.link.send(message),
    getVersion: async (functionName, versionId) => {
      const version = await registry.getVersion(functionName, versionId)
      if (version === undefined) throw versionMissing(functionName, versionId)
      return version
    },
  })
  const router = new RouterHold({
    runPath: data.runPath,
    logsPath: data.logsPath,
    host: http.host,
    port: http.port,
    supervisor,
    onLog: log,
    onEvent,
  })

  // Before the egress proxy is told of all sockets: those of instances taken over must be among them.
  adopted = await supervisor.start()
  await egress.link.start()
  undo.push(() => egress.link.kill())
  driver.keepBlanks(options.blanks ?? BLANKS_DEFAULT)
  const publish = (head: Head): void => {
    setRules(head)
    supervisor.applyHead(head)
    router.publish(snapshotOf(head, options.baseDomain))
  }
  publish(registry.head)
  await router.start()
  undo.push(() => router.link.kill())
  registry.onChange(publish)

  server.serve(
    createControlApi(
      controlPorts({
        options,
        registry,
        supervisor,
        driver,
        router,
        egress,
        logs,
        data,
        controlUrl: server.url,
      }),
      { token: data.token },
    ),
  )
  const httpUrl = `http://${urlHost(http.host)}:${router.httpPort}`
  data.writeNodeFile({ pid: process.pid, httpUrl, controlUrl: server.url })
  const collector = setInterval(() => {
    registry
      .collect({ graceMs: COLLECT_GRACE_MS })
      .catch((error: unknown) => onEvent(`collection failed: ${String(error)}`))
  }, COLLECT_EVERY_MS)

  const { promise: stopped, resolve: onStopped } = Promise.withResolvers<void>()
  let stopping: Promise<void> | undefined
  const stop = async (): Promise<void> => {
    clearInterval(collector)
    await server.close()
    await router.stop(INSTANCE_LIMITS.drainTimeoutMs)
    supervisor.onRouterLost()
    await supervisor.close(INSTANCE_LIMITS.waitUntilMsMax)
    await driver.close()
    await egress.link.shutdown({ type: 'shutdown' }, INSTANCE_LIMITS.stopGraceMs)
    await logs.flush()
    registry.close()
    data.removeNodeFile()
    data.removeRunPath()
    onStopped()
  }
  return {
    httpUrl,
    controlUrl: server.url,
    dataDirectory: data.path,
    token: data.token,
    sandbox: driver.sandbox,
    limits: driver.limits,
    adopted,
    stopped,
    stop: () => (stopping ??= stop()),
    kill: () => {
      router.link.kill()
      for (const pid of driver.pids()) killIfThere(pid)
      egress.link.kill()
    },
  }
}

interface ControlParts {
  readonly options: NodeOptions
  readonly registry: Registry
  readonly supervisor: Supervisor
  readonly driver: InstanceDriver
  readonly router: RouterHold
  readonly egress: EgressHold
  readonly logs: LogStore
  readonly data: DataDirectory
  readonly controlUrl: string
}

function controlPorts(parts: ControlParts): ControlPorts {
  const { options, registry, supervisor, driver, router, egress, logs, data } = parts
  return {
    registry,
    baseDomain: options.baseDomain,
    httpPort: () => router.httpPort,
    trialStart: async (version) => {
      const beganMs = performance.now()
      try {
        await supervisor.trialStart(version)
      } catch (error) {
        // Only these are about the version; a full node or a damaged blob is not the fault of who deploys.
        if (!isIsolaError(error) || !['start_failed', 'version_refused'].includes(error.code)) throw error
        throw new IsolaError('version_refused', `the version does not start: ${error.message}`, {
          cause: error,
        })
      }
      return { trialMs: performance.now() - beganMs }
    },
    whenLive: (generation) => router.whenLive(generation),
    logs,
    status: () =>
      describeNode({
        dataDirectory: data.path,
        httpUrl: `http://${urlHost(parseAddress(options.http, '--http').host)}:${router.httpPort}`,
        controlUrl: parts.controlUrl,
        baseDomain: options.baseDomain,
        generation: registry.head.generation,
        driver,
        supervisor,
        routerPid: router.link.pid,
        egressPid: egress.link.pid,
      }),
  }
}

async function loadModules(registry: Registry, version: Version): Promise<ReadonlyMap<string, Uint8Array>> {
  const bodies = await Promise.all(
    version.content.modules.map(async ({ sha256 }) => [sha256, await registry.getBlob(sha256)] as const),
  )
  return new Map(bodies)
}

function versionMissing(functionName: string, versionId: string): IsolaError {
  return new IsolaError(
    'version_not_found',
    `version ${versionId} of function "${functionName}" is not in the registry: deploy it again`,
  )
}

interface App {
  fetch(request: Request): Response | Promise<Response>
}

/** Listens at once and answers 503 until there is an app to serve. */
async function listen(
  address: Address,
): Promise<{ url: string; serve(app: App): void; close(): Promise<void> }> {
  let app: App = {
    fetch: () =>
      Response.json(
        { error: { code: 'node_unreachable', message: 'the node is starting: try again', requestId: '' } },
        { status: 503, headers: { 'retry-after': '1' } },
      ),
  }
  return new Promise((resolve, reject) => {
    const server = serve(
      { fetch: (request) => app.fetch(request), hostname: address.host, port: address.port },
      ({ port }) => {
        resolve({
          url: `http://${urlHost(address.host)}:${port}`,
          serve: (next) => {
            app = next
          },
          close: () =>
            new Promise((done) => {
              server.close(() => done())
              if ('closeAllConnections' in server) server.closeAllConnections()
            }),
        })
      },
    )
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new IsolaError(
          'address_in_use',
          `the control API cannot listen on ${address.host}:${address.port}: ${error.message}. Choose another with --control`,
          { cause: error },
        ),
      ),
    )
  })
}

interface Address {
  readonly host: string
  readonly port: number
}

function parseAddress(text: string, flag: string): Address {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) {
    throw new IsolaError(
      'invalid_argument',
      `${flag} ${JSON.stringify(text)} is no address: write HOST:PORT, e.g. 127.0.0.1:8080`,
    )
  }
  return { host: match[1] ?? match[2] ?? '', port }
}

/** An address that a client on this machine can use: the wildcard addresses are not. */
function urlHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  if (host === '::') return '[::1]'
  return host.includes(':') ? `[${host}]` : host
}

function ownAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap(
    (addresses) => addresses?.map(({ address }) => address) ?? [],
  )
}
