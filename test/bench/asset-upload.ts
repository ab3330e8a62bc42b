/**
 * A site of 1,000 static files uploaded through wrangler's API as wrangler does: the list, three requests at a time with
 * the files in base64, the version; then the same site again with one file changed. Beside the time, what the agent's memory
 * grows by meanwhile: its peak, as the kernel keeps it.
 */
import { randomBytes } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { readFileSync, writeFileSync } from 'node:fs'
import { ACCOUNT_ID } from '../../wrangler-compat/api/ports.ts'
import { hashOf, manifestOf } from '../harness/asset-client.ts'
import { startBenchNode, type BenchNode } from './bench-node.ts'
import { cpuMsOf } from './process-usage.ts'
import { formatNumber, type BenchOptions, type Report } from './report.ts'

type Site = Record<string, { readonly body: Uint8Array; readonly contentType: string }>

interface Upload {
  readonly what: string
  readonly files: number
  readonly sentMib: number
  readonly listMs: number
  readonly filesMs: number
  readonly versionMs: number
  readonly agentCpuMs: number
  readonly agentGrowthMib: number
}

const CONCURRENCY = 3

export async function run({ quick, progress }: BenchOptions): Promise<Report> {
  const count = quick ? 100 : 1_000
  const site = makeSite(count)
  const bench = await startBenchNode()
  try {
    const uploads: Upload[] = []
    // What a first upload loads and compiles is not what a site takes.
    await upload(bench, 'warm-up', makeSite(20))
    progress(`${count} files`)
    uploads.push(await upload(bench, `${count} new files`, site))
    progress('the same with one changed')
    const changed = {
      ...site,
      '/changed.txt': { body: randomBytes(1_000), contentType: 'text/plain; charset=utf-8' },
    }
    uploads.push(await upload(bench, 'one more file', changed))
    return {
      conditions: [
        ...bench.conditions,
        `${count} files of random bytes, 1 to 64 KiB and every hundredth of 2 MiB, uploaded as wrangler does: ${CONCURRENCY} requests at a time, base64`,
        'hashing the files is the client’s work and not counted; version: the upload of the version until its answer',
      ],
      tables: [
        {
          title: 'Uploads',
          columns: [
            '',
            'files sent',
            'MiB',
            'list ms',
            'files ms',
            'version ms',
            'agent CPU ms',
            'agent MiB more',
          ],
          rows: uploads.map((each) => [
            each.what,
            String(each.files),
            ...[
              each.sentMib,
              each.listMs,
              each.filesMs,
              each.versionMs,
              each.agentCpuMs,
              each.agentGrowthMib,
            ].map(formatNumber),
          ]),
        },
      ],
      marks: [
        {
          promise: `growth of the agent while ${count} files come`,
          measured: Math.max(...uploads.map(({ agentGrowthMib }) => agentGrowthMib)),
          limit: 100,
          unit: 'MB',
        },
      ],
    }
  } finally {
    await bench.stop()
  }
}

function makeSite(count: number): Site {
  return Object.fromEntries(
    Array.from({ length: count }, (_, index) => {
      const sizeBytes = index % 100 === 99 ? 2 * 1024 * 1024 : 1_024 * (1 + (index % 64))
      return [
        `/files/${index}.bin`,
        { body: randomBytes(sizeBytes), contentType: 'application/octet-stream' },
      ]
    }),
  )
}

async function upload(bench: BenchNode, what: string, site: Site): Promise<Upload> {
  const pid = await agentPid(bench)
  const bodyByHash = new Map(Object.entries(site).map(([path, file]) => [hashOf(path, file.body), file]))
  const manifest = manifestOf(site)
  // Connections that were closed while this thread hashed are seen to be.
  await nextTurn()
  const before = { cpuMs: cpuMsOf(pid), rssMib: startPeak(pid) }
  const { value: session, ms: listMs } = await timed(() =>
    call(bench, 'POST', `/workers/scripts/site/assets-upload-session`, {
      body: JSON.stringify({ manifest }),
    }),
  )
  const { jwt = '', buckets = [] } = session
  let completion = jwt
  const queue = [...buckets]
  const work = async (): Promise<void> => {
    for (let hashes = queue.shift(); hashes !== undefined; hashes = queue.shift()) {
      const body = new FormData()
      for (const hash of hashes) {
        const { body: bytes, contentType: type } = bodyByHash.get(hash) ?? {
          body: new Uint8Array(),
          contentType: '',
        }
        body.append(hash, new File([Buffer.from(bytes).toString('base64')], hash, { type }), hash)
      }
      const answer = await call(bench, 'POST', '/workers/assets/upload?base64=true', { body, token: jwt })
      completion = answer.jwt ?? completion
    }
  }
  const { ms: filesMs } = await timed(() => Promise.all(Array.from({ length: CONCURRENCY }, work)))
  const form = new FormData()
  form.set(
    'metadata',
    JSON.stringify({ compatibility_date: '2026-11-01', assets: { jwt: completion, config: {} } }),
  )
  const { ms: versionMs } = await timed(() => call(bench, 'PUT', '/workers/scripts/site', { body: form }))
  const sent = buckets.flat().map((hash) => bodyByHash.get(hash)?.body.byteLength ?? 0)
  return {
    what,
    files: sent.length,
    sentMib: sent.reduce((sum, bytes) => sum + bytes, 0) / 1024 / 1024,
    listMs,
    filesMs,
    versionMs,
    agentCpuMs: cpuMsOf(pid) - before.cpuMs,
    agentGrowthMib: statusMib(pid, 'VmHWM') - before.rssMib,
  }
}

async function agentPid(bench: BenchNode): Promise<number> {
  const { processes } = await bench.client.status()
  const agent = processes.find(({ role }) => role === 'agent')
  if (agent?.pid === undefined) throw new Error('the node does not say which process its agent is')
  return agent.pid
}

/** From now on the kernel keeps the peak anew. */
function startPeak(pid: number): number {
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
  return statusMib(pid, 'VmRSS')
}

function statusMib(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) / 1024
}

async function timed<T>(work: () => Promise<T>): Promise<{ readonly value: T; readonly ms: number }> {
  const startedAtMs = performance.now()
  const value = await work()
  return { value, ms: performance.now() - startedAtMs }
}

async function call(
  { node }: BenchNode,
  method: string,
  path: string,
  { body, token = node.token }: { readonly body: FormData | string; readonly token?: string },
): Promise<{ readonly jwt?: string; readonly buckets?: readonly (readonly string[])[] }> {
  const response = await fetch(`${node.controlUrl}/client/v4/accounts/${ACCOUNT_ID}${path}`, {
    method,
    body,
    headers: { authorization: `Bearer ${token}` },
  })
  const answer = (await response.json()) as {
    success: boolean
    errors: { message: string }[]
    result: { jwt?: string; buckets?: string[][] }
  }
  if (!answer.success) throw new Error(`${method} ${path}: ${answer.errors[0]?.message}`)
  return answer.result
}
