/**
 * How long a deploy takes until clients get the new version, and whether anybody notices: 50 deploys of one function
 * under a closed loop, an open loop and long streams at the same time. Each version answers with its own number, so
 * that an answer from an old version after the deploy was acknowledged is seen.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startBenchNode, type BenchNode } from './bench-node.ts'
import { firstAnswer } from './first-answer.ts'
import { openLoopProcess } from './load-process.ts'
import { formatNumber, type BenchOptions, type Report } from './report.ts'
import { requireProgram } from './spawned-process.ts'
import { quantile } from './statistics.ts'
import { keepStreaming, type StreamsResult } from './streams.ts'
import { runWrk, type WrkResult } from './wrk.ts'

const NAME = 'shop'
const HOST = `${NAME}.localhost`
const OPEN_LOOP_RPS = 200
const STREAM_PATH = '/stream'
const STREAM_END = 'the end'
/** Longer than the deploys lie apart: every stream lives through some. */
const STREAM_MS = 2_000

interface Deploys {
  readonly requestMs: number[]
  readonly liveMs: number[]
  readonly trialMs: number[]
  /** From the acknowledgement to the first answer of the new version. */
  readonly staleMs: number[]
  staleAnswers: number
}

export async function run(options: BenchOptions): Promise<Report> {
  requireProgram('wrk', 'wrk')
  const count = options.quick ? 3 : 50
  const directory = mkdtempSync(join(tmpdir(), 'isola-bench-deploy-'))
  const bench = await startBenchNode()
  try {
    await bench.deploy(NAME, source(0))
    const quiet = await deployMany(bench, { first: 1, count, name: 'quiet', progress: options.progress })
    const loaded = await underLoad(bench, { directory, count, progress: options.progress })
    const { closed, open, streams, deploys } = loaded
    const failed = closed.badAnswers + closed.socketErrors + open.failures + streams.broken.length
    for (const failure of [...open.failureSamples, ...streams.broken]) options.progress(`FAILED: ${failure}`)
    return {
      conditions: [
        ...bench.conditions,
        `${count} deploys through the control API, each a new version of one function, one after the other`,
        `load: wrk with 8 connections for ${formatNumber(loaded.seconds)} s, ${OPEN_LOOP_RPS} requests/s open loop, 4 streams of ${STREAM_MS / 1_000} s each one after the other`,
        'deploy: the whole control request with trial start; live: as the answer reports it; stale: from the acknowledgement to the first answer of the new version, 0 where the first one was',
      ],
      tables: [
        {
          title: 'Deploys',
          columns: [
            '',
            'deploy p50 ms',
            'p99 ms',
            'live p50 ms',
            'p99 ms',
            'trial p50 ms',
            'stale p99 ms',
            'stale answers',
          ],
          rows: [deployRow('no load', quiet), deployRow('under load', deploys)],
        },
        {
          title: 'Requests during the deploys under load',
          columns: ['', 'requests', 'failed', 'p50 ms', 'p99 ms'],
          rows: [
            [
              'closed loop',
              formatNumber(closed.requests),
              String(closed.badAnswers + closed.socketErrors),
              formatNumber(closed.p50Ms),
              formatNumber(closed.p99Ms),
            ],
            [
              'open loop',
              formatNumber(open.requests),
              String(open.failures),
              formatNumber(open.p50Us / 1_000),
              formatNumber(open.p99Us / 1_000),
            ],
            ['streams', String(streams.whole + streams.broken.length), String(streams.broken.length), '', ''],
          ],
        },
      ],
      marks: [
        {
          promise: `failed requests over ${count} deploys under load`,
          measured: failed,
          limit: 0,
          unit: 'requests',
        },
        {
          promise: 'live after the acknowledgement, p99',
          measured: quantile([...quiet.staleMs, ...deploys.staleMs], 0.99),
          limit: 1_000,
          unit: 'ms',
        },
      ],
    }
  } finally {
    await bench.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

async function underLoad(
  bench: BenchNode,
  options: { readonly directory: string; readonly count: number; readonly progress: (line: string) => void },
) {
  const closedParts: WrkResult[] = []
  const openParts: Awaited<ReturnType<typeof openLoopProcess>>[] = []
  const deployed = new AbortController()
  const beganMs = performance.now()
  const repeat = async (load: () => Promise<void>): Promise<void> => {
    while (!deployed.signal.aborted) await load()
  }
  const streams = keepStreaming({
    where: bench.where,
    hostHeader: HOST,
    path: STREAM_PATH,
    streams: 4,
    ending: STREAM_END,
  })
  const loops = [
    repeat(async () => {
      const url = `http://127.0.0.1:${bench.where.port}/`
      closedParts.push(
        await runWrk({ url, host: HOST, connections: 8, seconds: 3, directory: options.directory }),
      )
    }),
    repeat(async () => {
      openParts.push(
        await openLoopProcess({
          where: bench.where,
          host: HOST,
          path: '/',
          requestsPerSecond: OPEN_LOOP_RPS,
          seconds: 3,
          connections: 8,
        }),
      )
    }),
  ]
  let deploys: Deploys
  let streamed: StreamsResult
  try {
    deploys = await deployMany(bench, {
      first: 1_000,
      count: options.count,
      name: 'under load',
      progress: options.progress,
    })
  } finally {
    deployed.abort()
    await Promise.all(loops)
    streamed = await streams.stop()
  }
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
  const worst = (values: readonly number[]): number => Math.max(...values)
  return {
    deploys,
    seconds: (performance.now() - beganMs) / 1_000,
    streams: streamed,
    closed: {
      requests: sum(closedParts.map(({ requests }) => requests)),
      badAnswers: sum(closedParts.map(({ badAnswers }) => badAnswers)),
      socketErrors: sum(closedParts.map(({ socketErrors }) => socketErrors)),
      p50Ms: quantile(
        closedParts.map(({ p50Ms }) => p50Ms),
        0.5,
      ),
      p99Ms: worst(closedParts.map(({ p99Ms }) => p99Ms)),
    },
    open: {
      requests: sum(openParts.map(({ requests }) => requests)),
      failures: sum(openParts.map(({ failures }) => failures)),
      failureSamples: openParts.flatMap(({ failureSamples }) => failureSamples),
      p50Us: quantile(
        openParts.map(({ p50Us }) => p50Us),
        0.5,
      ),
      p99Us: worst(openParts.map(({ p99Us }) => p99Us)),
    },
  }
}

async function deployMany(
  bench: BenchNode,
  options: {
    readonly first: number
    readonly count: number
    readonly name: string
    readonly progress: (line: string) => void
  },
): Promise<Deploys> {
  const deploys: Deploys = { requestMs: [], liveMs: [], trialMs: [], staleMs: [], staleAnswers: 0 }
  for (let index = 0; index < options.count; index++) {
    options.progress(`deploy ${index + 1} of ${options.count}, ${options.name}`)
    const number = options.first + index
    const beganMs = performance.now()
    const result = await bench.deploy(NAME, source(number))
    const acknowledgedMs = performance.now()
    deploys.requestMs.push(acknowledgedMs - beganMs)
    deploys.liveMs.push(result.liveMs)
    deploys.trialMs.push(result.trialMs ?? 0)
    deploys.staleMs.push(await untilAnswered(bench, { number, acknowledgedMs, deploys }))
  }
  return deploys
}

async function untilAnswered(
  bench: BenchNode,
  options: { readonly number: number; readonly acknowledgedMs: number; readonly deploys: Deploys },
): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    const { text } = await firstAnswer(bench.where, HOST)
    if (text.includes(`version ${options.number}.`))
      return attempt === 0 ? 0 : performance.now() - options.acknowledgedMs
    options.deploys.staleAnswers++
    if (attempt > 1_000) throw new Error(`version ${options.number} is not live; the last answer was ${text}`)
  }
}

function source(number: number): string {
  return `
async function stream(controller) {
  for (let left = ${STREAM_MS / 100}; left > 0; left--) {
    controller.enqueue(new TextEncoder().encode('line\\n'))
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  controller.enqueue(new TextEncoder().encode('${STREAM_END}'))
  controller.close()
}
export default {
  fetch(request) {
    if (request.url.endsWith('${STREAM_PATH}')) return new Response(new ReadableStream({ start(controller) { stream(controller) } }))
    return new Response('version ${number}.')
  },
}
`
}

function deployRow(name: string, deploys: Deploys): string[] {
  const cell = (list: readonly number[], share: number): string => formatNumber(quantile(list, share))
  return [
    name,
    cell(deploys.requestMs, 0.5),
    cell(deploys.requestMs, 0.99),
    cell(deploys.liveMs, 0.5),
    cell(deploys.liveMs, 0.99),
    cell(deploys.trialMs, 0.5),
    cell(deploys.staleMs, 0.99),
    String(deploys.staleAnswers),
  ]
}
