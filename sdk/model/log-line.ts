/** One line of a function's log: what it wrote, what became of a request, or what became of an instance. */
export interface LogLine {
  /** ISO 8601, UTC, milliseconds. */
  readonly time: string
  readonly source: 'console' | 'exception' | 'request' | 'instance'
  readonly level: 'debug' | 'log' | 'info' | 'warn' | 'error'
  readonly functionName: string
  readonly versionId: string
  /** Absent for a request that reached no instance. */
  readonly instanceId?: string | undefined
  /** Absent for what was written outside a request. */
  readonly requestId?: string
  readonly message: string
  /** What was given to the console, as JSON has it; only while somebody tails the function, and never on disk. */
  readonly values?: readonly unknown[]
  /** Stack of an exception, positions mapped to the sources where the version has source maps. */
  readonly stack?: string
  /** For `request` lines. */
  readonly request?: RequestSummary
}

export interface RequestSummary {
  readonly method: string
  readonly host: string
  readonly path: string
  readonly status: number
  /** Milliseconds from the request's head to the end of the response. */
  readonly totalMs: number
  /** Milliseconds it waited for a slot; includes a cold start. */
  readonly queueMs: number
  readonly cold: boolean
  /** An `ErrorCode`, where isola itself answered. */
  readonly error?: string | undefined
  readonly clientAborted?: boolean | undefined
}
