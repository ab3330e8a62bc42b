/** `npm run bench -- <name> [--quick] [--json]`: runs one bench and prints what it found. */
import { parseArgs } from 'node:util'
import { describeMachine } from './machine.ts'
import { formatReport, isKept, type BenchOptions, type Report } from './report.ts'

interface Bench {
  readonly summary: string
  /** Imported when asked for: one bench must not fail because another's needs are not met. */
  load(): Promise<{ run(options: BenchOptions): Promise<Report | void> }>
}

const BENCHES: Readonly<Record<string, Bench>> = {
  router: {
    summary:
      'CPU, throughput and added latency of the router beside nginx and Caddy (needs nginx, caddy, wrk)',
    load: () => import('./router.ts'),
  },
  assets: {
    summary: 'CPU and throughput of static files beside nginx serving the same directory (needs nginx, wrk)',
    load: () => import('./assets.ts'),
  },
  'asset-upload': {
    summary: 'upload of 1,000 static files through wrangler’s API: time, and memory of the agent',
    load: () => import('./asset-upload.ts'),
  },
  'cold-start': {
    summary: 'first response of a function with no instance, beside spawning plain workerd',
    load: () => import('./cold-start.ts'),
  },
  container: {
    summary:
      'containers by every path of a start, warm and crashing, beside "docker run" and an isolate (needs docker)',
    load: () => import('./container.ts'),
  },
  memory: {
    summary: 'memory of warm instances after load, and of the node around them (needs wrk)',
    load: () => import('./memory.ts'),
  },
  deploy: {
    summary: 'time from deploy to live, and requests that fail during 50 deploys under load (needs wrk)',
    load: () => import('./deploy.ts'),
  },
  'wrangler-deploy': {
    summary:
      'wrangler deploy of hello: time inside our API, beside a stub that answers at once (installs wrangler)',
    load: () => import('./wrangler-deploy.ts'),
  },
  'isolate-memory': {
    summary: 'how garbage collection settings trade memory, latency and CPU of an isolate',
    load: async () => {
      const { run } = await import('./isolate-memory.ts')
      return { run: () => run() }
    },
  },
  neighbours: {
    summary: 'a steady function beside an endless loop, a heap bomb and a flood: its failures and its p99',
    load: () => import('./neighbours.ts'),
  },
  surge: {
    summary: '50 times the load for 30 s and back: failures, time to enough instances, time back to none',
    load: () => import('./surge.ts'),
  },
  resume: {
    summary: 'first response of a paused instance, beside a warm one and a cold start',
    load: () => import('./resume.ts'),
  },
  density: {
    summary: '1,000 functions with Zipf-distributed requests on a node in 1 GB (needs root and cgroups)',
    load: () => import('./density.ts'),
  },
  'idle-auto': {
    summary: 'idle: auto beside fixed idle times in virtual time: cold starts and memory-time',
    load: () => import('./idle-auto.ts'),
  },
  table: {
    summary: 'compiling and asking the route table at 10,000 functions',
    load: () => import('./table.ts'),
  },
}

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
})
const name = positionals[0]
const bench = name === undefined || !Object.hasOwn(BENCHES, name) ? undefined : BENCHES[name]
if (name === undefined || bench === undefined) {
  if (name !== undefined) console.error(`there is no bench "${name}"\n`)
  console.log('npm run bench -- <name> [--quick] [--json]\n')
  for (const [key, { summary }] of Object.entries(BENCHES)) console.log(`  ${key.padEnd(16)}${summary}`)
  process.exitCode = name === undefined ? 0 : 2
} else {
  const machine = describeMachine()
  const { run } = await bench.load()
  const report = await run({ quick: flags.quick, progress: (line) => console.error(`· ${line}`) })
  if (report !== undefined) {
    const kept = report.marks.every(isKept)
    if (flags.json)
      console.log(JSON.stringify({ name, quick: flags.quick, machine, kept, ...report }, undefined, 2))
    else
      console.log(
        formatReport(
          flags.quick ? `${name} (quick: shows that it works, not how fast)` : name,
          machine,
          report,
        ),
      )
  }
}
