/**
 * Containers beside `docker run` of the same program, and beside an isolate, in one run and taking turns. What a
 * function starts as is seen to beforehand in the node's own status: its blanks wait, it is paused, or it runs.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ProcessStatus } from '../../sdk/model/node-status.ts'
import { removeNodeImages } from '../harness/node-images.ts'
import { startBenchNode, type BenchNode } from './bench-node.ts'
import { openEmptyPools } from './container-empty-pools.ts'
import { BLANK_CLASS, deployKind, KINDS, type Kind } from './container-functions.ts'
import { dockerRun } from './docker-run.ts'
import { firstAnswer } from './first-answer.ts'
import { formatNumber, type BenchOptions, type Report } from './report.ts'
import { median, quantile } from './statistics.ts'

/** Policies that bring an instance to a rung and keep it there. */
const RUNGS = { cold: { idleMs: 100 }, paused: { min: 1, pauseMs: 100 }, warm: { min: 1 } } as const
type Rung = keyof typeof RUNGS

const AT_ONCE = 20
/** Before the first sample, and in each. */
const WARM_UP = 100
const WARM_PER_SAMPLE = 50
/** A blank that was just started still loads; on a node that rests it has long done so. */
const REST_MS = 200

class Samples {
  readonly #values = new Map<string, number[]>()

  add(row: string, kind: Kind | 'docker', value: number): void {
    const key = `${row} ${kind}`
    this.#values.set(key, [...(this.#values.get(key) ?? []), value])
  }

  of(row: string, kind: Kind | 'docker'): readonly number[] {
    return this.#values.get(`${row} ${kind}`) ?? []
  }
}

export async function run(options: BenchOptions): Promise<Report> {
  const count = options.quick ? 2 : 20
  const directory = mkdtempSync(join(tmpdir(), 'isola-bench-container-'))
  const bench = await startBenchNode()
  const samples = new Samples()
  try {
    for (const kind of KINDS) {
      for (const rung of Object.keys(RUNGS) as Rung[]) {
        options.progress(`deploying ${kind}, ${rung}`)
        await deployKind(bench, { kind, name: `${kind}-${rung}`, directory })
        await bench.client.setPolicy(`${kind}-${rung}`, RUNGS[rung])
      }
      for (let request = 0; request < WARM_UP; request++) await answerOf(bench, `${kind}-warm`)
    }
    const emptyPools = await openEmptyPools()
    try {
      for (let sample = 0; sample < count; sample++) {
        options.progress(`first answers, ${sample + 1} of ${count}`)
        await sampleWarm(bench, samples)
        samples.add('docker run', 'docker', await dockerRun())
        for (const kind of KINDS) {
          for (const rung of ['cold', 'paused'] as const) {
            samples.add(rung, kind, await firstOf(bench, { kind, rung }))
          }
          if (kind !== 'isolate') samples.add('empty pools', kind, await emptyPools.start(kind))
        }
      }
    } finally {
      await emptyPools.end()
    }
    for (const kind of KINDS) await sampleRunning(bench, { kind, directory, samples, options })
    return makeReport(bench, { samples, count })
  } finally {
    await bench.stop()
    await removeNodeImages(bench.node.dataDirectory)
    rmSync(directory, { recursive: true, force: true })
  }
}

/** When nothing is being started: a container's start takes a good part of two cores. */
async function sampleWarm(bench: BenchNode, samples: Samples): Promise<void> {
  await bench.waitFor('blanks of every kind', (processes) =>
    KINDS.every((kind) => processes.some(({ blankClass }) => BLANK_CLASS[kind].test(blankClass ?? ''))),
  )
  await new Promise((resolve) => setTimeout(resolve, REST_MS))
  for (const kind of KINDS) {
    for (let request = 0; request < WARM_PER_SAMPLE; request++) {
      samples.add('warm', kind, await answerOf(bench, `${kind}-warm`))
    }
  }
}

async function firstOf(
  bench: BenchNode,
  { kind, rung }: { readonly kind: Kind; readonly rung: 'cold' | 'paused' },
): Promise<number> {
  const name = `${kind}-${rung}`
  await bench.waitFor(`${name} is ${rung}, and its blanks wait`, (processes) => {
    const states = statesOf(processes, name)
    if (!processes.some(({ blankClass }) => BLANK_CLASS[kind].test(blankClass ?? ''))) return false
    return rung === 'cold' ? states.length === 0 : states.length === 1 && states[0] === 'paused'
  })
  await new Promise((resolve) => setTimeout(resolve, REST_MS))
  return await answerOf(bench, name)
}

/** What is seen of instances that run: memory, a crash, many who come at once. */
async function sampleRunning(
  bench: BenchNode,
  given: {
    readonly kind: Kind
    readonly directory: string
    readonly samples: Samples
    readonly options: BenchOptions
  },
): Promise<void> {
  const { kind, directory, samples, options } = given
  const name = `${kind}-warm`
  options.progress(`${kind}: memory, crashes, ${AT_ONCE} at once`)
  await new Promise((resolve) => setTimeout(resolve, 2_000))
  samples.add('memory', kind, memoryMb(await instanceOf(bench, name)))
  for (let sample = 0; sample < (options.quick ? 1 : 5); sample++) {
    if (kind !== 'image') {
      // A version of its own each time: one that keeps crashing is held back.
      await deployKind(bench, { kind, name, directory, mark: String(sample) })
      await answerOf(bench, name)
      samples.add('crash', kind, await crash(bench, name))
    }
    await bench.waitFor(
      `${kind}-cold is gone`,
      (processes) => statesOf(processes, `${kind}-cold`).length === 0,
    )
    await new Promise((resolve) => setTimeout(resolve, REST_MS))
    const answers = await Promise.all(Array.from({ length: AT_ONCE }, () => answerOf(bench, `${kind}-cold`)))
    for (const ms of answers) samples.add('at once', kind, ms)
  }
}

