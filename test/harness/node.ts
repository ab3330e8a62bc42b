/**
 * A whole node for a test: the real `isola up` in a data directory of its own, on free ports. Everything the node
 * ever listed as its process is looked for again at the end, so that a test leaves nothing behind whatever it killed.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request, type IncomingHttpHeaders } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { NodeStatus } from '../../sdk/model/node-status.ts'

export const ISOLA_BIN = fileURLToPath(new URL('../../sdk/cli/bin.js', import.meta.url))

export interface TestNodeOptions {
  /** Kept by whoever gave it. @default a new one, removed at the end */
  readonly dataDirectory?: string
  /** Further flags of `isola up`. */
  readonly flags?: readonly string[]
  /** The `isola` to start and to run. @default that of this repository */
  readonly bin?: string
}

export interface TestNode {
  readonly httpUrl: string
  readonly controlUrl: string
  readonly token: string
  /** Of the agent. */
  readonly pid: number
  readonly dataDirectory: string
  /** Everything the agents wrote so far, to stdout and stderr. */
  output(): string
  /** Real HTTP to the router, with `host` as its Host header (the port is added). */
  fetch(host: string, path?: string, init?: TestRequest): Promise<TestResponse>
  /** The CLI, pointed at this node. */
  isola(...words: readonly string[]): Promise<CommandOutcome>
  status(): Promise<NodeStatus>
  /** Resolves with the agent's exit code when it ends by itself or by a signal the test sends. */
  exited(): Promise<number>
  /** SIGKILL to the agent alone; resolves when it is gone. */
  kill9(): Promise<void>
  /** A new agent on the same data, after `kill9`; stops the running one otherwise. */
  restart(): Promise<void>
  /** SIGTERM, the drain, and a look at what is left. */
  stop(): Promise<StopReport>
  [Symbol.asyncDispose](): Promise<void>
}

