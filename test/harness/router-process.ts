/** A real router process with the test in the agent's place, and raw sockets where its clients are. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Policy } from '../../sdk/model/policy.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../../sdk/model/function-limits.ts'
import { DEFAULT_POLICY } from '../../sdk/model/policy.ts'
import type { RouterLimits } from '../../sdk/model/limits.ts'
import type { SnapshotFunction } from '../../sdk/model/snapshot.ts'
import { connectToChannel, openChannel, type Channel } from '../../runtime/pool/channel.ts'
import type { AgentToRouter, Freezer, RouterToAgent } from '../../runtime/pool/wire.ts'
import { aFunction } from './snapshots.ts'

const MAIN = fileURLToPath(new URL('../../router/main.ts', import.meta.url))

export interface TestRouterOptions {
  readonly limits?: Partial<RouterLimits>
  readonly flags?: readonly string[]
  readonly policy?: Partial<Policy>
}

/** The test as agent: everything the router said so far, and what it says next. */
export interface TestAgent {
  readonly messages: readonly RouterToAgent[]
  send(message: AgentToRouter): void
  /** The first message, said already or yet to come, of the type for which `accept` holds. */
  heard<Type extends RouterToAgent['type']>(
    type: Type,
    accept?: (message: Extract<RouterToAgent, { type: Type }>) => boolean,
  ): Promise<Extract<RouterToAgent, { type: Type }>>
  close(): void
}

export interface TestRouter {
  readonly port: number
  readonly pid: number
  readonly directory: string
  readonly controlSocketPath: string
  readonly process: ChildProcess
  /** Host header of the function `hello`. */
  readonly host: string
  agent: TestAgent
  /** What is to end with the router: instances, mostly. */
  readonly undo: AsyncDisposableStack
  stderr(): string
  connectAgent(): Promise<TestAgent>
  /** Sends a snapshot and waits until it is in force. Without arguments: `hello` alone, on `hello.localhost`. */
  apply(functions?: readonly SnapshotFunction[], generation?: number): Promise<void>
  /** A socket path for an instance. */
  socketPath(id: string): string
  up(
    id: string,
    options?: {
      readonly versionId?: string
      readonly functionName?: string
      readonly cold?: boolean
      readonly freezer?: Freezer
    },
  ): void
  open(): Promise<RawClient>
  /** One request on a connection of its own; resolves when the router has closed it or the response is whole. */
  ask(head: string, body?: string | Buffer): Promise<RawResponse>
  exit(): Promise<number | null>
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export interface RawResponse {
  readonly status: number
  readonly head: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/** A client that sends exactly the bytes it is told to. */
export interface RawClient {
  readonly socket: Socket
  send(bytes: string | Buffer): void
  /** All bytes so far. */
  received(): string
  /** Resolves with all bytes once `accept` holds of them; rejects if the connection ends before. */
  until(accept: (received: string) => boolean): Promise<string>
  /** The next whole response; `isHead`: one without a body. */
  response(options?: { readonly isHead?: boolean }): Promise<RawResponse>
  closed(): Promise<string>
}

const FRESH_GENERATION = { value: 0 }

export async function startTestRouter(options: TestRouterOptions = {}): Promise<TestRouter> {
  const directory = mkdtempSync(join(tmpdir(), 'isola-router-'))
  const controlSocketPath = join(directory, 'control.sock')
  const limits = Object.entries(options.limits ?? {}).flatMap(([name, value]) => [
    '--limit',
    `${name}=${value}`,
  ])
  const flags = [...limits, ...(options.flags ?? [])]
  const child = spawn(
    process.execPath,
    [MAIN, '--socket', controlSocketPath, '--http', '127.0.0.1:0', ...flags],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  )
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const exited = once(child, 'exit') as Promise<[number | null]>
  const connectAgent = async (): Promise<TestAgent> =>
    openAgent(await connectToChannel(controlSocketPath, 10_000))
  const agent = await connectAgent().catch((error: unknown) => {
    child.kill('SIGKILL')
    throw new Error(`the router did not start: ${stderr}`, { cause: error })
  })
  const { httpPort: port } = await agent.heard('hello')
  const open = (): Promise<RawClient> => openRawClient(port)
  const router: TestRouter = {
    port,
    pid: child.pid!,
    directory,
    controlSocketPath,
    process: child,
    host: `hello.localhost:${port}`,
    agent,
    undo: new AsyncDisposableStack(),
    stderr: () => stderr,
    connectAgent,
    async apply(functions = [hello(options.policy)], generation = ++FRESH_GENERATION.value) {
      const { agent } = router
      const before = agent.messages.length
      const assetsDirectory = join(directory, 'assets')
      const snapshot = { generation, baseDomain: 'localhost', assetsDirectory, functions }
      agent.send({ type: 'snapshot', snapshot })
      await agent.heard(
        'applied',
        (message) => message.generation === generation && agent.messages.indexOf(message, before) !== -1,
      )
    },
    socketPath: (id) => join(directory, `${id}.sock`),
    up(id, { versionId = 'hello-v1', functionName = 'hello', cold = false, freezer } = {}) {
      const socketPath = join(directory, `${id}.sock`)
      const instance = { id, functionName, versionId, socketPath, ...(freezer && { freezer }) }
      router.agent.send({ type: 'instance-up', instance, cold })
    },
    open,
    async ask(head, body = '') {
      const client = await open()
      client.send(
        Buffer.concat([Buffer.from(head, 'latin1'), typeof body === 'string' ? Buffer.from(body) : body]),
      )
      const response = await client.response({ isHead: head.startsWith('HEAD ') })
      client.socket.destroy()
      return response
    },
    exit: async () => (await exited)[0],
    async stop() {
      child.kill('SIGKILL')
      await exited
      await router.undo.disposeAsync()
      rmSync(directory, { recursive: true, force: true })
    },
    [Symbol.asyncDispose]: () => router.stop(),
  }
  return router
}

export function hello(
  policy: Partial<Policy> = {},
  limits: Partial<SnapshotFunction['limits']> = {},
): SnapshotFunction {
  return aFunction('hello', {
    baseDomainHost: true,
    policy: { ...DEFAULT_POLICY, ...policy },
    limits: { ...DEFAULT_FUNCTION_LIMITS, ...limits },
  })
}

function openAgent(socket: Socket): TestAgent {
  const messages: RouterToAgent[] = []
  const listeners = new Set<() => void>()
  const channel: Channel<AgentToRouter> = openChannel<RouterToAgent, AgentToRouter>(socket, {
    onMessage: (message) => {
      messages.push(message)
      for (const listener of listeners) listener()
    },
    onClose: () => undefined,
  })
  return {
    messages,
    send: (message) => void channel.send(message),
    heard: (type, accept = () => true) =>
      new Promise((resolve) => {
        const look = (): void => {
          for (const message of messages) {
            if (message.type !== type || !accept(message as never)) continue
            listeners.delete(look)
            resolve(message as never)
            return
          }
        }
        listeners.add(look)
        look()
      }),
    close: () => socket.destroy(),
  }
}

async function openRawClient(port: number): Promise<RawClient> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  await once(socket, 'connect')
  let received: Buffer = Buffer.alloc(0)
  let taken = 0
  let ended = false
  const listeners = new Set<() => void>()
  const notify = (): void => {
    for (const listener of listeners) listener()
  }
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk])
    notify()
  })
  socket.on('error', () => undefined)
  for (const event of ['end', 'close']) {
    socket.on(event, () => {
      ended = true
      notify()
    })
  }
  const when = <Value>(find: () => Value | undefined, what: string): Promise<Value> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const value = find()
        if (value === undefined && !ended) return
        listeners.delete(look)
        if (value === undefined)
          reject(new Error(`the connection ended before ${what}: ${received.toString('latin1')}`))
        else resolve(value)
      }
      listeners.add(look)
      look()
    })
  return {
    socket,
    send: (bytes) => void socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes),
    received: () => received.toString('latin1'),
    until: (accept) =>
      when(() => {
        const text = received.toString('latin1')
        return accept(text) ? text : undefined
      }, 'what was waited for'),
    async response({ isHead = false } = {}) {
      const { response, end } = await when(
        () => readResponse(received.subarray(taken), { isHead, ended }),
        'a whole response',
      )
      taken += end
      return response
    },
    closed: () => when(() => (ended ? received.toString('latin1') : undefined), ''),
  }
}

