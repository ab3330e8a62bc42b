/**
 * The router as a process: the public side, the pools and the agent's link, tied together, with one clock for all.
 *
 * It outlives the agent: on whatever instances it has, it goes on with the last snapshot. It ends when the agent says
 * so or on SIGTERM; when no agent ever came; and when none can come any more, because its control socket has vanished
 * with the data directory or belongs to another router.
 */
import { randomUUID } from 'node:crypto'
import { dirname, join } from 'node:path'
import { INSTANCE_LIMITS, type RouterLimits } from '../sdk/model/limits.ts'
import type { Snapshot } from '../sdk/model/snapshot.ts'
import type { PooledInstance } from '../runtime/pool/pool.ts'
import { INNER_DOOR_SOCKET } from '../runtime/pool/inner-door.ts'
import type { RouterToAgent } from '../runtime/pool/wire.ts'
import { AgentLink } from './agent-link.ts'
import type { TrustedProxies } from './client.ts'
import { InstanceLinks } from './forward/instance-link.ts'
import { Metrics } from './metrics.ts'
import { Pools } from './pools.ts'
import { RequestLog } from './request-log.ts'
import { Router } from './server.ts'

export interface RouterProcessOptions {
  readonly controlSocketPath: string
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  /** Lets a second router listen on the same port, so that one can follow the other without a gap. */
  readonly reusePort: boolean
  readonly proxies: TrustedProxies
  readonly limits: RouterLimits
  /** For the operator: what went wrong that concerns no single request. */
  warn(message: string): void
}

const TICK_MS = 100
const METRICS_MS = 1_000
const ORPHAN_CHECK_MS = 5_000

/** Resolves when the router has drained and everything is closed. Throws where it cannot listen. */
export async function runRouter(options: RouterProcessOptions): Promise<void> {
  const { limits, warn } = options
  const links = new InstanceLinks(limits)
  const log = new RequestLog({ linesMax: limits.logLinesBufferedMax, pathCharsMax: limits.logPathCharsMax })
  const send = (message: RouterToAgent): boolean => agent.send(message)
  const metrics = new Metrics({ epoch: randomUUID(), retiredKeptMs: limits.retiredMeterKeptMs })
  const closeIdle = (instance: PooledInstance): void => links.find(instance)?.closeIdle()
  const { waitingRequestsMax, startDelayKeptMs } = limits
  const pools = new Pools({
    send,
    metrics,
    waitingRequestsMax,
    startDelayKeptMs,
    warn,
    onDrained: closeIdle,
    onPause: closeIdle,
  })
  const router = new Router({
    pools,
    metrics,
    links,
    proxies: options.proxies,
    limits,
    onRequest: (record, headText) => log.add(record, headText),
    onUnreachable: (instance, message) => {
      pools.sideline(instance.id)
      send({ type: 'instance-unreachable', id: instance.id, message })
    },
  })
  let httpPort = 0
  let end: () => void = () => undefined
  const ended = new Promise<void>((resolve) => (end = resolve))
  let drained: Promise<void> | undefined
  const shutDown = (timeoutMs: number): void => {
    drained ??= router.drain(timeoutMs).then(end)
  }

  const applySnapshot = (snapshot: Snapshot): void => {
    const { generation } = snapshot
    try {
      if (router.apply(snapshot)) send({ type: 'applied', generation })
      else warn(`snapshot ${generation} is older than ${router.generation}, which is in force: not taken`)
    } catch (error) {
      // What is in force goes on: a node with old routes is better than a node without any.
      warn(`snapshot ${generation} cannot be taken, ${router.generation} stays in force: ${String(error)}`)
    }
  }

  const agent = new AgentLink({
    socketPath: options.controlSocketPath,
    greeting: () => ({
      type: 'hello',
      pid: process.pid,
      httpHost: options.host,
      httpPort,
      generation: router.generation,
    }),
    onConnect: () => {
      pools.forgetReports()
      metrics.forgetReports()
    },
    onMessage: (message) => {
      if (message.type === 'shutdown') shutDown(message.timeoutMs)
      else if (message.type === 'snapshot') applySnapshot(message.snapshot)
      else if (message.type === 'tails') pools.setTailed(message.functionNames)
      else pools.onMessage(message)
    },
  })
  httpPort = await router.listen(options)
  await router.listenInside(join(dirname(options.controlSocketPath), INNER_DOOR_SOCKET))
  await agent.listen()

  const flushLog = (): void => {
    if (agent.connected) log.flush((batch) => send({ type: 'log', ...batch }))
  }
  const tick = setInterval(() => {
    pools.tick(performance.now())
    flushLog()
  }, TICK_MS)
  const reportMetrics = (): void => {
    if (!agent.connected) return
    const now = { nowMs: performance.now(), connections: router.connections }
    metrics.report(now, (metrics) => send({ type: 'metrics', metrics }))
  }
  const metricsTimer = setInterval(reportMetrics, METRICS_MS)
  let sweepTimer: NodeJS.Timeout
  const sweepLater = (): void => {
    sweepTimer = setTimeout(() => {
      router.sweep(performance.now())
      sweepLater()
    }, router.sweepMs)
  }
  sweepLater()
  const startedAtMs = performance.now()
  const orphanCheck = setInterval(
    () => {
      const neverMet = !agent.everConnected && performance.now() - startedAtMs > limits.agentWaitMs
      if (neverMet) warn(`no agent has connected within ${limits.agentWaitMs} ms: ending`)
      else if (agent.isUnreachable())
        warn(`no agent can connect any more, ${options.controlSocketPath} is gone: ending`)
      else return
      shutDown(INSTANCE_LIMITS.drainTimeoutMs)
    },
    Math.min(ORPHAN_CHECK_MS, limits.agentWaitMs),
  )
  // The terminal sends Ctrl-C to the whole group; the agent decides what it means.
  process.on('SIGINT', () => undefined)
  process.on('SIGTERM', () => shutDown(INSTANCE_LIMITS.drainTimeoutMs))

  await ended
  clearInterval(tick)
  clearInterval(metricsTimer)
  clearTimeout(sweepTimer!)
  clearInterval(orphanCheck)
  pools.tick(performance.now())
  flushLog()
  reportMetrics()
  send({ type: 'drained' })
  await agent.close()
}
