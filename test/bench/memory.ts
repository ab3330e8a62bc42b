/** What warm instances weigh after they have worked, and what the node around them weighs. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sourceOf, startBenchNode, type BenchNode } from './bench-node.ts'
import { firstAnswer } from './first-answer.ts'
import { memoryOf, type MemoryUse } from './process-usage.ts'
import { formatNumber, type BenchOptions, type Report, type Table } from './report.ts'
import { requireProgram } from './spawned-process.ts'
import { median, quantile } from './statistics.ts'
import { runWrk } from './wrk.ts'

export async function run(options: BenchOptions): Promise<Report> {
  requireProgram('wrk', 'wrk')
  const deployed = options.quick ? 6 : 200
  const warm = options.quick ? 3 : 50
  const seconds = options.quick ? 1 : 20
  const directory = mkdtempSync(join(tmpdir(), 'isola-bench-memory-'))
  const bench = await startBenchNode()
  try {
    const names = Array.from({ length: deployed }, (_, index) => `function-${index}`)
    const beganMs = performance.now()
    for (const [index, name] of names.entries()) {
      if (index % 20 === 0) options.progress(`deploying ${name}`)
      await bench.deploy(name, sourceOf(`hello from ${name}`, 1_000))
      // Those that shall stay warm may not go idle while the others are deployed.
      await bench.client.setPolicy(name, index < warm ? { max: 1, idleMs: 600_000 } : { idleMs: 100 })
    }
    const deployMs = performance.now() - beganMs
    const hosts = names.slice(0, warm).map((name) => `${name}.localhost`)
    for (const host of hosts) {
      const answer = await firstAnswer(bench.where, host)
      if (answer.status !== 200) throw new Error(`${host} answered ${answer.text}`)
    }
    await bench.waitFor(
      `${warm} instances and no more`,
      (processes) => processes.filter(({ role }) => role === 'instance').length === warm,
    )
    const before = await instances(bench)
    const resting = await measurePlatform(bench, 'before load')
    options.progress(`${seconds} s of load on ${warm} functions`)
    const load = await runWrk({
      url: `http://127.0.0.1:${bench.where.port}/`,
      host: hosts[0]!,
      hosts,
      connections: 32,
      seconds,
      directory,
    })
    if (load.badAnswers > 0) throw new Error(`the load failed: ${JSON.stringify(load)}`)
    const after = await instances(bench)
    const worked = await measurePlatform(bench, 'after load')
    return {
      conditions: [
        ...bench.conditions,
        `${deployed} functions of 1 KB deployed (${formatNumber(deployMs / deployed)} ms each), ${warm} of them warm, one instance each`,
        `load: ${formatNumber(load.requests / warm)} requests to each instance, ${formatNumber(load.requestsPerSecond)} a second together (wrk, 32 connections)`,
        'private: what would be free if the process ended; PSS: shared pages in parts, adds up over processes (both from smaps_rollup)',
      ],
      tables: [
        {
          title: `One warm instance (of ${warm})`,
          columns: ['', 'private MiB p50', 'max', 'PSS MiB p50', 'RSS MiB p50'],
          rows: [memoryRow('before load', before), memoryRow('after load', after)],
        },
        resting.table,
        worked.table,
      ],
      marks: [
        {
          promise: `the node with ${warm} warm instances after load, all processes (PSS), in a 1 GB machine`,
          measured: worked.pssMib,
          limit: 1_024,
          unit: 'MiB',
        },
      ],
    }
  } finally {
    await bench.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

async function instances(bench: BenchNode): Promise<MemoryUse[]> {
  const { processes } = await bench.client.status()
  return processes.filter(({ role }) => role === 'instance').map(({ pid }) => memoryOf(pid))
}

function memoryRow(name: string, list: readonly MemoryUse[]): string[] {
  const privateMib = list.map((use) => use.privateMib)
  return [
    name,
    formatNumber(median(privateMib)),
    formatNumber(quantile(privateMib, 1)),
    formatNumber(median(list.map(({ pssMib }) => pssMib))),
    formatNumber(median(list.map(({ rssMib }) => rssMib))),
  ]
}

async function measurePlatform(bench: BenchNode, when: string): Promise<{ table: Table; pssMib: number }> {
  const { processes } = await bench.client.status()
  const roles = ['agent', 'router', 'egress', 'blank', 'instance'] as const
  const uses = roles.map((role) => ({
    role,
    list: processes.filter((process) => process.role === role).map(({ pid }) => memoryOf(pid)),
  }))
  const sum = (list: readonly MemoryUse[], field: keyof MemoryUse): number =>
    list.reduce((total, use) => total + use[field], 0)
  const row = (name: string, list: readonly MemoryUse[]): string[] => [
    name,
    String(list.length),
    ...(['rssMib', 'pssMib', 'privateMib'] as const).map((field) => formatNumber(sum(list, field))),
  ]
  const all = uses.flatMap(({ list }) => list)
  return {
    table: {
      title: `The whole node ${when}`,
      columns: ['role', 'processes', 'RSS MiB', 'PSS MiB', 'private MiB'],
      rows: [...uses.map(({ role, list }) => row(role, list)), row('all', all)],
    },
    pssMib: sum(all, 'pssMib'),
  }
}
