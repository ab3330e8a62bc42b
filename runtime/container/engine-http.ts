/**
 * HTTP to the engine's unix socket. Short calls share kept-alive connections, of which there are a bounded number;
 * streams have one of their own each, so that a build cannot keep a container from starting. Every call ends: by an
 * answer, by its time, or because the engine is gone; and reads no more than it was told to.
 */
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { isIsolaError } from '../../sdk/model/errors.ts'
import { ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import { engineFailure, engineUnavailable } from './engine-error.ts'

export interface EngineCall {
  readonly method: 'GET' | 'POST' | 'DELETE'
  /** Below the version, e.g. `/containers/json`. */
  readonly path: string
  /** What is undefined is left out; of a list, each item is sent. */
  readonly query?: Readonly<Record<string, string | readonly string[] | undefined>>
  readonly json?: unknown
  /** A tar. */
  readonly body?: AsyncIterable<Uint8Array>
  readonly headers?: Readonly<Record<string, string>>
  /** Until the whole answer; of a stream, its end. @default ENGINE_LIMITS.callTimeoutMs; a stream without body: none */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface EngineAnswer {
  readonly status: number
  readonly json: unknown
  /** The engine's own words where it refuses; else empty. */
  readonly message: string
}

export interface EngineHttp {
  readonly socketPath: string
  /** Any status is an answer. Throws `engine_unavailable`. */
  call(call: EngineCall): Promise<EngineAnswer>
  /** Throws as `refused` says where the status is none of success. */
  stream(call: EngineCall, refused: (answer: EngineAnswer) => Error): Promise<IncomingMessage>
  /** What both sides speak. */
  apiVersion(): Promise<string>
}

/** What this client was written for. Engines of the future refuse the oldest, engines of the past do not know the newest. */
const API_MIN = '1.41'
const API_MAX = '1.44'

export function createEngineHttp(socketPath: string): EngineHttp {
  const agent = new Agent({ keepAlive: true, maxSockets: ENGINE_LIMITS.callsConcurrentMax, timeout: 0 })
  let negotiated: Promise<string> | undefined
  const apiVersion = (): Promise<string> => {
    const asked = (negotiated ??= negotiate({ socketPath, agent }))
    // Another engine may be there the next time.
    asked.catch(() => {
      if (negotiated === asked) negotiated = undefined
    })
    return asked
  }
  const versioned = async (call: EngineCall): Promise<string> =>
    `/v${await apiVersion()}${call.path}${queryOf(call)}`
  const failed = (call: EngineCall, cause: unknown): Error => {
    if (isIsolaError(cause)) return cause
    // A signal of the caller's, or a source that broke: theirs to understand.
    if (call.signal?.aborted === true || cause instanceof SourceError) {
      return cause instanceof SourceError ? (cause.cause as Error) : (cause as Error)
    }
    negotiated = undefined
    return engineUnavailable({ socketPath, doing: `${call.method} ${call.path}`, cause })
  }
  return {
    socketPath,
    apiVersion,
    async call(call) {
      const path = await versioned(call)
      const signal = signalOf(call, ENGINE_LIMITS.callTimeoutMs)
      const answer = await send({ socketPath, agent, path, call, signal })
        .then(readAnswer)
        .catch((cause: unknown) => {
          throw failed(call, cause)
        })
      if (call.method === 'GET' && answer.status === 200 && answer.json === undefined) {
        throw engineFailure(`an answer to ${call.path} that is no JSON`)
      }
      return answer
    },
    async stream(call, refused) {
      const path = await versioned(call)
      const signal = signalOf(call, call.body === undefined ? undefined : ENGINE_LIMITS.transferTimeoutMs)
      let answer: EngineAnswer
      try {
        const response = await send({ socketPath, agent: false, path, call, signal })
        if ((response.statusCode ?? 0) < 300) return response
        answer = await readAnswer(response)
      } catch (cause) {
        throw failed(call, cause)
      }
      throw refused(answer)
    },
  }
}

interface Sending {
  readonly socketPath: string
  readonly agent: Agent | false
  readonly path: string
  readonly call: EngineCall
  readonly signal: AbortSignal | undefined
}

/** What a caller hands over ended by an error of its own. */
class SourceError extends Error {}

async function send(sending: Sending, attempt = 1): Promise<IncomingMessage> {
  const { socketPath, agent, path, call, signal } = sending
  const text = call.json === undefined ? undefined : JSON.stringify(call.json)
  let isStale = false
  try {
    return await new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpRequest({
        socketPath,
        agent,
        path,
        method: call.method,
        ...(signal !== undefined && { signal }),
        headers: {
          host: 'engine',
          ...(text !== undefined && { 'content-type': 'application/json' }),
          ...(call.body !== undefined && { 'content-type': 'application/x-tar' }),
          ...call.headers,
        },
      })
      request.once('response', resolve)
      // Stays: what breaks after the answer began must not end the process.
      request.on('error', (error) => {
        isStale = request.reusedSocket
        reject(error)
      })
      if (call.body === undefined) request.end(text)
      else {
        void pipeline(Readable.from(marked(call.body)), request).catch((error: Error) => {
          request.destroy(error)
          reject(error)
        })
      }
    })
  } catch (error) {
    // A kept connection that the engine closed at that moment. What changes something may have been done.
    const isAgain = isStale && attempt === 1 && call.method !== 'POST' && signal?.aborted !== true
    if (!isAgain) throw error
    return await send(sending, attempt + 1)
  }
}