export interface TestRequest {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

export interface TestResponse {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  text(): string
  json(): unknown
  /** As they came over the connection. */
  readonly chunks: readonly Buffer[]
}

export interface CommandOutcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface StopReport {
  readonly exitCode: number
  /** Processes of the node that outlived it. They are killed then; a test asserts that there were none. */
  readonly leftBehind: readonly number[]
}

/** Above what a drain and `waitUntil` work together may take. */
const STOP_TIMEOUT_MS = 75_000
const livePids = new Set<number>()
// A failed assertion, a timeout, a crashed test file: whatever happens, nothing survives the test process.
process.on('exit', () => {
  for (const pid of livePids) kill(pid)
})

export async function startTestNode(options: TestNodeOptions = {}): Promise<TestNode> {
  const dataDirectory = options.dataDirectory ?? mkdtempSync(join(tmpdir(), 'isola-node-'))
  const seenPids = new Set<number>()
  const bin = options.bin ?? ISOLA_BIN
  const start = (): Promise<Agent> => startAgent({ bin, dataDirectory, flags: options.flags ?? [] })
  let agent = await start()
  let earlierOutput = ''
  const remember = async (): Promise<NodeStatus> => {
    const status = await readStatus(agent.ready.controlUrl, readToken(dataDirectory))
    for (const { pid } of status.processes) {
      seenPids.add(pid)
      livePids.add(pid)
    }
    return status
  }
  const cleanUp = (): readonly number[] => {
    const leftBehind = [...seenPids].filter((pid) => isAlive(pid))
    for (const pid of leftBehind) kill(pid)
    for (const pid of seenPids) livePids.delete(pid)
    if (options.dataDirectory === undefined) rmSync(dataDirectory, { recursive: true, force: true })
    return leftBehind
  }
  const stopAgent = async (): Promise<number> => {
    if (agent.child.exitCode === null && agent.child.signalCode === null) {
      await remember().catch(() => undefined)
      agent.child.kill('SIGTERM')
    }
    const timer = setTimeout(() => agent.child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    const code = await agent.exited
    clearTimeout(timer)
    livePids.delete(agent.pid)
    return code
  }
  const stop = async (): Promise<StopReport> => ({ exitCode: await stopAgent(), leftBehind: cleanUp() })
  return {
    get httpUrl() {
      return agent.ready.httpUrl
    },
    get controlUrl() {
      return agent.ready.controlUrl
    },
    get pid() {
      return agent.pid
    },
    get token() {
      return readToken(dataDirectory)
    },
    dataDirectory,
    output: () => earlierOutput + agent.output(),
    fetch: (host, path = '/', init = {}) => fetchFrom(agent.ready.httpUrl, host, path, init),
    isola: (...words) => runIsola([...words, '--data', dataDirectory], { bin }),
    status: remember,
    exited: () => agent.exited,
    async kill9() {
      await remember().catch(() => undefined)
      agent.child.kill('SIGKILL')
      await agent.exited
      livePids.delete(agent.pid)
    },
    async restart() {
      await stopAgent()
      earlierOutput += agent.output()
      agent = await start()
    },
    stop,
    async [Symbol.asyncDispose]() {
      await stop()
    },
  }
}

/** The CLI as a user runs it. */
export function runIsola(
  words: readonly string[],
  options: {
    readonly cwd?: string
    readonly env?: Readonly<Record<string, string>>
    readonly bin?: string
    /** What it reads from stdin. @default nothing */
    readonly input?: string
  } = {},
): Promise<CommandOutcome> {
  return new Promise((resolve) => {
    const child = execFile(
      options.bin ?? ISOLA_BIN,
      [...words],
      { cwd: options.cwd, env: { ...process.env, ...options.env }, maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1
        resolve({ code, stdout, stderr })
      },
    )
    // It may end without having read it.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(options.input)
  })
}

interface Agent {
  readonly child: ChildProcess
  readonly pid: number
  readonly ready: { readonly httpUrl: string; readonly controlUrl: string; readonly pid: number }
  readonly exited: Promise<number>
  output(): string
}

/** Throws with everything the agent wrote if it ends before it is ready. */
function startAgent({ bin, dataDirectory, flags }: Required<TestNodeOptions>): Promise<Agent> {
  const addresses = ['--http', '127.0.0.1:0', '--control', '127.0.0.1:0']
  const child = spawn(bin, ['up', '--data', dataDirectory, ...addresses, ...flags, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const pid = child.pid ?? 0
  livePids.add(pid)
  let output = ''
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const exited = new Promise<number>((resolve) => {
    child.on('close', (code, signal) => resolve(code ?? (signal === 'SIGKILL' ? 137 : 143)))
  })
  return new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      output += `${line}\n`
      const event = JSON.parse(line) as { event: string } & Agent['ready']
      if (event.event === 'ready') resolve({ child, pid, ready: event, exited, output: () => output })
    })
    void exited.then((code) => {
      livePids.delete(pid)
      reject(new Error(`isola up ended with code ${code} before it was ready:\n${output}`))
    })
  })
}

/** Asked over HTTP and not by the CLI: it is done around every kill, and must be quick. */
async function readStatus(controlUrl: string, token: string): Promise<NodeStatus> {
  const response = await fetch(`${controlUrl}/v1/status`, {
    headers: { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(5_000),
  })
  return (await response.json()) as NodeStatus
}

function readToken(dataDirectory: string): string {
  return readFileSync(join(dataDirectory, 'token'), 'utf8').trim()
}

function fetchFrom(httpUrl: string, host: string, path: string, init: TestRequest): Promise<TestResponse> {
  const { hostname, port } = new URL(httpUrl)
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        hostname,
        port,
        path,
        method: init.method ?? 'GET',
        headers: { host: `${host}:${port}`, ...init.headers },
        agent: false,
      },
      (incoming) => {
        const chunks: Buffer[] = []
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
        incoming.on('error', reject)
        incoming.on('end', () => {
          const body = Buffer.concat(chunks)
          const text = (): string => body.toString('utf8')
          const json = (): unknown => JSON.parse(text())
          resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body, chunks, text, json })
        })
      },
    )
    outgoing.on('error', reject)
    outgoing.end(init.body)
  })
}

/** False for a zombie: it is dead, its parent has just not looked yet. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
