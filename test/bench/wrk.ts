/** Closed-loop load by wrk: as many requests as so many connections can do. For throughput and CPU, not for latency. */
import { execFile } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

export interface WrkOptions {
  readonly url: string
  readonly host: string
  readonly connections: number
  readonly seconds: number
  /** A POST with a body of so many bytes, instead of a GET. */
  readonly postBytes?: number
  /** Instead of `host`: requests go to these in turn. */
  readonly hosts?: readonly string[]
  /** For the script that wrk reads. */
  readonly directory: string
}

export interface WrkResult {
  readonly requests: number
  readonly requestsPerSecond: number
  readonly megabytesPerSecond: number
  /** Connections that failed, broke or timed out. */
  readonly socketErrors: number
  /** Answers of 400 and above. */
  readonly badAnswers: number
  readonly p50Ms: number
  readonly p99Ms: number
}

export async function runWrk(options: WrkOptions): Promise<WrkResult> {
  const script = join(options.directory, `wrk-${process.pid}-${scripts++}.lua`)
  writeFileSync(script, luaScript(options))
  try {
    const argv = ['-t1', `-c${options.connections}`, `-d${options.seconds}s`, '-s', script, options.url]
    const { stdout } = await promisify(execFile)('wrk', argv, { maxBuffer: 1 << 20 })
    const line = stdout.split('\n').find((text) => text.startsWith('{'))
    if (line === undefined) throw new Error(`wrk said nothing that can be read:\n${stdout}`)
    return JSON.parse(line) as WrkResult
  } finally {
    rmSync(script, { force: true })
  }
}

let scripts = 0

/** The summary as JSON: wrk's own text has units that change with the size. */
function luaScript(options: WrkOptions): string {
  const lines = [`wrk.headers["Host"] = ${JSON.stringify(options.host)}`]
  if (options.postBytes !== undefined) {
    lines.push('wrk.method = "POST"', `wrk.body = string.rep("x", ${options.postBytes})`)
  }
  if (options.hosts !== undefined) {
    lines.push(
      'local prepared, turn = {}, 0',
      'init = function()',
      ...options.hosts.map(
        (host, index) => `  prepared[${index}] = wrk.format(nil, nil, {["Host"] = ${JSON.stringify(host)}})`,
      ),
      'end',
      `request = function() turn = (turn + 1) % ${options.hosts.length}; return prepared[turn] end`,
    )
  }
  lines.push(
    'done = function(summary, latency, requests)',
    '  local e, seconds = summary.errors, summary.duration / 1e6',
    '  print(string.format(\'{"requests":%d,"requestsPerSecond":%.3f,"megabytesPerSecond":%.3f,"socketErrors":%d,"badAnswers":%d,"p50Ms":%.3f,"p99Ms":%.3f}\',',
    '    summary.requests, summary.requests / seconds, summary.bytes / seconds / 1e6,',
    '    e.connect + e.read + e.write + e.timeout, e.status, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))',
    'end',
  )
  return lines.join('\n')
}
