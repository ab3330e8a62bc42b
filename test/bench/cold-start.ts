/**
 * The first response of a function that has no instance, at the client: routing, claiming a blank, loading the code,
 * answering. Beside it, taking turns: starting plain workerd with the same code and asking it as soon as it says that
 * it listens. Every sample is proved cold by the router's own log line for it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { workerdBinaryPath } from '../../runtime/machine/workerd-binary.ts'
import { sourceOf, startBenchNode, type BenchNode } from './bench-node.ts'
import { firstAnswer } from './first-answer.ts'
import { formatNumber, type BenchOptions, type Mark, type Report } from './report.ts'
import { quantile } from './statistics.ts'

const SIZES = [
  { name: '1 KB', functionName: 'small', bytes: 1_000 },
  { name: '1 MB', functionName: 'large', bytes: 1_000_000 },
] as const

type Size = (typeof SIZES)[number]

export async function run(options: BenchOptions): Promise<Report> {
  const samples = options.quick ? 3 : 40
  const directory = mkdtempSync(join(tmpdir(), 'isola-bench-cold-'))
  const bench = await startBenchNode()
  try {
    for (const size of SIZES) {
      options.progress(`deploying ${size.name}`)
      await bench.deploy(size.functionName, sourceOf('hello', size.bytes))
      await bench.client.setPolicy(size.functionName, { idleMs: 100 })
      writeConfig(directory, size)
    }
    const coldMs = new Map<Size, number[]>(SIZES.map((size) => [size, []]))
    const spawnMs = new Map<Size, number[]>(SIZES.map((size) => [size, []]))
    for (let sample = 0; sample < samples; sample++) {
      for (const size of SIZES) {
        options.progress(`${size.name}, ${sample + 1} of ${samples}`)
        coldMs.get(size)!.push(await coldStart(bench, size))
        spawnMs.get(size)!.push(await spawnWorkerd(directory, size))
      }
    }
    for (const size of SIZES) await proveCold(bench, size, samples)
    return makeReport(bench, { samples, coldMs, spawnMs })
  } finally {
    await bench.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Waits until the function has no instance and blanks are ready again, as they are on a node that rests. */
async function coldStart(bench: BenchNode, size: Size): Promise<number> {
  await bench.waitFor(
    `no instance of ${size.functionName}, and blanks waiting`,
    (processes) =>
      !processes.some(({ role }) => role === 'instance') &&
      processes.filter(({ role }) => role === 'blank').length >= 2,
  )
  // A blank that was just started still loads; on a node that rests it has long done so.
  await new Promise((resolve) => setTimeout(resolve, 150))
  const answer = await firstAnswer(bench.where, `${size.functionName}.localhost`)
  if (answer.status !== 200) throw new Error(`the cold request was answered ${answer.text}`)
  return answer.ms
}

/** The router hands its log lines over in batches: the last may still be on its way. */
async function proveCold(bench: BenchNode, size: Size, samples: number): Promise<void> {
  const deadlineMs = performance.now() + 5_000
  for (;;) {
    let cold = 0
    for await (const line of bench.client.logs(size.functionName, { lines: 10_000 })) {
      if (line.request?.cold === true) cold++
    }
    if (cold >= samples) return
    if (performance.now() > deadlineMs) {
      throw new Error(
        `only ${cold} of ${samples} requests of "${size.functionName}" were cold: the numbers mean nothing`,
      )
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

function configPath(directory: string, size: Size): string {
  return join(directory, `${size.functionName}.capnp`)
}

function writeConfig(directory: string, size: Size): void {
  writeFileSync(join(directory, `${size.functionName}.js`), sourceOf('hello', size.bytes))
  writeFileSync(
    configPath(directory, size),
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = (modules = [(name = "main", esModule = embed "${size.functionName}.js")], compatibilityDate = "2026-11-01"))],
  sockets = [(name = "http", address = "unix:${directory}/${size.functionName}.sock", http = (), service = "main")],
);
`,
  )
}

/** From before the spawn to the first byte of the answer. */
async function spawnWorkerd(directory: string, size: Size): Promise<number> {
  rmSync(join(directory, `${size.functionName}.sock`), { force: true })
  const beganMs = performance.now()
  const child = spawn(workerdBinaryPath(), ['serve', '--control-fd=3', configPath(directory, size)], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  })
  const exited = once(child, 'exit')
  try {
    await once(child.stdio[3] as Readable, 'data')
    const answer = await firstAnswer({ path: join(directory, `${size.functionName}.sock`) }, 'localhost')
    if (answer.status !== 200) throw new Error(`plain workerd answered ${answer.text}`)
    return performance.now() - beganMs
  } finally {
    child.kill('SIGKILL')
    await exited
  }
}

function makeReport(
  bench: BenchNode,
  taken: { samples: number; coldMs: ReadonlyMap<Size, number[]>; spawnMs: ReadonlyMap<Size, number[]> },
): Report {
  const p50 = (list: readonly number[] | undefined): number => quantile(list ?? [], 0.5)
  const row = (name: string, list: readonly number[] | undefined): string[] => [
    name,
    ...[0, 0.5, 0.99].map((share) => formatNumber(quantile(list ?? [], share))),
  ]
  // The promise about the spawn is made for the small bundle; the large one spends its time compiling in both.
  const small = SIZES[0]
  const marks: Mark[] = [
    {
      promise: 'cold start of the 1 KB bundle, p50 (quiet machine)',
      measured: p50(taken.coldMs.get(small)),
      limit: 20,
      unit: 'ms',
    },
    {
      promise: 'cold start of the 1 KB bundle, of a plain spawn',
      measured: p50(taken.coldMs.get(small)) / p50(taken.spawnMs.get(small)),
      limit: 0.6,
      unit: '×',
    },
  ]
  return {
    conditions: [
      ...bench.conditions,
      `${taken.samples} cold starts a row, each proved by its log line; before each no instance runs and blanks wait; plain spawns in between`,
      'ms from the first byte sent over an open connection (spawn: from before the process exists) to the first byte of the response',
    ],
    tables: [
      {
        title: 'First response',
        columns: ['', 'best ms', 'p50 ms', 'p99 ms'],
        rows: SIZES.flatMap((size) => [
          row(`isola, ${size.name}`, taken.coldMs.get(size)),
          row(`workerd serve, ${size.name}`, taken.spawnMs.get(size)),
        ]),
      },
    ],
    marks,
  }
}
