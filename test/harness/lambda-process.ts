import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connectToChannel, openChannel, type Channel } from '../../runtime/pool/channel.ts'
import type {
  AgentToLambda,
  LambdaEnvironment,
  LambdaFunction,
  LambdaToAgent,
} from '../../runtime/lambda/wire.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'

export const LAMBDA_MAIN = fileURLToPath(new URL('../../runtime/lambda/main.ts', import.meta.url))

/** Takes what is to be done after the test, last first. */
export type OnCleanup = (cleanup: () => unknown) => void

type Message<Type extends LambdaToAgent['type']> = Extract<LambdaToAgent, { type: Type }>

/** The agent's end: what it was told, in order, and a wait for the next of a kind. */
export class LambdaAgent {
  readonly channel: Channel<AgentToLambda>
  readonly messages: LambdaToAgent[] = []
  readonly lines: LogLine[] = []
  readonly closed: Promise<void>
  #wakes: (() => void)[] = []

  constructor(socket: Socket) {
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()))
    this.channel = openChannel<LambdaToAgent, AgentToLambda>(socket, {
      onMessage: (message) => {
        if (message.type === 'log') this.lines.push(...message.lines)
        else this.messages.push(message)
        this.#wake()
      },
      onClose: () => this.#wake(),
    })
  }

  /** Of one environment, where `id` is given. */
  async next<Type extends LambdaToAgent['type']>(type: Type, id?: string): Promise<Message<Type>> {
    for (;;) {
      const index = this.messages.findIndex(
        (message) => message.type === type && (id === undefined || ('id' in message && message.id === id)),
      )
      const [found] = index === -1 ? [] : this.messages.splice(index, 1)
      if (found !== undefined) return found as Message<Type>
      await this.#change()
    }
  }

  async line(pattern: RegExp): Promise<LogLine> {
    for (;;) {
      const found = this.lines.find(({ message }) => pattern.test(message))
      if (found !== undefined) return found
      await this.#change()
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#wakes.push(resolve))
  }

  #wake(): void {
    for (const wake of this.#wakes.splice(0)) wake()
  }
}

export interface LambdaChild {
  readonly child: ChildProcess
  readonly directory: string
  readonly controlPath: string
  stderr(): string
  attach(): Promise<LambdaAgent>
}

export function startLambda(
  onCleanup: OnCleanup,
  options: { readonly directory?: string; readonly arguments?: readonly string[] } = {},
): LambdaChild {
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'isola-lambda-'))
  const controlPath = join(directory, 'control.sock')
  const child = spawn(
    process.execPath,
    [LAMBDA_MAIN, '--socket', controlPath, ...(options.arguments ?? [])],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  onCleanup(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    rmSync(directory, { recursive: true, force: true })
  })
  const attach = async (): Promise<LambdaAgent> => {
    for (;;) {
      const agent = new LambdaAgent(await connectToChannel(controlPath, 20_000))
      onCleanup(() => agent.channel.close())
      const { pid } = await agent.next('hello')
      // A process that is being replaced still answers for a moment.
      if (pid === child.pid) return agent
      agent.channel.close()
    }
  }
  return { child, directory, controlPath, stderr: () => stderr, attach }
}

export const FUNCTION: LambdaFunction = {
  functionName: 'shop',
  versionId: 'v1',
  handler: 'index.handler',
  environment: { COLOR: 'red' },
  memoryMib: 128,
  timeoutMs: 20_000,
  initTimeoutMs: 10_000,
  responseStreaming: false,
}

export interface Place {
  readonly place: LambdaEnvironment
  readonly runtime: RuntimeClient
  readonly call: (request?: CallOptions) => Promise<Answer>
}

/** Sockets and clients of an environment that is not opened yet. */
export function placeOf(
  onCleanup: OnCleanup,
  directory: string,
  options: { readonly id?: string; readonly function?: LambdaFunction | undefined } = {},
): Place {
  const { id = 'e1', function: fn } = options
  const api = join(directory, `${id}.api.sock`)
  const http = join(directory, `${id}.http.sock`)
  const runtime = new RuntimeClient(api)
  const callers = new HttpAgent({ keepAlive: true, maxSockets: Infinity })
  onCleanup(() => {
    runtime.close()
    callers.destroy()
  })
  return {
    place: {
      id,
      httpSocket: http,
      runtimeApi: { type: 'socket', path: api },
      ...(fn === undefined ? {} : { function: fn }),
    },
    runtime,
    call: (request = {}) => send({ socketPath: http, agent: callers }, request),
  }
}

