/**
 * What the router costs, beside nginx and Caddy in front of the same workerd. CPU is the figure that repeats: it does
 * not depend on how the load generator, the proxy and workerd share the cores. Targets take turns within each
 * repetition, so that what else the machine does meets all of them.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startRouter, type DrivenRouter } from './driven-router.ts'
import { openLoopProcess, webSocketProcess } from './load-process.ts'
import { startOrigin } from './origin.ts'
import { startCaddy, startNginx, type Target } from './peers.ts'
import { cpuMsOf, memoryOf } from './process-usage.ts'
import { formatNumber, type BenchOptions, type Mark, type Report, type Table } from './report.ts'
import { requireProgram } from './spawned-process.ts'
import { formatMedian, median } from './statistics.ts'
import { runWrk } from './wrk.ts'

const HOST = 'bench.localhost'
const CONNECTIONS = 32
const OPEN_LOOP_RPS = 3_000

const LOADS = [
  { name: 'small GET', path: '/' },
  { name: '16 KB body', path: '/16k' },
  { name: '10 MB body', path: '/10m' },
  { name: 'POST 1 KB', path: '/post', postBytes: 1_024 },
] as const

interface Setting {
  readonly directory: string
  readonly direct: Target
  readonly router: DrivenRouter
  readonly proxies: readonly Target[]
  readonly seconds: number
  readonly repetitions: number
  readonly progress: BenchOptions['progress']
}

export async function run(options: BenchOptions): Promise<Report> {
  requireProgram('wrk', 'wrk')
  requireProgram('nginx', 'nginx-light')
  requireProgram('caddy', 'caddy')
  const directory = mkdtempSync(join(tmpdir(), 'isola-bench-router-'))
  const targets: Target[] = []
  try {
    const origin = await startOrigin(directory)
    const direct: Target = {
      name: 'workerd direct',
      port: origin.port,
      pid: origin.process.pid,
      process: origin.process,
    }
    targets.push(direct)
    const where = { directory, socketPath: origin.socketPath }
    const router = await startRouter(where)
    targets.push(router)
    targets.push(await startNginx(where))
    targets.push(await startCaddy(where))
    const setting: Setting = {
      directory,
      direct,
      router,
      proxies: targets.slice(1),
      seconds: options.quick ? 1 : 4,
      repetitions: options.quick ? 1 : 3,
      progress: options.progress,
    }
    return await measure(setting)
  } finally {
    for (const target of targets.toReversed()) await target.process.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

async function measure(setting: Setting): Promise<Report> {
  await warmUp(setting)
  const tables: Table[] = []
  const marks: Mark[] = []
  for (const load of LOADS) {
    const samples = await closedLoop(setting, load)
    tables.push(closedLoopTable(load.name, samples))
    if (load.name === 'small GET') marks.push(...cpuMarks(samples))
  }
  tables.push(await webSockets(setting))
  const latency = await openLoop(setting)
  tables.push(latency.table)
  marks.push(latency.mark)
  tables.push(memoryTable(setting))
  const { lines, dropped } = setting.router.logged()
  return {
    conditions: [
      'one workerd with one function behind every target, reached over the same unix socket; "direct" is the same process on TCP',
      `wrk with 1 thread and ${CONNECTIONS} connections; ${setting.repetitions} × ${setting.seconds} s a cell, targets taking turns; medians (lowest–highest)`,
      'nginx: 1 worker, keep-alive upstream, access log as Debian has it; Caddy: access log to a file, keep-alive upstream',
      `isola's router: routing, limits, load reports and logging on (${lines} log lines read by the bench, ${dropped} dropped)`,
    ],
    tables,
    marks,
  }
}

async function warmUp(setting: Setting): Promise<void> {
  setting.progress('warming up')
  for (const target of [setting.direct, ...setting.proxies]) {
    for (const load of LOADS) await closedLoopOnce(setting, target, load, 1)
    // JavaScript is compiled over the first 100,000 requests or so; nginx is as fast at once.
    await closedLoopOnce(setting, target, LOADS[0], 2 * setting.seconds)
  }
}

interface Sample {
  readonly perSecond: number
  readonly cpuUs: number
  readonly p50Ms: number
  readonly p99Ms: number
}

type Samples = ReadonlyMap<Target, Sample[]>
type Load = (typeof LOADS)[number]

async function closedLoop(setting: Setting, load: Load): Promise<Samples> {
  return inTurns(setting, [setting.direct, ...setting.proxies], async (target) => {
    setting.progress(`${load.name}: ${target.name}`)
    return closedLoopOnce(setting, target, load, setting.seconds)
  })
}

async function closedLoopOnce(
  setting: Setting,
  target: Target,
  load: Load,
  seconds: number,
): Promise<Sample> {
  const cpuBefore = cpuMsOf(target.pid)
  const result = await runWrk({
    url: `http://127.0.0.1:${target.port}${load.path}`,
    host: HOST,
    connections: CONNECTIONS,
    seconds,
    directory: setting.directory,
    ...('postBytes' in load ? { postBytes: load.postBytes } : {}),
  })
  if (result.badAnswers > 0 || result.requests === 0) {
    throw new Error(
      `${load.name} through ${target.name}: ${JSON.stringify(result)}; it said:\n${target.process.output()}`,
    )
  }
  const cpuUs = ((cpuMsOf(target.pid) - cpuBefore) * 1_000) / result.requests
  return { perSecond: result.requestsPerSecond, cpuUs, p50Ms: result.p50Ms, p99Ms: result.p99Ms }
}

async function inTurns<Value>(
  setting: Setting,
  targets: readonly Target[],
  sample: (target: Target) => Promise<Value>,
): Promise<ReadonlyMap<Target, Value[]>> {
  const samples = new Map<Target, Value[]>(targets.map((target) => [target, []]))
  for (let repetition = 0; repetition < setting.repetitions; repetition++) {
    for (const target of targets) samples.get(target)!.push(await sample(target))
  }
  return samples
}

function closedLoopTable(title: string, samples: Samples): Table {
  const nginx = namedSamples(samples, 'nginx')
  const direct = namedSamples(samples, 'workerd direct')
  return {
    title,
    columns: ['target', 'CPU µs/request', '× nginx', 'requests/s', 'of direct', 'p50 ms', 'p99 ms'],
    rows: [...samples].map(([{ name }, list]) => {
      const cpu = list.map(({ cpuUs }) => cpuUs)
      const rate = list.map(({ perSecond }) => perSecond)
      return [
        name,
        formatMedian(cpu),
        name === 'workerd direct' ? '' : formatNumber(median(cpu) / median(nginx.map(({ cpuUs }) => cpuUs))),
        formatMedian(rate),
        `${Math.round((100 * median(rate)) / median(direct.map(({ perSecond }) => perSecond)))} %`,
        formatMedian(list.map(({ p50Ms }) => p50Ms)),
        formatMedian(list.map(({ p99Ms }) => p99Ms)),
      ]
    }),
  }
}

function namedSamples<Value>(samples: ReadonlyMap<Target, Value[]>, name: string): Value[] {
  return [...samples].find(([target]) => target.name === name)?.[1] ?? []
}

function cpuMarks(samples: Samples): Mark[] {
  const cpu = (name: string): number => median(namedSamples(samples, name).map(({ cpuUs }) => cpuUs))
  return [
    {
      promise: 'router CPU for small GETs, of nginx',
      measured: cpu('isola') / cpu('nginx'),
      limit: 1.5,
      unit: '×',
    },
    {
      promise: 'router CPU for small GETs, of Caddy',
      measured: cpu('isola') / cpu('Caddy'),
      limit: 0.5,
      unit: '×',
    },
  ]
}

async function webSockets(setting: Setting): Promise<Table> {
  const samples = await inTurns(setting, [setting.direct, ...setting.proxies], async (target) => {
    setting.progress(`WebSocket messages: ${target.name}`)
    const cpuBefore = cpuMsOf(target.pid)
    const { messages, messagesPerSecond } = await webSocketProcess({
      where: { host: '127.0.0.1', port: target.port },
      host: HOST,
      path: '/echo',
      connections: CONNECTIONS,
      seconds: setting.seconds,
      messageBytes: 64,
    })
    return { messagesPerSecond, cpuUs: ((cpuMsOf(target.pid) - cpuBefore) * 1_000) / messages }
  })
  const nginx = median(namedSamples(samples, 'nginx').map(({ cpuUs }) => cpuUs))
  return {
    title: `WebSocket echo, 64 bytes, ${CONNECTIONS} connections (a message there and back counts once)`,
    columns: ['target', 'CPU µs/message', '× nginx', 'messages/s'],
    rows: [...samples].map(([{ name }, list]) => {
      const cpu = list.map(({ cpuUs }) => cpuUs)
      const ratio = name === 'workerd direct' ? '' : formatNumber(median(cpu) / nginx)
      return [
        name,
        formatMedian(cpu),
        ratio,
        formatMedian(list.map(({ messagesPerSecond }) => messagesPerSecond)),
      ]
    }),
  }
}

async function openLoop(setting: Setting): Promise<{ table: Table; mark: Mark }> {
  const samples = await inTurns(setting, [setting.direct, ...setting.proxies], async (target) => {
    setting.progress(`open loop: ${target.name}`)
    const cpuBefore = cpuMsOf(target.pid)
    const result = await openLoopProcess({
      where: { host: '127.0.0.1', port: target.port },
      host: HOST,
      path: '/',
      requestsPerSecond: OPEN_LOOP_RPS,
      seconds: setting.seconds,
      connections: CONNECTIONS,
    })
    if (result.failures > 0)
      throw new Error(`open loop through ${target.name}: ${result.failureSamples.join('\n')}`)
    return { ...result, cpuUs: ((cpuMsOf(target.pid) - cpuBefore) * 1_000) / result.requests }
  })
  // Compared within a repetition: the machine's mood is then the same for both.
  const direct = namedSamples(samples, 'workerd direct')
  const added = (list: readonly { p50Us: number }[]): number[] =>
    list.map(({ p50Us }, index) => p50Us - (direct[index]?.p50Us ?? Number.NaN))
  return {
    table: {
      title: `Open loop, ${formatNumber(OPEN_LOOP_RPS)} requests/s, small GET, latency from when each was due`,
      columns: ['target', 'p50 µs', 'added p50 µs', 'p99 µs', 'p99.9 µs', 'CPU µs/request'],
      rows: [...samples].map(([{ name }, list]) => [
        name,
        formatMedian(list.map(({ p50Us }) => p50Us)),
        name === 'workerd direct' ? '' : formatMedian(added(list)),
        formatMedian(list.map(({ p99Us }) => p99Us)),
        formatMedian(list.map(({ p999Us }) => p999Us)),
        formatMedian(list.map(({ cpuUs }) => cpuUs)),
      ]),
    },
    mark: {
      promise: 'added p50, open loop',
      measured: median(added(namedSamples(samples, 'isola'))),
      limit: 100,
      unit: 'µs',
    },
  }
}

function memoryTable(setting: Setting): Table {
  return {
    title: 'Memory after all of this',
    columns: ['target', 'RSS MiB', 'private MiB'],
    rows: setting.proxies.map(({ name, pid }) => {
      const { rssMib, privateMib } = memoryOf(pid)
      return [name, formatNumber(rssMib), formatNumber(privateMib)]
    }),
  }
}
