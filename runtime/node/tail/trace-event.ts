/** One request, or lines that belong to none, as clients of the tail protocol `trace-v1` read it. */
export interface TraceEvent {
  readonly outcome: TraceOutcome
  readonly scriptName: string
  readonly scriptVersion?: { readonly id: string }
  /** Milliseconds since 1970, when the request came. */
  readonly eventTimestamp: number
  readonly logs: readonly TraceLog[]
  readonly exceptions: readonly TraceException[]
  readonly diagnosticsChannelEvents: readonly never[]
  /** There were more lines than one event holds. */
  readonly truncated: boolean
  readonly executionModel: 'stateless'
  readonly cpuTime: number
  readonly wallTime: number
  readonly event: TracedRequestEvent | TracedTailEvent | TraceNotice | null
}

export type TraceOutcome = 'ok' | 'canceled' | 'exception' | 'exceededCpu' | 'exceededMemory' | 'unknown'

export interface TraceLog {
  readonly level: 'log' | 'debug' | 'info' | 'warn' | 'error'
  readonly message: readonly unknown[]
  readonly timestamp: number
}

export interface TraceException {
  readonly name: string
  readonly message: string
  readonly stack?: string
  readonly timestamp: number
}

export interface TracedRequestEvent {
  readonly request: {
    readonly url: string
    readonly method: string
    readonly headers: Readonly<Record<string, string>>
    readonly cf: Readonly<Record<string, never>>
  }
  readonly response: { readonly status: number }
}

/** A call of the `tail` handler. */
export interface TracedTailEvent {
  readonly consumedEvents: readonly { readonly scriptName: string | null }[]
}

export interface TraceNotice {
  readonly type: 'overload' | 'overload-stop'
  readonly message: string
}

/** An event that is about the tail itself. */
export function noticeEvent(scriptName: string, notice: TraceNotice): TraceEvent {
  return {
    outcome: 'ok',
    scriptName,
    eventTimestamp: Date.now(),
    logs: [],
    exceptions: [],
    diagnosticsChannelEvents: [],
    truncated: false,
    executionModel: 'stateless',
    cpuTime: 0,
    wallTime: 0,
    event: notice,
  }
}
