import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { IsolaError } from '../../sdk/model/errors.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { NodeStatus } from '../../sdk/model/node-status.ts'
import type { Head, WorkerVersion } from '../../sdk/model/function.ts'
import type { AsyncEvents } from '../async/async-events.ts'
import { absentAsyncEvents, openAsyncEvents } from '../async/open-async-events.ts'
import { openAccessKeys } from '../lambda-api/access-keys.ts'
import { createWranglerApi, isWranglerApiPath } from '../../wrangler-compat/api/api.ts'
import { ACCOUNT_ID } from '../../wrangler-compat/api/ports.ts'
import { openSecretBox } from '../registry/secret-box.ts'
import { createLambdaApi, isLambdaApiPath } from '../lambda-api/api.ts'
import { INNER_DOOR_SOCKET, type Invoker } from '../pool/inner-door.ts'
import { joinDrivers } from './driver-set.ts'
import { createInvoker, eventInvoke } from './invoke.ts'
import { openContainerHost } from './container-host.ts'
import { createIsolateDriver } from '../isolate/driver.ts'
import type { SandboxChoice } from '../isolate/sandbox.ts'
import { openEmbeddedBucket } from '../registry/embedded-bucket.ts'
import type { Bucket } from '../registry/bucket.ts'
import { openRegistry } from '../registry/registry-store.ts'
import type { Registry } from '../registry/registry.ts'
import { createControlApi } from '../control/api.ts'
import type { NodeBudget } from '../pool/node-events.ts'
import { openAccounting } from './node-accounting.ts'
import { AssetFiles } from './asset-files.ts'
import { ArrivalHistory } from './arrival-history.ts'
import { controlPorts } from './control-ports.ts'
import { listenForControl } from './control-server.ts'
import { openDataDirectory, type DataDirectory } from './data-directory.ts'
import { EgressHold } from './egress-hold.ts'
import { limitLogs, logBytesOf } from './log-quota.ts'
import { LogStore } from './log-store.ts'
import { ownAddresses, parseAddress, urlHost, type Address } from './node-address.ts'
import { nodeBudget } from './node-budget.ts'
import { killIfThere } from './process-link.ts'
import { Publisher } from './publisher.ts'
import { RouterHold } from './router-hold.ts'
import { dispatchOf, egressLimitsOf, originsOf, snapshotOf } from './snapshot.ts'
import { describeNode } from './status.ts'
import { Supervisor } from './supervisor.ts'
import { openTails } from './tail/open-tails.ts'
import { TAIL_PATH } from './tail/tail-hub.ts'

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
  /** What instances may use together. @default what the machine grants, less what the node needs itself */
  readonly memoryMib?: number | undefined
  readonly cpus?: number | undefined
  /** Unix socket of the container engine. @default DEFAULT_ENGINE_SOCKET */
  readonly engineSocket?: string | undefined
  onEvent(line: string): void
}

export interface RunningNode {
  readonly httpUrl: string
  readonly controlUrl: string
  readonly dataDirectory: string
  readonly token: string
  readonly sandbox: string
  readonly limits: string
  readonly budget: NodeBudget
  /** Instances taken over from an agent that died. */
  readonly adopted: number
  readonly stopped: Promise<void>
  /** Drains and stops everything. */
  stop(): Promise<void>
  /** Ends every process of the node at once. */
  kill(): void
}

const DEFAULT_ENGINE_SOCKET = '/var/run/docker.sock'
const COLLECT_EVERY_MS = 3_600_000
const COLLECT_GRACE_MS = 3_600_000

export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const http = parseAddress(options.http, '--http')
  const control = parseAddress(options.control, '--control')
  const budget = nodeBudget({ memoryMib: options.memoryMib, cpus: options.cpus })
  const data = openDataDirectory(options.dataDirectory)
  const bucket = openEmbeddedBucket({ directory: data.bucketPath })
  const registry = await openRegistry({
    bucket,
    now: () => Date.now(),
    newId: randomUUID,
  })
  const undo: (() => Promise<void> | void)[] = [() => registry.close()]
  try {
    return await startParts(options, { http, control, budget, data, bucket, registry, undo })
  } catch (error) {
    for (const step of undo.toReversed()) await step()
    throw error
  }
}