/** A process with environment "e1" of function "shop" open, and its first poll answered by nobody yet. */
export async function startReady(onCleanup: OnCleanup, fn: Partial<LambdaFunction> = {}) {
  const lambda = startLambda(onCleanup)
  const agent = await lambda.attach()
  const place = placeOf(onCleanup, lambda.directory, { function: { ...FUNCTION, ...fn } })
  agent.channel.send({ type: 'open', environment: place.place })
  await agent.next('opened')
  return { ...lambda, ...place, agent }
}

export interface CallOptions {
  readonly method?: string
  readonly path?: string
  readonly headers?: Readonly<Record<string, string | readonly string[]>>
  readonly body?: string | Buffer | undefined
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
  readonly text: string
}

interface Through {
  readonly socketPath: string
  readonly agent?: HttpAgent
}

async function send(through: Through, options: CallOptions): Promise<Answer> {
  const response = await open(through, options)
  const parts: Buffer[] = []
  for await (const part of response) parts.push(part as Buffer)
  const body = Buffer.concat(parts)
  return { status: response.statusCode ?? 0, headers: response.headers, body, text: body.toString() }
}

/** The response's head; its body is still to be read. */
export async function open(through: Through, options: CallOptions): Promise<IncomingMessage> {
  const { method = 'GET', path = '/', headers = {}, body } = options
  const request = httpRequest({ ...through, method, path, headers: headers as Record<string, string> })
  request.end(body)
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  return response
}

export interface RuntimeEvent {
  readonly id: string
  readonly headers: IncomingMessage['headers']
  readonly event: Record<string, unknown>
}

/** A runtime as its client is written anywhere: plain HTTP on the runtime's door. */
export class RuntimeClient {
  readonly socketPath: string
  readonly agent = new HttpAgent({ keepAlive: true, maxSockets: Infinity })

  constructor(socketPath: string) {
    this.socketPath = socketPath
  }

  close(): void {
    this.agent.destroy()
  }

  send(options: CallOptions): Promise<Answer> {
    return send(this, options)
  }

  get(path: string, headers: CallOptions['headers'] = {}): Promise<Answer> {
    return this.send({ path, headers })
  }

  post(path: string, body: string | Buffer = '', headers: CallOptions['headers'] = {}): Promise<Answer> {
    return this.send({ method: 'POST', path, body, headers })
  }

  async next(): Promise<RuntimeEvent> {
    const answer = await this.get('/2018-06-01/runtime/invocation/next')
    assert.equal(answer.status, 200, answer.text)
    const id = String(answer.headers['lambda-runtime-aws-request-id'])
    return { id, headers: answer.headers, event: JSON.parse(answer.text) as Record<string, unknown> }
  }

  respond(id: string, value: unknown, headers: CallOptions['headers'] = {}): Promise<Answer> {
    const body = typeof value === 'string' || Buffer.isBuffer(value) ? value : JSON.stringify(value)
    return this.post(`/2018-06-01/runtime/invocation/${id}/response`, body, headers)
  }

  fail(id: string, error: unknown, headers: CallOptions['headers'] = {}): Promise<Answer> {
    return this.post(`/2018-06-01/runtime/invocation/${id}/error`, JSON.stringify(error), headers)
  }

  /** Answers one event after the other with what `handler` makes of it, until the connection is lost. */
  async serve(handler: (event: RuntimeEvent) => unknown): Promise<void> {
    for (;;) {
      const event = await this.next().catch(() => undefined)
      if (event === undefined) return
      await this.respond(event.id, await handler(event)).catch(() => undefined)
    }
  }

  /** A streamed response, written by hand. */
  stream(id: string, headers: Readonly<Record<string, string>> = {}) {
    const request = httpRequest({
      socketPath: this.socketPath,
      agent: this.agent,
      method: 'POST',
      path: `/2018-06-01/runtime/invocation/${id}/response`,
      headers: {
        'Lambda-Runtime-Function-Response-Mode': 'streaming',
        'Transfer-Encoding': 'chunked',
        Trailer: 'Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body',
        ...headers,
      },
    })
    // The end of the test may come before the answer; who waits for it hears of it by the lack of one.
    request.on('error', () => undefined)
    return request
  }
}
