/**
 * What serving static files costs, beside nginx serving the same directory. Both log each request; nginx reads and sends
 * by the kernel (`sendfile`), the router from memory where a file is small. CPU is the figure that repeats.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectToChannel, openChannel } from '../../runtime/pool/channel.ts'
import type { AgentToRouter, RouterToAgent } from '../../runtime/pool/wire.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../../sdk/model/function-limits.ts'
import { ASSET_LIMITS } from '../../sdk/model/limits.ts'
import { DEFAULT_POLICY } from '../../sdk/model/policy.ts'
import { AssetPlace } from '../harness/asset-place.ts'
import type { Target } from './peers.ts'
import { childPidsOf, cpuMsOf, memoryOf } from './process-usage.ts'
import { formatNumber, type BenchOptions, type Mark, type Report, type Table } from './report.ts'
import { freePort, requireProgram, spawnProcess, waitForListener } from './spawned-process.ts'
import { formatMedian, median } from './statistics.ts'
import { runWrk } from './wrk.ts'

const HOST = 'bench.localhost'
const CONNECTIONS = 32
/** Of a large file: that some are whole within a run. */
const LARGE_CONNECTIONS = 4
const VERSION_ID = 'b'.repeat(32)
const LARGE = { name: '10 MB', path: '/large.bin', bytes: 10_000_000 }
const FILES = [
  { name: '1 KB', path: '/small.js', bytes: 1_024 },
  { name: '16 KB', path: '/medium.js', bytes: 16_384 },
  { name: '200 KB', path: '/bundle.js', bytes: 200_000 },
  LARGE,
] as const

interface Sample {
  readonly cpuUs: number
  readonly perSecond: number
}

