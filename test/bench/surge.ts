/**
 * A step to 50 times the load, held for 30 s, and back: what fails, how long until there are enough instances, how
 * long until there are none. The function waits rather than computes, so that the machine is not what is measured.
 */
import { startBenchNode, type BenchNode } from './bench-node.ts'
import { openLoopProcess } from './load-process.ts'
import type { OpenLoopResult } from './open-loop.ts'
import { formatNumber, type BenchOptions, type Report } from './report.ts'

const NAME = 'surge'
const BASE_RPS = 16
const STEP = 50
const WORK_MS = 50
const CONCURRENCY = 10
const IDLE_MS = 5_000
const SOURCE = `export default { async fetch() { await scheduler.wait(${WORK_MS}); return new Response('done') } }`

interface Present {
  readonly atMs: number
  readonly instances: number
}

export async function run(options: BenchOptions): Promise<Report> {
  const seconds = options.quick ? 3 : 30
  const bench = await startBenchNode()
  try {
    await bench.deploy(NAME, SOURCE)
    await bench.client.setPolicy(NAME, { max: 20, concurrency: CONCURRENCY, idleMs: IDLE_MS })
    options.progress('the base load')
    const base = await load(bench, BASE_RPS, options.quick ? 2 : 10)
    options.progress(`${STEP} times as much`)
    const watch = watchInstances(bench)
    const surge = await load(bench, BASE_RPS * STEP, seconds)
    const atEndMs = performance.now()
    options.progress('back to nothing')
    await bench.waitFor('no instance', (processes) => !processes.some(({ role }) => role === 'instance'))
    const zeroMs = performance.now() - atEndMs
    const seen = watch.stop()
    const needed = Math.ceil((BASE_RPS * STEP * WORK_MS) / 1_000 / CONCURRENCY)
    const most = Math.max(...seen.map(({ instances }) => instances))
    const enough = seen.find(({ instances }) => instances >= needed)
    for (const failure of [...base.failureSamples, ...surge.failureSamples])
      options.progress(`FAILED: ${failure}`)
    return {
      conditions: [
        ...bench.conditions,
        `a function that waits ${WORK_MS} ms, ${CONCURRENCY} requests an instance, max 20, idle ${IDLE_MS / 1_000} s; open loop: ${BASE_RPS} requests/s, then ${BASE_RPS * STEP} for ${seconds} s, then none`,
        `enough: ${needed} instances, what ${BASE_RPS * STEP} requests/s of ${WORK_MS} ms fill; looked at every 20 ms through the control API`,
      ],
      tables: [
        {
          title: 'Requests',
          columns: ['', 'requests', 'failed', 'p50 ms', 'p99 ms', 'max ms'],
          rows: [row('base', base), row(`${STEP} ×`, surge)],
        },
        {
          title: 'Instances',
          columns: ['most', 'enough after ms', 'none after ms'],
          rows: [
            [String(most), enough === undefined ? 'never' : formatNumber(enough.atMs), formatNumber(zeroMs)],
          ],
        },
      ],
      marks: [
        {
          promise: 'failed requests in the surge',
          measured: base.failures + surge.failures,
          limit: 0,
          unit: 'requests',
        },
      ],
    }
  } finally {
    await bench.stop()
  }
}

function load(bench: BenchNode, requestsPerSecond: number, seconds: number): Promise<OpenLoopResult> {
  return openLoopProcess({
    where: bench.where,
    host: `${NAME}.localhost`,
    path: '/',
    requestsPerSecond,
    seconds,
    connections: 100,
  })
}

function watchInstances(bench: BenchNode): { stop(): readonly Present[] } {
  const beganMs = performance.now()
  const seen: Present[] = []
  const stopping = new AbortController()
  const look = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const { processes } = await bench.client.status()
      const instances = processes.filter(
        ({ role, state }) => role === 'instance' && state === 'running',
      ).length
      seen.push({ atMs: performance.now() - beganMs, instances })
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  // A look that fails after the end is of no interest; before it, there is nothing to report from.
  look().catch(() => stopping.abort())
  return {
    stop() {
      stopping.abort()
      return seen
    },
  }
}

function row(name: string, result: OpenLoopResult): string[] {
  return [
    name,
    formatNumber(result.requests),
    String(result.failures),
    ...[result.p50Us, result.p99Us, result.maxUs].map((us) => formatNumber(us / 1_000)),
  ]
}
