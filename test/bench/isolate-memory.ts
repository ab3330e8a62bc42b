/**
 * How an isolate's memory is kept flat, and at what price: garbage collection by request count and V8 flags, alone
 * and together, beside stock workerd in the same run. `MEMORY_PLAN` in runtime/isolate/workerd.ts is chosen by this
 * table. Load is open loop (latency counts from when a request was due), variants take turns.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { encodeConfig, INSTANCE_SOCKETS } from '../../runtime/isolate/config.ts'
import { blankArguments, MEMORY_PLAN, type MemoryPlan } from '../../runtime/isolate/workerd.ts'
import { workerdBinaryPath } from '../../runtime/machine/workerd-binary.ts'
import type { WorkerVersion } from '../../sdk/model/function.ts'

const HELLO = `export default { fetch() { return new Response('hello') } }`
/** About 30 MiB of small objects that stay, and a few KiB of garbage a request. */
const LARGE = `
const live = Array.from({ length: 200_000 }, (_, id) => ({ id, name: 'name ' + id, next: { id } }))
export default { fetch() { return new Response(JSON.stringify(live.slice(0, 20)).slice(0, 5)) } }`

interface Variant {
  readonly name: string
  readonly plan: MemoryPlan
}

const SMALL_HEAP = ['--max-semi-space-size=2', '--preconfigured-old-space-size=4']

const EVERY_500 = { requestsMin: 500, requestsMax: 500 }
const EVERY_4000 = { requestsMin: 4000, requestsMax: 4000 }

const VARIANTS: readonly Variant[] = [
  { name: 'stock workerd', plan: { v8Flags: [] } },
  { name: 'semi-space 2', plan: { v8Flags: ['--max-semi-space-size=2'] } },
  { name: 'semi-space 2, old space 4', plan: { v8Flags: SMALL_HEAP } },
  { name: 'collect every 500', plan: { ...MEMORY_PLAN, collection: EVERY_500 } },
  { name: 'collect every 4000', plan: { ...MEMORY_PLAN, collection: EVERY_4000 } },
  { name: 'chosen', plan: MEMORY_PLAN },
]

interface Measured {
  startMs: number
  p50Ms: number
  p99Ms: number
  p999Ms: number
  cpuUsPerRequest: number
  peakMib: number
}

export interface MemoryBenchOptions {
  readonly variants?: readonly Variant[]
  readonly rates?: readonly number[]
  readonly seconds?: number
  readonly starts?: number
  readonly sources?: Readonly<Record<string, string>>
}

export async function run(options: MemoryBenchOptions = {}): Promise<void> {
  const variants = options.variants ?? VARIANTS
  for (const [live, source] of Object.entries(
    options.sources ?? { 'small live heap': HELLO, 'large live heap': LARGE },
  )) {
    for (const rate of options.rates ?? [1000, 3000]) {
      console.log(`\n${live}, ${rate} requests/s for ${options.seconds ?? 10} s`)
      console.log(
        'variant                        start p50 ms   p50 ms   p99 ms  p99.9 ms  CPU µs/req  private MiB',
      )
      for (const variant of variants) {
        const m = await measure(source, variant.plan, rate, options)
        const cells = [m.startMs, m.p50Ms, m.p99Ms, m.p999Ms, m.cpuUsPerRequest, m.peakMib]
        console.log(variant.name.padEnd(30) + cells.map((cell) => cell.toFixed(1).padStart(11)).join(''))
      }
    }
  }
}

async function measure(
  source: string,
  plan: MemoryPlan,
  rate: number,
  options: MemoryBenchOptions,
): Promise<Measured> {
  const starts: number[] = []
  for (let index = 0; index < (options.starts ?? 9); index += 1) {
    const started = await startInstance(source, plan)
    starts.push(started.startMs)
    await started.stop()
  }
  const instance = await startInstance(source, plan)
  let peakKib = 0
  const sampler = setInterval(() => {
    peakKib = Math.max(peakKib, anonymousKib(instance.pid))
  }, 20)
  try {
    await openLoop({ path: instance.socketPath, rate, seconds: 2 })
    const cpuBefore = cpuMs(instance.pid)
    const latencies = await openLoop({ path: instance.socketPath, rate, seconds: options.seconds ?? 10 })
    const cpu = cpuMs(instance.pid) - cpuBefore
    latencies.sort((a, b) => a - b)
    return {
      startMs: quantile(
        starts.sort((a, b) => a - b),
        0.5,
      ),
      p50Ms: quantile(latencies, 0.5),
      p99Ms: quantile(latencies, 0.99),
      p999Ms: quantile(latencies, 0.999),
      cpuUsPerRequest: (cpu * 1000) / latencies.length,
      peakMib: peakKib / 1024,
    }
  } finally {
    clearInterval(sampler)
    await instance.stop()
  }
}

