/**
 * What became of each request, kept until the next batch goes to the agent. Bounded: when no agent listens the
 * newest records are dropped and counted. A request only leaves a record; lines are made of records in batches.
 */
import type { ErrorCode } from '../sdk/model/errors.ts'
import { TAIL_LIMITS } from '../sdk/model/limits.ts'
import type { LogLine } from '../sdk/model/log-line.ts'
import type { RouterToAgent, TailedRequest } from '../runtime/pool/wire.ts'

export interface RequestRecord {
  readonly functionName: string
  readonly versionId: string
  readonly instanceId: string | undefined
  readonly requestId: string
  readonly endedAtMs: number
  readonly method: string
  readonly host: string
  /** With the query, which is not logged: it may carry secrets. */
  readonly target: string
  readonly status: number
  readonly totalMs: number
  readonly queueMs: number
  /** From its last slot on; `undefined` if it had none. */
  readonly functionMs: number | undefined
  readonly cold: boolean
  /** Of bodies, as far as they came. */
  readonly requestBytes: number
  readonly responseBytes: number
  readonly error: ErrorCode | undefined
  readonly clientAborted: boolean
}

export interface RequestLogOptions {
  readonly linesMax: number
  readonly pathCharsMax: number
}

export type RequestLogBatch = Omit<Extract<RouterToAgent, { readonly type: 'log' }>, 'type'>

export class RequestLog {
  readonly #options: RequestLogOptions
  #records: RequestRecord[] = []
  #dropped = 0
  #tailed: TailedRequest[] = []
  #untold = 0

  constructor(options: RequestLogOptions) {
    this.#options = options
  }

  /** `headText`: of a request whose function is tailed. */
  add(record: RequestRecord, headText: string | undefined): void {
    if (this.#records.length >= this.#options.linesMax) {
      this.#dropped++
      return
    }
    this.#records.push(record)
    if (headText === undefined) return
    if (this.#tailed.length >= TAIL_LIMITS.headsPerReportMax) this.#untold++
    else this.#tailed.push({ line: this.#records.length - 1, head: headText, functionMs: record.functionMs })
  }

  /** Hands the lines so far to `send`; where it does not take them they are kept. */
  flush(send: (batch: RequestLogBatch) => boolean): void {
    if (this.#records.length === 0 && this.#dropped === 0) return
    const lines = this.#records.map((record) => toLine(record, this.#options.pathCharsMax))
    const tails = this.#tailed.length > 0 && { tailed: this.#tailed, untold: this.#untold }
    if (!send({ lines, dropped: this.#dropped, ...tails })) return
    this.#records = []
    this.#dropped = 0
    this.#tailed = []
    this.#untold = 0
  }
}

function toLine(record: RequestRecord, pathCharsMax: number): LogLine {
  const { method, host, target, status, error } = record
  const query = target.indexOf('?')
  const path = target.slice(0, Math.min(query === -1 ? target.length : query, pathCharsMax))
  const totalMs = Math.round(record.totalMs * 100) / 100
  const outcome = record.clientAborted
    ? 'client went away'
    : error === undefined
      ? String(status)
      : `${status} ${error}`
  return {
    time: isoTime(record.endedAtMs),
    source: 'request',
    level: error === undefined ? 'info' : status >= 500 ? 'error' : 'warn',
    functionName: record.functionName,
    versionId: record.versionId,
    // An undefined field is no field in JSON; a spread would cost more than the rest of the line.
    instanceId: record.instanceId,
    requestId: record.requestId,
    message: `${method} ${host}${path} ${outcome} ${totalMs < 10 ? totalMs : Math.round(totalMs)} ms`,
    request: {
      method,
      host,
      path,
      status,
      totalMs,
      queueMs: Math.round(record.queueMs * 100) / 100,
      cold: record.cold,
      error,
      clientAborted: record.clientAborted ? true : undefined,
    },
  }
}

let lastTimeMs = 0
let lastTime = ''

/** Many requests end in one millisecond. */
function isoTime(timeMs: number): string {
  if (timeMs !== lastTimeMs) {
    lastTimeMs = timeMs
    lastTime = new Date(timeMs).toISOString()
  }
  return lastTime
}