async function* marked(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* source
  } catch (cause) {
    throw new SourceError('the source of a body failed', { cause })
  }
}

async function readAnswer(response: IncomingMessage): Promise<EngineAnswer> {
  const chunks: Buffer[] = []
  let totalBytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    totalBytes += chunk.length
    if (totalBytes > ENGINE_LIMITS.answerBytesMax) {
      response.destroy()
      throw engineFailure(`an answer of more than ${ENGINE_LIMITS.answerBytesMax} bytes`)
    }
    chunks.push(chunk)
  }
  const status = response.statusCode ?? 0
  const text = Buffer.concat(chunks).toString('utf8')
  const json = parse(text)
  return { status, json, message: status < 300 ? '' : messageOf(json, text) }
}

function parse(text: string): unknown {
  try {
    return text === '' ? undefined : (JSON.parse(text) as unknown)
  } catch {
    // `_ping` and proxies in between answer in words.
    return undefined
  }
}

function messageOf(json: unknown, text: string): string {
  const message =
    typeof json === 'object' && json !== null && 'message' in json ? String(json.message) : text.trim()
  return message.slice(0, ENGINE_LIMITS.messageLengthMax)
}

async function negotiate({
  socketPath,
  agent,
}: {
  readonly socketPath: string
  readonly agent: Agent
}): Promise<string> {
  const call: EngineCall = { method: 'GET', path: '/_ping' }
  let offered: string
  try {
    const signal = AbortSignal.timeout(ENGINE_LIMITS.greetingTimeoutMs)
    const response = await send({ socketPath, agent, path: call.path, call, signal })
    await readAnswer(response)
    offered = String(response.headers['api-version'] ?? '')
  } catch (cause) {
    if (isIsolaError(cause)) throw cause
    throw engineUnavailable({ socketPath, doing: 'GET /_ping', cause })
  }
  if (!/^\d+\.\d+$/.test(offered)) {
    throw engineUnavailable({ socketPath, problem: 'what listens there does not speak Docker’s API' })
  }
  if (isOlder(offered, API_MIN)) {
    throw engineUnavailable({
      socketPath,
      problem: `the engine speaks version ${offered} of its API, and ${API_MIN} is the oldest that isola knows: install Docker 20.10 or later`,
    })
  }
  return isOlder(offered, API_MAX) ? offered : API_MAX
}

function isOlder(version: string, other: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [otherMajor = 0, otherMinor = 0] = other.split('.').map(Number)
  return major === otherMajor ? minor < otherMinor : major < otherMajor
}

function queryOf({ query = {} }: EngineCall): string {
  const params = new URLSearchParams()
  for (const [key, value] of Object.entries(query)) {
    for (const item of typeof value === 'string' ? [value] : (value ?? [])) params.append(key, item)
  }
  return params.size === 0 ? '' : `?${params.toString()}`
}

function signalOf(call: EngineCall, timeoutMsDefault: number | undefined): AbortSignal | undefined {
  const timeoutMs = call.timeoutMs ?? timeoutMsDefault
  const signals = [
    ...(call.signal === undefined ? [] : [call.signal]),
    ...(timeoutMs === undefined ? [] : [AbortSignal.timeout(timeoutMs)]),
  ]
  return signals.length > 1 ? AbortSignal.any(signals) : signals[0]
}
