/**
 * `wrangler deploy` of hello, the first and a later one, against a node and against a stub that answers every call at once
 * with what the node answered. wrangler itself takes most of the time; what is the node's is the time inside its API, from a
 * call's last byte to the answer's last. Between both stands a recorder, so that they are measured alike.
 */
import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { openProject, type Project } from '../harness/wrangler.ts'
import { startBenchNode, type BenchNode } from './bench-node.ts'
import { formatNumber, type BenchOptions, type Report } from './report.ts'
import { formatMedian, median } from './statistics.ts'

interface Call {
  /** Method and path, without what is of one deploy only. */
  readonly name: string
  readonly ms: number
  readonly answer: Answer
}

interface Answer {
  readonly status: number
  readonly body: Uint8Array<ArrayBuffer>
}

interface Deploy {
  readonly wallMs: number
  readonly calls: readonly Call[]
}

interface Recorder {
  readonly url: string
  /** Calls from here on are kept, and answered by the node, or from what it answered in another deploy. */
  begin(replay?: readonly Call[]): void
  readonly calls: readonly Call[]
  close(): Promise<void>
}

const KINDS = ['first', 'later'] as const
type Kind = (typeof KINDS)[number]

export async function run({ quick, progress }: BenchOptions): Promise<Report> {
  const rounds = quick ? 2 : 10
  const bench = await startBenchNode()
  const recorder = await startRecorder(bench.node.controlUrl)
  const deploys: Record<Kind, { node: Deploy[]; stub: Deploy[] }> = {
    first: { node: [], stub: [] },
    later: { node: [], stub: [] },
  }
  try {
    const target = { controlUrl: recorder.url, token: bench.node.token }
    await using project = await openProject(target, 'hello')
    let name = 'hello'
    // What a first deploy loads and compiles, here and in wrangler, is not what a deploy takes.
    for (let round = -1; round < rounds; round++) {
      progress(round < 0 ? 'warm-up' : `round ${round + 1} of ${rounds}`)
      await project.edit('wrangler.jsonc', `"${name}"`, `"hello-${round + 1}"`)
      name = `hello-${round + 1}`
      for (const [index, kind] of KINDS.entries()) {
        const answer = `${kind} of round ${round}`
        await project.write(
          'src/index.ts',
          `export default { fetch() { return new Response('${answer}') } }\n`,
        )
        const node = await deploy(project, recorder)
        await checkLive(bench, { name, answer })
        const stub = await deploy(project, recorder, node.calls)
        if (round < 0) continue
        deploys[KINDS[index]!].node.push(node)
        deploys[KINDS[index]!].stub.push(stub)
      }
    }
  } finally {
    await recorder.close()
    await bench.stop()
  }
  return report(bench.conditions, rounds, deploys)
}

async function deploy(project: Project, recorder: Recorder, replay?: readonly Call[]): Promise<Deploy> {
  recorder.begin(replay)
  const beganMs = performance.now()
  await project.run(['deploy'])
  return { wallMs: performance.now() - beganMs, calls: recorder.calls }
}

/** Live when wrangler ends, and not some time later. */
async function checkLive(
  bench: BenchNode,
  { name, answer }: Record<'name' | 'answer', string>,
): Promise<void> {
  const text = (await bench.node.fetch(`${name}.localhost`)).text()
  if (text !== answer)
    throw new Error(`${name} answers ${JSON.stringify(text)} and not ${JSON.stringify(answer)}`)
}

async function startRecorder(controlUrl: string): Promise<Recorder> {
  let calls: Call[] = []
  let replay: Call[] | undefined
  const answerOf = async (request: Request, name: string): Promise<Answer> => {
    if (replay !== undefined) {
      const index = replay.findIndex((call) => call.name === name)
      const [call] = index < 0 ? [] : replay.splice(index, 1)
      if (call === undefined) throw new Error(`the stub has no answer to ${name}`)
      return call.answer
    }
    const response = await fetch(request)
    return { status: response.status, body: new Uint8Array(await response.arrayBuffer()) }
  }
  const server: Server = createServer((incoming, response) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.on('end', () => {
      const { method = '', url = '', headers } = incoming
      const body = Buffer.concat(chunks)
      const name = `${method} ${url.replace(/\?.*$/, '')}`
      const request = new Request(`${controlUrl}${url}`, {
        method,
        headers: {
          authorization: headers.authorization ?? '',
          ...(headers['content-type'] !== undefined && { 'content-type': headers['content-type'] }),
        },
        ...(body.length > 0 && { body }),
      })
      const beganMs = performance.now()
      answerOf(request, name).then(
        (answer) => {
          calls.push({ name, ms: performance.now() - beganMs, answer })
          send(response, answer)
        },
        (error: unknown) => send(response, { status: 502, body: new TextEncoder().encode(String(error)) }),
      )
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    begin(from) {
      calls = []
      replay = from && [...from]
    },
    get calls() {
      return calls
    },
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

function send(response: ServerResponse, { status, body }: Answer): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(body)
}

function report(
  conditions: readonly string[],
  rounds: number,
  deploys: Readonly<Record<Kind, { readonly node: readonly Deploy[]; readonly stub: readonly Deploy[] }>>,
): Report {
  const insideMs = ({ calls }: Deploy): number => calls.reduce((sum, { ms }) => sum + ms, 0)
  return {
    conditions: [
      ...conditions,
      `the wrangler of npm, ${rounds} rounds of a new Worker and then a change of it, each against the node and the stub in turn; median (least–most)`,
      'inside the API: the sum over the calls of a deploy; the function answers as soon as wrangler has ended (checked each time)',
    ],
    tables: [
      {
        title: 'wrangler deploy of hello',
        columns: ['', 'calls', 'inside the API ms', 'whole command ms', 'against the stub ms'],
        rows: KINDS.map((kind) => [
          kind,
          String(deploys[kind].node[0]?.calls.length),
          formatMedian(deploys[kind].node.map(insideMs)),
          formatMedian(deploys[kind].node.map(({ wallMs }) => wallMs)),
          formatMedian(deploys[kind].stub.map(({ wallMs }) => wallMs)),
        ]),
      },
      ...KINDS.map((kind) => ({
        title: `Calls of a ${kind} deploy`,
        columns: ['', 'median ms'],
        rows: callRows(deploys[kind].node),
      })),
    ],
    marks: [],
  }
}

function callRows(deploys: readonly Deploy[]): readonly (readonly string[])[] {
  const names = deploys[0]?.calls.map(({ name }) => nameOf(name)) ?? []
  return names.map((name, index) => [
    name,
    formatNumber(median(deploys.flatMap(({ calls }) => calls[index]?.ms ?? []))),
  ])
}

function nameOf(call: string): string {
  return call.replace('/client/v4/accounts/isola', '').replace(/hello-\d+/, ':script')
}
