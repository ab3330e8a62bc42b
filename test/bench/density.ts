/**
 * A thousand functions on a node that has 1 GB for everything: agent, router, egress proxy, instances. Requests come
 * for all of them, Zipf-distributed: a few are always wanted and most hardly ever. The memory cgroup is the machine
 * here; the kernel counts what is used at most and whom it had to kill.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ISOLA_BIN } from '../harness/node.ts'
import { sourceOf, startBenchNode, type BenchNode } from './bench-node.ts'
import { openLoopProcess } from './load-process.ts'
import { formatNumber, type BenchOptions, type Report } from './report.ts'

const MIB = 1024 * 1024
const MEMORY_MIB = 1_024
const EXPONENT = 1
const SEED = 7

export async function run(options: BenchOptions): Promise<Report> {
  const count = options.quick ? 30 : 1_000
  const seconds = options.quick ? 3 : 60
  const requestsPerSecond = options.quick ? 50 : 100
  const group = makeMemoryGroup(MEMORY_MIB)
  const directory = mkdtempSync(join(tmpdir(), 'isola-bench-density-'))
  let bench: BenchNode | undefined
  try {
    bench = await startBenchNode([], group.wrap(directory))
    const names = Array.from({ length: count }, (_, index) => `function-${index}`)
    for (const [index, name] of names.entries()) {
      if (index % 100 === 0) options.progress(`deploying ${name}`)
      await bench.deploy(name, sourceOf(`hello from ${name}`, 1_000))
    }
    const platformBefore = await platformPids(bench)
    options.progress(`${requestsPerSecond} requests/s for ${seconds} s`)
    const result = await openLoopProcess({
      where: bench.where,
      host: '',
      hosts: { names: names.map((name) => `${name}.localhost`), exponent: EXPONENT, seed: SEED },
      path: '/',
      requestsPerSecond,
      seconds,
      connections: 32,
    })
    for (const failure of result.failureSamples) options.progress(`FAILED: ${failure}`)
    const { processes } = await bench.client.status()
    const instances = processes.filter(({ role }) => role === 'instance').length
    const platformAfter = await platformPids(bench)
    const lost = platformBefore.filter((pid) => !platformAfter.includes(pid)).length
    const cold = await coldRequests(bench, result.requests)
    return {
      conditions: [
        ...bench.conditions,
        `the whole node in a memory cgroup of ${MEMORY_MIB} MiB; ${count} functions of 1 KB, default policy; ${requestsPerSecond} requests/s open loop for ${seconds} s, Zipf with exponent ${EXPONENT} over all of them, seed ${SEED}`,
      ],
      tables: [
        {
          title: 'Requests',
          columns: ['requests', 'failed', 'cold %', 'p50 ms', 'p99 ms', 'max ms'],
          rows: [
            [
              formatNumber(result.requests),
              String(result.failures),
              formatNumber((100 * cold) / result.requests),
              ...[result.p50Us, result.p99Us, result.maxUs].map((us) => formatNumber(us / 1_000)),
            ],
          ],
        },
        {
          title: 'Memory',
          columns: ['instances at the end', 'peak MiB', 'kills by the kernel'],
          rows: [[String(instances), formatNumber(group.peakMib()), formatNumber(group.kills())]],
        },
      ],
      marks: [
        { promise: 'failed requests', measured: result.failures, limit: 0, unit: 'requests' },
        {
          promise: 'router, agent or egress proxy killed or restarted',
          measured: lost,
          limit: 0,
          unit: 'processes',
        },
        { promise: 'processes killed by the kernel', measured: group.kills(), limit: 0, unit: 'processes' },
      ],
    }
  } finally {
    await bench?.stop()
    group.remove()
    rmSync(directory, { recursive: true, force: true })
  }
}

async function platformPids(bench: BenchNode): Promise<number[]> {
  const { processes } = await bench.client.status()
  return processes.filter(({ role }) => ['agent', 'router', 'egress'].includes(role)).map(({ pid }) => pid)
}

/** As the router counted them; asked again until it has reported all. */
async function coldRequests(bench: BenchNode, requests: number): Promise<number> {
  const deadlineMs = performance.now() + 10_000
  for (;;) {
    const text = await bench.client.metrics()
    let all = 0
    let cold = 0
    for (const line of text.split('\n')) {
      if (!line.startsWith('isola_requests_total{')) continue
      const value = Number(line.slice(line.lastIndexOf(' ') + 1))
      all += value
      if (line.includes('cold="true"')) cold += value
    }
    if (all >= requests) return cold
    if (performance.now() > deadlineMs) throw new Error(`the router reported ${all} of ${requests} requests`)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

interface MemoryGroup {
  /** An `isola` that moves itself into the group first; everything it starts is in it as well. */
  wrap(directory: string): string
  peakMib(): number
  kills(): number
  remove(): void
}

function makeMemoryGroup(memoryMib: number): MemoryGroup {
  const isV1 = existsSync('/sys/fs/cgroup/memory/memory.limit_in_bytes')
  const path = join(isV1 ? '/sys/fs/cgroup/memory' : '/sys/fs/cgroup', `isola-bench-density-${process.pid}`)
  mkdirSync(path)
  if (isV1) writeFileSync(join(path, 'memory.use_hierarchy'), '1')
  writeFileSync(join(path, isV1 ? 'memory.limit_in_bytes' : 'memory.max'), String(memoryMib * MIB))
  const read = (file: string): string => readFileSync(join(path, file), 'utf8')
  return {
    wrap(directory) {
      const file = join(directory, 'isola')
      writeFileSync(file, `#!/bin/sh\necho $$ > ${path}/cgroup.procs\nexec ${ISOLA_BIN} "$@"\n`)
      chmodSync(file, 0o755)
      return file
    },
    peakMib: () => Number(read(isV1 ? 'memory.max_usage_in_bytes' : 'memory.peak')) / MIB,
    kills: () =>
      Number(/^oom_kill (\d+)/m.exec(read(isV1 ? 'memory.oom_control' : 'memory.events'))?.[1] ?? 0),
    remove: () => rmdirSync(path),
  }
}
