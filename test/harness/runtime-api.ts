/** The Runtime API as a test writes it down: answers what it is told to, and keeps what the runtime said. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'

export interface Claim {
  readonly handler: string
  readonly environment: Readonly<Record<string, string>>
  readonly taskRoot: string
}

/** What the runtime made of one event. */
export interface Outcome {
  readonly type: 'response' | 'error'
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly trailers: IncomingMessage['trailers']
  /** As they came in. */
  readonly chunks: readonly Buffer[]
  readonly text: string
}

export interface RuntimeApi {
  /** Path of its unix socket, or `host:port`. */
  readonly address: string
  /** Resolves at the runtime's first `next`. */
  readonly ready: Promise<void>
  /** What it said of its own failure to start. */
  readonly initError: Promise<Outcome>
  /** Gives its function to the blank that asks for one, now or later. */
  claim(fn: Claim): void
  readonly claimAsked: Promise<void>
  invoke(event: unknown, options?: InvokeOptions): Promise<Outcome>
  /** Answers the polls that wait as an environment is told that is over. */
  dismiss(): void
  /** As if it was killed: every connection is cut, the socket is gone. */
  stop(): Promise<void>
  start(): Promise<void>
}

export interface InvokeOptions {
  readonly id?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Instead of the event as JSON. */
  readonly raw?: string
  /** @default 202 */
  readonly answerStatus?: number
  /** Each piece of a response, when it comes. */
  onChunk?(chunk: Buffer): void
}

interface Invocation {
  readonly id: string
  readonly head: Readonly<Record<string, string>>
  readonly body: string
  readonly answerStatus: number
  readonly onChunk: ((chunk: Buffer) => void) | undefined
  settle(outcome: Outcome): void
}

/** On a unix socket, or on a port of the loopback where no path is given. */
export async function startRuntimeApi(socketPath?: string): Promise<RuntimeApi> {
  const waiting: Invocation[] = []
  const running = new Map<string, Invocation>()
  const polls: ServerResponse[] = []
  const ready = Promise.withResolvers<void>()
  const initError = Promise.withResolvers<Outcome>()
  const claimAsked = Promise.withResolvers<void>()
  let claim: Claim | undefined
  let claimPoll: ServerResponse | undefined
  let server: Server | undefined
  let count = 0
  let port = 0

  const answerClaim = (): void => {
    if (claim !== undefined) claimPoll?.end(JSON.stringify(claim))
  }
  const deliver = (): void => {
    while (waiting[0] !== undefined && polls[0] !== undefined) {
      const invocation = waiting.shift()!
      running.set(invocation.id, invocation)
      polls.shift()!.writeHead(200, invocation.head).end(invocation.body)
    }
  }
  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const path = incoming.url ?? ''
    if (path === '/2018-06-01/ping') return void outgoing.end('pong')
    if (path === '/isola/claim') {
      claimPoll = outgoing
      claimAsked.resolve()
      return answerClaim()
    }
    if (path === '/2018-06-01/runtime/invocation/next') {
      ready.resolve()
      polls.push(outgoing)
      outgoing.on('close', () => {
        if (polls.includes(outgoing)) polls.splice(polls.indexOf(outgoing), 1)
      })
      return deliver()
    }
    const [, id, what] = /^\/2018-06-01\/runtime\/invocation\/([^/]+)\/(response|error)$/.exec(path) ?? []
    const invocation = id === undefined ? undefined : running.get(id)
    const read = await readOutcome(incoming, what === 'response' ? 'response' : 'error', invocation?.onChunk)
    if (path === '/2018-06-01/runtime/init/error') {
      outgoing.writeHead(202).end('{"status":"OK"}')
      return initError.resolve({ ...read, status: 202 })
    }
    if (invocation === undefined) return void outgoing.writeHead(400).end('{"errorType":"InvalidRequestID"}')
    running.delete(invocation.id)
    outgoing.writeHead(invocation.answerStatus).end('{"status":"OK"}')
    invocation.settle({ ...read, status: invocation.answerStatus })
  }

  const api: RuntimeApi = {
    get address() {
      return socketPath ?? `127.0.0.1:${port}`
    },
    ready: ready.promise,
    initError: initError.promise,
    claimAsked: claimAsked.promise,
    claim(fn) {
      claim = fn
      answerClaim()
    },
    invoke(event, { id = `request-${++count}`, headers = {}, raw, answerStatus = 202, onChunk } = {}) {
      return new Promise((settle) => {
        const head = {
          'Lambda-Runtime-Aws-Request-Id': id,
          'Lambda-Runtime-Deadline-Ms': String(Date.now() + 30_000),
          'Lambda-Runtime-Invoked-Function-Arn': 'arn:aws:lambda:eu-central-1:000000000000:function:shop',
          'Content-Type': 'application/json',
          ...headers,
        }
        waiting.push({ id, head, body: raw ?? JSON.stringify(event), answerStatus, onChunk, settle })
        deliver()
      })
    },
    dismiss() {
      for (const poll of polls.splice(0)) poll.writeHead(403).end('{"errorType":"InvalidStateTransition"}')
    },
    async start() {
      server = createServer((incoming, outgoing) => {
        // Cut off by `stop`.
        handle(incoming, outgoing).catch(() => outgoing.destroy())
      })
      server.requestTimeout = 0
      server.keepAliveTimeout = 0
      if (socketPath === undefined) {
        await new Promise<void>((resolve) => server!.listen(port, '127.0.0.1', resolve))
        port = (server.address() as AddressInfo).port
      } else {
        rmSync(socketPath, { force: true })
        await new Promise<void>((resolve) => server!.listen(socketPath, resolve))
      }
    },
    async stop() {
      polls.length = 0
      running.clear()
      claimPoll = undefined
      const closed = new Promise((resolve) => server!.close(resolve))
      server!.closeAllConnections()
      await closed
    },
  }
  await api.start()
  return api
}

async function readOutcome(
  incoming: IncomingMessage,
  type: Outcome['type'],
  onChunk: ((chunk: Buffer) => void) | undefined,
): Promise<Outcome> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    onChunk?.(chunk)
  }
  const { headers, trailers } = incoming
  return { type, status: 0, headers, trailers, chunks, text: Buffer.concat(chunks).toString() }
}