/** What the process keeps to itself: a memory limit counts the program's own pages once for all instances. */
function anonymousKib(pid: number): number {
  return Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}

interface BenchInstance {
  readonly pid: number
  readonly socketPath: string
  /** From the configuration's first byte to the first response's. */
  readonly startMs: number
  stop(): Promise<void>
}

async function startInstance(source: string, plan: MemoryPlan): Promise<BenchInstance> {
  const directory = mkdtempSync(join(tmpdir(), 'isola-bench-'))
  const body = Buffer.from(source)
  const sha256 = createHash('sha256').update(body).digest('hex')
  const config = encodeConfig({
    version: versionOf(sha256, body.length),
    modules: new Map([[sha256, body]]),
    socketDirectory: directory,
    memory: plan,
  })
  const child = spawn(workerdBinaryPath(), blankArguments({ controlFd: 3 }), {
    stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  // A blank waits: it has loaded long before it is claimed.
  await new Promise((resolve) => setTimeout(resolve, 100))
  const startedAt = performance.now()
  ;(child.stdin as Writable).end(config)
  await bothListen(child.stdio[3] as unknown as Readable)
  const socketPath = join(directory, INSTANCE_SOCKETS.http)
  await openLoop({ path: socketPath, rate: 1, seconds: 0 })
  return {
    pid: child.pid ?? 0,
    socketPath,
    startMs: performance.now() - startedAt,
    async stop() {
      child.kill('SIGKILL')
      await ended
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

function bothListen(control: Readable): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = ''
    control.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text.split('\n').length > 2) resolve()
    })
    control.on('end', () => reject(new Error('workerd ended before it listened')))
  })
}

/** Sends each request when it is due, on a free connection or as soon as one is; answers latencies in ms. */
function openLoop(options: { path: string; rate: number; seconds: number }): Promise<number[]> {
  const total = Math.max(1, Math.round(options.rate * options.seconds))
  const latencies: number[] = []
  const free: Connection[] = []
  const connections: Connection[] = []
  const beginMs = performance.now()
  let sent = 0
  return new Promise((resolve, reject) => {
    const done = (connection: Connection): void => {
      latencies.push(performance.now() - connection.dueMs)
      free.push(connection)
      if (latencies.length < total) return
      clearInterval(timer)
      for (const { socket } of connections) socket.destroy()
      resolve(latencies)
    }
    const send = (): void => {
      for (;;) {
        const dueMs = beginMs + (sent * 1000) / options.rate
        if (sent >= total || dueMs > performance.now()) return
        const connection =
          free.pop() ?? (connections.length < 64 ? open(options.path, done, reject) : undefined)
        if (connection === undefined) return
        if (!connections.includes(connection)) connections.push(connection)
        connection.dueMs = dueMs
        connection.socket.write(
          'GET / HTTP/1.1\r\nHost: bench.example\r\nx-request-id: 0123456789abcdef\r\n\r\n',
        )
        sent += 1
      }
    }
    const timer = setInterval(send, 1)
    send()
  })
}

interface Connection {
  readonly socket: Socket
  dueMs: number
}

function open(
  path: string,
  done: (connection: Connection) => void,
  failed: (error: Error) => void,
): Connection {
  const connection: Connection = { socket: connect(path), dueMs: 0 }
  let received = ''
  connection.socket.on('error', failed)
  connection.socket.on('data', (chunk: Buffer) => {
    received += chunk.toString('latin1')
    const headEnd = received.indexOf('\r\n\r\n')
    const length = /content-length: (\d+)/i.exec(received)?.[1]
    if (headEnd === -1 || received.length < headEnd + 4 + Number(length)) return
    received = ''
    done(connection)
  })
  return connection
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

/** CPU of a process so far, from its ticks of 10 ms. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) * 10
}

function versionOf(sha256: string, sizeBytes: number): WorkerVersion {
  return {
    id: 'bench',
    functionName: 'bench',
    createdAt: new Date(0).toISOString(),
    message: '',
    content: {
      kind: 'worker',
      mainModule: 'index.js',
      modules: [{ name: 'index.js', kind: 'esm', sha256, sizeBytes }],
      bindings: [],
      compatibilityDate: '2026-11-01',
      compatibilityFlags: [],
      limits: { cpuMs: 10_000, memoryMib: 128 },
    },
  }
}