interface Parts {
  readonly http: Address
  readonly control: Address
  readonly budget: NodeBudget
  readonly data: DataDirectory
  readonly bucket: Bucket
  readonly registry: Registry
  /** What to take back if a later part does not start. */
  readonly undo: (() => Promise<void> | void)[]
}

async function startParts(options: NodeOptions, parts: Parts): Promise<RunningNode> {
  const { http, control, budget, data, bucket, registry, undo } = parts
  const { onEvent } = options
  // First of all: a port that is taken must not cost the instances that an earlier agent left.
  const server = await listenForControl(control)
  undo.push(() => server.close())
  const logs = new LogStore(data.logsPath, onEvent)
  const tails = openTails({
    runPath: data.runPath,
    instances: () => supervisor.instances,
    setTailed: (functionNames) => router.setTailed(functionNames),
    log: (line) => log(line),
  })
  undo.push(() => tails.end())
  let logLimitOf = logBytesOf(registry.head)
  const limitedLogs = limitLogs({
    limitBytesOf: (functionName) => logLimitOf(functionName),
    write: (line) => logs.append(tails.pass(line)),
  })
  const { log } = limitedLogs
  const accounting = await openAccounting({
    bucket,
    head: () => registry.head,
    status: () => status(),
    onEvent,
  })
  undo.push(() => accounting.close())

  const egress = new EgressHold({
    runPath: data.runPath,
    logsPath: data.logsPath,
    onEvent,
    onTraffic: (traffic) => accounting.onTraffic(traffic),
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
      limits: egressLimitsOf(head),
      dispatch: dispatchOf(head),
    })
  setRules(registry.head)
  const secrets = openSecretBox(join(data.path, 'fleet.key'))
  const isolates = await createIsolateDriver({
    openSecret: (secret) => secrets.open(secret),
    runDirectory: data.runPath,
    isolationName: data.name,
    egress,
    log,
    sandbox: options.sandbox,
    budget,
    loadModules: (version) => loadModules(registry, version),
  })
  const containers = await openContainerHost({
    data,
    engineSocket: options.engineSocket ?? DEFAULT_ENGINE_SOCKET,
    registry,
    budget,
    allowEgress: options.allowEgress,
    ownAddresses: ownAddresses(),
    openSecret: (secret) => secrets.open(secret),
    log,
    onEvent,
  })
  const driver = joinDrivers({ worker: isolates, container: containers.driver })
  // Instances taken over outlive an agent that cannot start, as they outlived the one before.
  let adopted = 0
  undo.push(() => containers.close())
  undo.push(() => (adopted > 0 ? undefined : driver.close()))
  const supervisor = new Supervisor({
    driver,
    budget,
    onEvent,
    onSample: (instances) => accounting.onSample(instances),
    onInstanceEnd: (end) => accounting.onInstanceEnd(end),
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
    onTailed: (requests, untold) => tails.onTailed(requests, untold),
    onMetrics: (metrics) => accounting.onRouter(metrics),
    onLoad: (instances, versions) => {
      egress.onLoad(instances)
      accounting.onLoad(instances, versions)
    },
    onEvent,
  })
  const history = new ArrivalHistory({
    file: join(data.path, 'arrivals.json'),
    planner: supervisor.planner,
    onEvent,
  })

  // Before the egress proxy is told of all sockets: those of instances taken over must be among them.
  adopted = await supervisor.start()
  await egress.link.start()
  undo.push(() => egress.link.kill())
  history.start()
  const assets = new AssetFiles({ directory: join(data.path, 'assets'), registry, onEvent })
  const publisher = new Publisher({
    assets,
    publish: (head) => router.publish(snapshotOf(head, options.baseDomain, assets)),
  })
  undo.push(() => publisher.close())
  const publish = (head: Head): Promise<void> => {
    setRules(head)
    logLimitOf = logBytesOf(head)
    supervisor.applyHead(head)
    tails.applyHead(head)
    return publisher.put(head)
  }
  await publish(registry.head)
  await router.start()
  undo.push(() => router.link.kill())
  registry.onChange((head) => void publish(head))

  const invoker = createInvoker({ socketPath: join(data.runPath, INNER_DOOR_SOCKET) })
  const events = await openEvents(options, { data, registry, invoker })
  undo.push(() => events.close())

  const httpUrlNow = (): string => `http://${urlHost(http.host)}:${router.httpPort}`
  const status = (): NodeStatus =>
    describeNode({
      dataDirectory: data.path,
      httpUrl: httpUrlNow(),
      controlUrl: server.url,
      baseDomain: options.baseDomain,
      generation: registry.head.generation,
      budget,
      driver,
      supervisor,
      routerPid: router.link.pid,
      egressPid: egress.link.pid,
      lambdaPid: containers.lambda.link.pid,
      asyncEvents: events,
    })
  const ports = controlPorts({
    registry,
    assets,
    baseDomain: options.baseDomain,
    supervisor,
    router,
    logs,
    status,
    usage: (query) => accounting.usage(query),
    metrics: () => accounting.metrics(),
    images: containers.images,
    invoker,
    asyncEvents: events,
    secrets,
    keys: await openAccessKeys(join(data.path, 'keys.json')),
  })
  const lambdaApi = createLambdaApi({
    ...ports,
    keys: ports.keys,
    events,
    invoke: (invocation) => invoker.invoke(invocation),
    resolveImage: (reference) => containers.resolveImage(reference),
  })
  const wranglerApi = createWranglerApi({
    ...ports,
    accountId: ACCOUNT_ID,
    token: data.token,
    secrets,
    tails,
  })
  server.upgradeBelow(TAIL_PATH, (request, socket, head) => tails.upgrade(request, socket, head))
  const controlApi = createControlApi(ports, { token: data.token })
  server.serve({
    fetch: (request) => {
      const { pathname } = new URL(request.url)
      if (isWranglerApiPath(pathname)) return wranglerApi(request)
      return isLambdaApiPath(pathname) ? lambdaApi(request) : controlApi.fetch(request)
    },
  })
  const httpUrl = httpUrlNow()
  data.writeNodeFile({ pid: process.pid, httpUrl, controlUrl: server.url })
  const collector = setInterval(() => {
    registry
      .collect({ graceMs: COLLECT_GRACE_MS })
      .then(() => Promise.all([containers.collect(), assets.collect(registry.head)]))
      .catch((error: unknown) => onEvent(`collection failed: ${String(error)}`))
  }, COLLECT_EVERY_MS)

  const { promise: stopped, resolve: onStopped } = Promise.withResolvers<void>()
  let stopping: Promise<void> | undefined
  const stop = async (): Promise<void> => {
    clearInterval(collector)
    tails.end()
    publisher.close()
    await server.close()
    await events.close()
    invoker.close()
    await history.stop()
    await router.stop(INSTANCE_LIMITS.drainTimeoutMs)
    supervisor.onRouterLost()
    await supervisor.close(INSTANCE_LIMITS.waitUntilMsMax)
    containers.close()
    await driver.close()
    await containers.lambda.shutdown(INSTANCE_LIMITS.stopGraceMs)
    await egress.link.shutdown({ type: 'shutdown' }, INSTANCE_LIMITS.stopGraceMs)
    await accounting.close()
    limitedLogs.close()
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
    budget,
    adopted,
    stopped,
    stop: () => (stopping ??= stop()),
    kill: () => {
      router.link.kill()
      for (const pid of driver.pids()) killIfThere(pid)
      containers.lambda.link.kill()
      egress.link.kill()
    },
  }
}

/** A node whose events cannot be kept serves all the same, and says so to who sends one. */
async function openEvents(
  { onEvent }: NodeOptions,
  parts: { readonly data: DataDirectory; readonly registry: Registry; readonly invoker: Invoker },
): Promise<AsyncEvents> {
  const { data, registry, invoker } = parts
  try {
    return await openAsyncEvents({
      directory: data.path,
      invoke: eventInvoke(invoker),
      settingsOf: (functionName) => {
        const record = registry.head.functions[functionName]
        return record && (record.asyncInvoke ?? {})
      },
      onEvent,
    })
  } catch (error) {
    onEvent(`events for later cannot be kept: ${(error as Error).message}`)
    return absentAsyncEvents(error)
  }
}

async function loadModules(
  registry: Registry,
  version: WorkerVersion,
): Promise<ReadonlyMap<string, Uint8Array>> {
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
