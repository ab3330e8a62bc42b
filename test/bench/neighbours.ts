/**
 * What a function notices of a neighbour that misbehaves: a hello at a steady rate, alone and beside each neighbour in
 * turn, several rounds, so that what drifts on the machine is in both. Open loop: a stall delays everything that was
 * due meanwhile, as it would delay real visitors.
 */
import { sourceOf, startBenchNode, type BenchNode } from './bench-node.ts'
import { openLoopProcess } from './load-process.ts'
import type { OpenLoopResult } from './open-loop.ts'
import { formatNumber, type BenchOptions, type Mark, type Report } from './report.ts'
import { formatMedian, median } from './statistics.ts'

const HELLO_RPS = 20

interface Neighbour {
  readonly name: string
  readonly functionName: string
  readonly source: string
  readonly requestsPerSecond: number
}

const NEIGHBOURS: readonly Neighbour[] = [
  {
    name: 'an endless loop on every request',
    functionName: 'loop',
    source: 'export default { fetch() { for (;;) {} } }',
    requestsPerSecond: 5,
  },
  {
    name: 'a heap bomb on every request',
    functionName: 'bomb',
    source:
      'export default { fetch() { const all = []; for (;;) all.push(new Array(100_000).fill(Math.random())) } }',
    requestsPerSecond: 5,
  },
  {
    name: '100 × its own rate',
    functionName: 'flood',
    source: sourceOf('flood'),
    requestsPerSecond: 100 * HELLO_RPS,
  },
]

interface Sample {
  readonly alone: OpenLoopResult
  readonly beside: OpenLoopResult
  readonly neighbour: OpenLoopResult
}

export async function run(options: BenchOptions): Promise<Report> {
  const rounds = options.quick ? 1 : 5
  const seconds = options.quick ? 2 : 12
  const bench = await startBenchNode()
  try {
    await bench.deploy('hello', sourceOf('hello'))
    await bench.client.setPolicy('hello', { min: 1 })
    for (const { functionName, source } of NEIGHBOURS) await bench.deploy(functionName, source)
    const samples = new Map<Neighbour, Sample[]>(NEIGHBOURS.map((neighbour) => [neighbour, []]))
    for (let round = 1; round <= rounds; round++) {
      for (const neighbour of NEIGHBOURS) {
        options.progress(`round ${round} of ${rounds}: ${neighbour.name}`)
        samples.get(neighbour)!.push(await sample(bench, neighbour, seconds))
      }
    }
    const failures = [...samples.values()].flat().flatMap(({ beside }) => beside.failureSamples)
    for (const failure of failures) options.progress(`FAILED: ${failure}`)
    return makeReport(bench, { samples, rounds, seconds })
  } finally {
    await bench.stop()
  }
}

async function sample(bench: BenchNode, neighbour: Neighbour, seconds: number): Promise<Sample> {
  const hello = (): Promise<OpenLoopResult> => load(bench, 'hello', HELLO_RPS, seconds)
  const alone = await hello()
  // The neighbour begins before and ends after: what is measured is all beside it.
  const other = load(bench, neighbour.functionName, neighbour.requestsPerSecond, seconds + 2)
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  const beside = await hello()
  return { alone, beside, neighbour: await other }
}

function load(
  bench: BenchNode,
  functionName: string,
  requestsPerSecond: number,
  seconds: number,
): Promise<OpenLoopResult> {
  return openLoopProcess({
    where: bench.where,
    host: `${functionName}.localhost`,
    path: '/',
    requestsPerSecond,
    seconds,
    connections: 16,
  })
}

function makeReport(
  bench: BenchNode,
  taken: { samples: ReadonlyMap<Neighbour, readonly Sample[]>; rounds: number; seconds: number },
): Report {
  const rows: string[][] = []
  const marks: Mark[] = []
  for (const [{ name }, samples] of taken.samples) {
    const p99 = (pick: (each: Sample) => OpenLoopResult): number[] =>
      samples.map((each) => pick(each).p99Us / 1_000)
    const alone = p99((each) => each.alone)
    const beside = p99((each) => each.beside)
    const failed = samples.reduce((sum, each) => sum + each.beside.failures, 0)
    const requests = samples.reduce((sum, each) => sum + each.beside.requests, 0)
    const others = samples.reduce((sum, each) => sum + each.neighbour.requests, 0)
    const othersFailed = samples.reduce((sum, each) => sum + each.neighbour.failures, 0)
    const ratio = median(beside.map((value, index) => value / alone[index]!))
    rows.push([
      name,
      formatNumber(requests),
      String(failed),
      formatMedian(alone),
      formatMedian(beside),
      formatNumber(ratio),
      `${formatNumber(others)} (${formatNumber(othersFailed)})`,
    ])
    marks.push(
      { promise: `failed requests of hello beside ${name}`, measured: failed, limit: 0, unit: 'requests' },
      { promise: `p99 of hello beside ${name}, of alone`, measured: ratio, limit: 2, unit: '×' },
    )
  }
  return {
    conditions: [
      ...bench.conditions,
      `hello: ${HELLO_RPS} requests/s open loop, ${taken.seconds} s alone and ${taken.seconds} s beside each neighbour, ${taken.rounds} rounds; default limits and policies, min 1 for hello`,
      'p99 in ms from when a request was due: median of the rounds and their range; the ratio is the median of the ratios within a round',
    ],
    tables: [
      {
        title: 'hello beside a neighbour',
        columns: [
          'neighbour',
          'requests',
          'failed',
          'p99 alone',
          'p99 beside',
          'ratio',
          'neighbour’s own (failed)',
        ],
        rows,
      },
    ],
    marks,
  }
}