function readResponse(
  bytes: Buffer,
  options: { readonly isHead: boolean; readonly ended: boolean },
): { response: RawResponse; end: number } | undefined {
  const headEnd = bytes.indexOf('\r\n\r\n')
  if (headEnd === -1) return undefined
  const head = bytes.toString('latin1', 0, headEnd)
  const headers: Record<string, string> = {}
  for (const line of head.split('\r\n').slice(1)) {
    const colon = line.indexOf(':')
    const name = line.slice(0, colon).toLowerCase()
    const value = line.slice(colon + 1).trim()
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value
  }
  const status = Number(head.slice(9, 12))
  const start = headEnd + 4
  const whole = (body: Buffer, end: number): { response: RawResponse; end: number } => ({
    response: { status, head, headers, body },
    end,
  })
  if (options.isHead || status < 200 || status === 204 || status === 304) return whole(Buffer.alloc(0), start)
  const length = headers['content-length']
  if (length !== undefined) {
    const end = start + Number(length)
    return bytes.length < end ? undefined : whole(bytes.subarray(start, end), end)
  }
  if (headers['transfer-encoding'] === undefined) {
    return options.ended ? whole(bytes.subarray(start), bytes.length) : undefined
  }
  const parts: Buffer[] = []
  for (let at = start; ;) {
    const line = bytes.indexOf('\r\n', at)
    if (line === -1) return undefined
    const size = Number.parseInt(bytes.toString('latin1', at, line), 16)
    at = line + 2
    if (bytes.length < at + size + 2) return undefined
    parts.push(bytes.subarray(at, at + size))
    at += size + 2
    if (size === 0) return whole(Buffer.concat(parts), at)
  }
}