/** From the end of an instance to the answer of a request that it was working on. */
async function crash(bench: BenchNode, name: string): Promise<number> {
  const { pid } = await instanceOf(bench, name)
  const answer = firstAnswer(bench.where, `${name}.localhost`, '/hang')
  await new Promise((resolve) => setTimeout(resolve, REST_MS))
  const beganMs = performance.now()
  process.kill(pid, 'SIGKILL')
  const { status, text } = await answer
  if (status !== 502) throw new Error(`a request of an instance that crashed was answered ${text}`)
  return performance.now() - beganMs
}

async function answerOf(bench: BenchNode, name: string): Promise<number> {
  const { status, text, ms } = await firstAnswer(bench.where, `${name}.localhost`)
  if (status !== 200) throw new Error(`${name} answered ${text}`)
  return ms
}

function statesOf(processes: readonly ProcessStatus[], name: string): readonly string[] {
  return processes.filter((each) => each.function === name).map(({ state }) => state)
}

/** Of the version that is deployed; one of an earlier may still be ending. */
async function instanceOf(bench: BenchNode, name: string): Promise<ProcessStatus> {
  const { deployment } = await bench.client.getFunction(name)
  const isIt = (each: ProcessStatus): boolean =>
    each.version === deployment.shares[0]?.versionId && each.function === name && each.state === 'running'
  return (await bench.waitFor(`an instance of ${name}`, (processes) => processes.some(isIt))).find(isIt)!
}

/** Of the process and its children, what they share with others counted by share. */
function memoryMb({ pid }: ProcessStatus): number {
  const of = (each: number): number => {
    const rollup = readFileSync(`/proc/${each}/smaps_rollup`, 'utf8')
    const children = readFileSync(`/proc/${each}/task/${each}/children`, 'utf8').trim().split(' ')
    const own = Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1] ?? Number.NaN) / 1_024
    return children.filter((child) => child !== '').reduce((sum, child) => sum + of(Number(child)), own)
  }
  return of(pid)
}

function makeReport(
  bench: BenchNode,
  { samples, count }: { readonly samples: Samples; readonly count: number },
): Report {
  const baseMs = median(samples.of('docker run', 'docker'))
  const p50 = (row: string, kind: Kind | 'docker'): number => quantile(samples.of(row, kind), 0.5)
  const withRatio = (row: string, kind: Kind | 'docker'): string =>
    samples.of(row, kind).length === 0
      ? '–'
      : `${formatNumber(p50(row, kind))} (${(p50(row, kind) / baseMs).toFixed(3)})`
  const plain = (value: number): string => (Number.isNaN(value) ? '–' : formatNumber(value))
  const row = (name: string, cell: (kind: Kind) => string): string[] => [name, ...KINDS.map(cell)]
  const ratio = (promise: string, [name, kind]: readonly [string, Kind], limit: number) => ({
    promise,
    measured: p50(name, kind) / baseMs,
    limit,
    unit: '× docker run',
  })
  return {
    conditions: [
      ...bench.conditions,
      `${count} samples a row, taking turns; medians; in brackets the ratio to "docker run" of the same Node.js, from before the command to its first answer: ${formatNumber(baseMs)} ms`,
      'first answers: ms from the first byte sent to the router to the first byte back; empty pools: at the driver, from before the start to the first byte back',
      'warm: one request after the other; crash: from SIGKILL to the answer of a request that was being worked on; memory: proportional set of one instance at rest after load',
    ],
    tables: [
      {
        title: 'First answers, ms',
        columns: ['', 'handler (nodejs24)', 'image (HTTP)', 'isolate'],
        rows: [
          row('blank or sandbox ready', (kind) => withRatio('cold', kind)),
          row('empty pools', (kind) => withRatio('empty pools', kind)),
          row('paused', (kind) => withRatio('paused', kind)),
        ],
      },
      {
        title: 'Running',
        columns: ['', 'handler (nodejs24)', 'image (HTTP)', 'isolate'],
        rows: [
          row('warm request, p50 ms', (kind) => plain(p50('warm', kind))),
          row('crash noticed, ms', (kind) => plain(p50('crash', kind))),
          row(`${AT_ONCE} cold at once, p50 ms`, (kind) => plain(p50('at once', kind))),
          row(`${AT_ONCE} cold at once, p99 ms`, (kind) =>
            plain(quantile(samples.of('at once', kind), 0.99)),
          ),
          row('memory at rest, MB', (kind) => plain(p50('memory', kind))),
        ],
      },
    ],
    marks: [
      ratio('cold, platform runtime, blank ready', ['cold', 'code'], 0.12),
      ratio('cold, any image, sandbox ready', ['cold', 'image'], 0.65),
      ratio('empty pools, platform runtime', ['empty pools', 'code'], 1.2),
      ratio('empty pools, any image', ['empty pools', 'image'], 1.2),
      ratio('resume', ['paused', 'code'], 0.02),
      { promise: 'warm invoke, p50', measured: p50('warm', 'code'), limit: 2, unit: 'ms' },
      { promise: 'crash noticed', measured: p50('crash', 'code'), limit: 100, unit: 'ms' },
    ],
  }
}
