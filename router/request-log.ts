/**
 * What became of each request, kept until the next batch goes to the agent. Bounded: when no agent listens the
 * newest records are dropped and counted. A request only leaves a record; lines are made of records in batches.
 */
import type { ErrorCode } from '../sdk/model/errors.ts'
import type { LogLine } from '../sdk/model/log-line.ts'

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

export class RequestLog {
  readonly #options: RequestLogOptions
  #records: RequestRecord[] = []
  #dropped = 0

  constructor(options: RequestLogOptions) {
    this.#options = options
  }

  add(record: RequestRecord): void {
    if (this.#records.length < this.#options.linesMax) this.#records.push(record)
    else this.#dropped++
  }

  /** Hands the lines so far to `send`; where it does not take them they are kept. */
  flush(send: (batch: { readonly lines: readonly LogLine[]; readonly dropped: number }) => boolean): void {
    if (this.#records.length === 0 && this.#dropped === 0) return
    const lines = this.#records.map((record) => toLine(record, this.#options.pathCharsMax))
    if (!send({ lines, dropped: this.#dropped })) return
    this.#records = []
    this.#dropped = 0
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