export async function run(options: BenchOptions): Promise<Report> {
  requireProgram('wrk', 'wrk')
  requireProgram('nginx', 'nginx-light')
  const directory = mkdtempSync(join(tmpdir(), 'isola-bench-assets-'))
  const targets: Target[] = []
  const seconds = options.quick ? 1 : 4
  const repetitions = options.quick ? 1 : 3
  try {
    const root = join(directory, 'root')
    mkdirSync(root)
    const bodies = FILES.map(({ path, bytes }) => [path, Buffer.alloc(bytes, 'static ')] as const)
    for (const [path, body] of bodies) writeFileSync(join(root, path), body)
    new AssetPlace(join(directory, 'assets')).put(VERSION_ID, { files: Object.fromEntries(bodies) })
    targets.push(await startRouter(directory))
    targets.push(await startNginx(directory, root))
    const tables: Table[] = []
    const marks: Mark[] = []
    for (const file of FILES) {
      const samples = new Map<Target, Sample[]>(targets.map((target) => [target, []]))
      const measure = (target: Target, forSeconds: number): Promise<Sample> =>
        load(target, { path: file.path, seconds: forSeconds, directory })
      for (const target of targets) await measure(target, file.bytes < 2_000 ? 2 * seconds : 1)
      for (let turn = 0; turn < repetitions; turn++) {
        for (const target of targets) {
          options.progress(`${file.name}: ${target.name}`)
          samples.get(target)!.push(await measure(target, seconds))
        }
      }
      const [isola, nginx] = targets.map((target) => samples.get(target)!) as [Sample[], Sample[]]
      const cpu = (list: readonly Sample[]): number => median(list.map(({ cpuUs }) => cpuUs))
      const rate = (list: readonly Sample[]): number => median(list.map(({ perSecond }) => perSecond))
      tables.push({
        title: file.name,
        columns: ['target', 'CPU µs/request', '× nginx', 'requests/s', 'of nginx'],
        rows: targets.map((target) => {
          const list = samples.get(target)!
          return [
            target.name,
            formatMedian(list.map(({ cpuUs }) => cpuUs)),
            formatNumber(cpu(list) / cpu(nginx)),
            formatMedian(list.map(({ perSecond }) => perSecond)),
            `${Math.round((100 * rate(list)) / rate(nginx))} %`,
          ]
        }),
      })
      // Larger files go through the process in pieces, as Node has no `sendfile`.
      if (file.bytes <= ASSET_LIMITS.cachedFileBytesMax)
        marks.push(
          {
            promise: `CPU of a file of ${file.name}, of nginx`,
            measured: cpu(isola) / cpu(nginx),
            limit: 2,
            unit: '×',
          },
          {
            promise: `time of a file of ${file.name}, of nginx`,
            measured: rate(nginx) / rate(isola),
            limit: 2,
            unit: '×',
          },
        )
    }
    const memory = targets.map(({ name, pid }) => [name, formatNumber(memoryOf(pid).rssMib)])
    tables.push({ title: 'Memory after all of this', columns: ['target', 'RSS MiB'], rows: memory })
    return {
      conditions: [
        `wrk with 1 thread and ${CONNECTIONS} connections (${LARGE_CONNECTIONS} for 10 MB); ${repetitions} × ${seconds} s a cell, targets taking turns; medians (lowest–highest)`,
        'nginx: 1 worker, sendfile, tcp_nopush, open_file_cache, access log as Debian has it',
        'isola: routing, admission, request log and metrics on; etag and caching headers as always',
      ],
      tables,
      marks,
    }
  } finally {
    for (const target of targets.toReversed()) await target.process.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

async function load(
  target: Target,
  {
    path,
    seconds,
    directory,
  }: { readonly path: string; readonly seconds: number; readonly directory: string },
): Promise<Sample> {
  const before = cpuMsOf(target.pid)
  const url = `http://127.0.0.1:${target.port}${path}`
  const connections = path === LARGE.path ? LARGE_CONNECTIONS : CONNECTIONS
  const result = await runWrk({ url, host: HOST, connections, seconds, directory })
  if (result.badAnswers > 0 || result.requests === 0)
    throw new Error(
      `${path} of ${target.name}: ${JSON.stringify(result)}; it said:\n${target.process.output()}`,
    )
  return {
    cpuUs: ((cpuMsOf(target.pid) - before) * 1_000) / result.requests,
    perSecond: result.requestsPerSecond,
  }
}

async function startRouter(directory: string): Promise<Target> {
  const control = join(directory, 'router.sock')
  const main = join(import.meta.dirname, '../../router/main.ts')
  const argv = [main, '--socket', control, '--http', '127.0.0.1:0']
  const router = spawnProcess(process.execPath, argv, { workingDirectory: directory })
  const socket = await connectToChannel(control, 10_000)
  const ready = Promise.withResolvers<void>()
  let port = 0
  const channel = openChannel<RouterToAgent, AgentToRouter>(socket, {
    onMessage(message) {
      if (message.type === 'hello') port = message.httpPort
      else if (message.type === 'applied') ready.resolve()
    },
    onClose: () => ready.reject(new Error(`the router ended:\n${router.output()}`)),
  })
  channel.send({
    type: 'snapshot',
    snapshot: {
      generation: 1,
      baseDomain: 'localhost',
      assetsDirectory: join(directory, 'assets'),
      functions: [
        {
          name: 'bench',
          kind: 'worker',
          shares: [{ versionId: VERSION_ID, percent: 100 }],
          patterns: [],
          baseDomainHost: true,
          previewVersionIds: [],
          assetVersionIds: [VERSION_ID],
          policy: DEFAULT_POLICY,
          limits: DEFAULT_FUNCTION_LIMITS,
        },
      ],
    },
  })
  await ready.promise
  return { name: 'isola', port, pid: router.pid, process: router }
}

async function startNginx(parent: string, root: string): Promise<Target> {
  const directory = join(parent, 'nginx')
  mkdirSync(directory)
  const port = await freePort()
  writeFileSync(
    join(directory, 'nginx.conf'),
    `daemon off; user root; worker_processes 1; pid ${directory}/pid; error_log ${directory}/error.log;
events { worker_connections 4096; }
http {
  access_log ${directory}/access.log combined; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  client_body_temp_path ${directory}/b; proxy_temp_path ${directory}/p; fastcgi_temp_path ${directory}/f;
  uwsgi_temp_path ${directory}/u; scgi_temp_path ${directory}/s;
  types { text/javascript js; } open_file_cache max=1000;
  server { listen 127.0.0.1:${port}; root ${root}; etag on; add_header Cache-Control "public, max-age=0, must-revalidate"; }
}
`,
  )
  const nginx = spawnProcess('nginx', ['-c', join(directory, 'nginx.conf'), '-p', directory])
  await waitForListener(nginx, { host: '127.0.0.1', port })
  // It listens before it has its worker.
  for (;;) {
    const worker = childPidsOf(nginx.pid)[0]
    if (worker !== undefined) return { name: 'nginx', port, pid: worker, process: nginx }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
