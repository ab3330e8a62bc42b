/**
 * Requests at a fixed rate, whatever the server does: each has a time at which it is due, and its latency counts from
 * then, also if no connection was free. A server that stalls for 50 ms so delays all that was due meanwhile, as it
 * would delay real clients (a closed loop would just ask less).
 *
 * Node's timers tick in milliseconds, so 3,000 requests a second would leave in threes. A second thread sleeps on a
 * futex with microseconds and wakes the event loop instead.
 */
import { once } from 'node:events'
import { connect, type NetConnectOpts, type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'
import { quantile } from './statistics.ts'

export interface OpenLoopOptions {
  readonly where: NetConnectOpts
  readonly host: string
  /** Instead of `host`: each request goes to one of these, the first the most often (Zipf with this exponent). */
  readonly hosts?: { readonly names: readonly string[]; readonly exponent: number; readonly seed: number }
  readonly path: string
  readonly requestsPerSecond: number
  readonly seconds: number
  /** Opened before the first request is due; more are opened when none is free. */
  readonly connections: number
}

export interface OpenLoopResult {
  readonly requests: number
  /** Answers that were not 2xx, and connections that broke with a request on them. */
  readonly failures: number
  /** The first few failures in words. */
  readonly failureSamples: readonly string[]
  readonly p50Us: number
  readonly p99Us: number
  readonly p999Us: number
  readonly maxUs: number
  /** How late requests left, median: the part of every latency that is the generator's own. */
  readonly latenessP50Us: number
}

const CONNECTIONS_MAX = 1_000
const TICK_MS_MAX = 0.5

interface Connection {
  readonly socket: Socket
  /** `undefined` while idle. */
  dueMs: number | undefined
}

export async function runOpenLoop(options: OpenLoopOptions): Promise<OpenLoopResult> {
  const total = Math.round(options.requestsPerSecond * options.seconds)
  const nextHost = options.hosts === undefined ? () => options.host : zipfOf(options.hosts)
  const latenciesUs: number[] = []
  const latenessUs: number[] = []
  const failureSamples: string[] = []
  let failures = 0
  let open = 0
  let sent = 0
  let waiting: number[] = []
  const idle: Connection[] = []
  const allDone = Promise.withResolvers<void>()

  const finish = (dueMs: number, failure: string | undefined): void => {
    latenciesUs.push((performance.now() - dueMs) * 1_000)
    if (failure !== undefined) {
      failures++
      if (failureSamples.length < 5) failureSamples.push(failure)
    }
    if (latenciesUs.length >= total) allDone.resolve()
  }
  const start = (connection: Connection, dueMs: number): void => {
    connection.dueMs = dueMs
    latenessUs.push((performance.now() - dueMs) * 1_000)
    connection.socket.write(`GET ${options.path} HTTP/1.1\r\nhost: ${nextHost()}\r\n\r\n`, 'latin1')
  }
  const openConnection = (): Connection => {
    const connection: Connection = {
      socket: connect({ ...options.where, noDelay: true } as NetConnectOpts),
      dueMs: undefined,
    }
    open++
    let received = ''
    connection.socket.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1')
      const status = wholeAnswer(received)
      if (status === undefined || connection.dueMs === undefined) return
      const { dueMs } = connection
      const failure = status >= 200 && status < 300 ? undefined : received.slice(0, 300)
      received = ''
      connection.dueMs = undefined
      finish(dueMs, failure)
      const next = waiting.shift()
      if (next === undefined) idle.push(connection)
      else start(connection, next)
    })
    let reason = 'the connection ended before the answer'
    connection.socket.on('error', (error) => (reason = error.message))
    connection.socket.on('close', () => {
      open--
      const index = idle.indexOf(connection)
      if (index !== -1) idle.splice(index, 1)
      if (connection.dueMs !== undefined) finish(connection.dueMs, reason)
    })
    return connection
  }
  for (let index = 0; index < options.connections; index++) {
    const connection = openConnection()
    await once(connection.socket, 'connect')
    idle.push(connection)
  }

  const beginMs = performance.now() + 20
  const send = (): void => {
    for (;;) {
      const dueMs = beginMs + (sent * 1_000) / options.requestsPerSecond
      if (sent >= total || dueMs > performance.now()) return
      sent++
      const connection = idle.pop() ?? (open < CONNECTIONS_MAX ? openConnection() : undefined)
      if (connection === undefined) waiting.push(dueMs)
      else start(connection, dueMs)
    }
  }
  // As often as requests are due would be as late as the two happen to lie apart, at low rates many milliseconds.
  const ticker = startTicker(Math.min(TICK_MS_MAX, 1_000 / options.requestsPerSecond), send)
  await allDone.promise
  await ticker.terminate()
  for (const { socket } of idle) socket.destroy()
  return {
    requests: total,
    failures,
    failureSamples,
    p50Us: quantile(latenciesUs, 0.5),
    p99Us: quantile(latenciesUs, 0.99),
    p999Us: quantile(latenciesUs, 0.999),
    maxUs: quantile(latenciesUs, 1),
    latenessP50Us: quantile(latenessUs, 0.5),
  }
}

/** Draws by inverse of the cumulative weights; the same seed draws the same. */
function zipfOf({ names, exponent, seed }: NonNullable<OpenLoopOptions['hosts']>): () => string {
  const cumulative: number[] = []
  let sum = 0
  for (let rank = 1; rank <= names.length; rank++) cumulative.push((sum += rank ** -exponent))
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    const drawn = (state / 2 ** 32) * sum
    const index = cumulative.findIndex((bound) => bound >= drawn)
    return names[index] ?? names[0]!
  }
}

/** The status of a complete answer with a content-length, chunked or without body; `undefined` while more must come. */
function wholeAnswer(text: string): number | undefined {
  const headEnd = text.indexOf('\r\n\r\n')
  if (headEnd === -1) return undefined
  const head = text.slice(0, headEnd).toLowerCase()
  const status = Number(head.slice(9, 12))
  const length = /\r\ncontent-length: *(\d+)/.exec(head)?.[1]
  if (length !== undefined) return text.length >= headEnd + 4 + Number(length) ? status : undefined
  if (head.includes('\r\ntransfer-encoding:')) return text.endsWith('0\r\n\r\n') ? status : undefined
  return status
}

function startTicker(everyMs: number, onTick: () => void): Worker {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads')
    const cell = new Int32Array(new SharedArrayBuffer(4))
    let due = performance.now()
    for (;;) {
      due += workerData
      const left = due - performance.now()
      if (left > 0) Atomics.wait(cell, 0, 0, left)
      parentPort.postMessage(0)
    }`
  const ticker = new Worker(source, { eval: true, workerData: everyMs })
  ticker.on('message', onTick)
  return ticker
}
