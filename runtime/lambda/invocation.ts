import type { FunctionFailure } from './function-failure.ts'

/** One event for a function, and who waits for what becomes of it. */
export interface Invocation {
  /** UUID: AWS's request id. */
  readonly id: string
  readonly event: Buffer
  readonly traceId: string
  readonly invokedArn: string | undefined
  /** JSON, ASCII only: it is sent as a header. */
  readonly clientContext: string | undefined
  readonly caller: Caller
}

/** Exactly one of `succeed`, `fail` and `begin` is called, once. A caller that has gone away takes them all the same. */
export interface Caller {
  readonly isGone: boolean
  /** The whole result. Returns why it is none, where the caller had to be told so. */
  succeed(body: Buffer, contentType: string | undefined): FunctionFailure | undefined
  fail(failure: FunctionFailure): void
  /** A result that comes in pieces. */
  begin(contentType: string | undefined): ResultStream
}

/** `end` or `fail` is called once, unless `failure` is there before. */
export interface ResultStream {
  /** Set once the stream cannot go on, the caller having been told: too large, or not what it says it is. */
  readonly failure: FunctionFailure | undefined
  /** The caller does not read as fast as the function writes. */
  readonly isBlocked: boolean
  /** False: `onDrain`'s listener is called when more may come. */
  write(chunk: Buffer): boolean
  onDrain(listener: () => void): void
  end(): FunctionFailure | undefined
  fail(failure: FunctionFailure): void
  /** The caller is too slow: it loses its response, and what comes is dropped. */
  cut(): void
}
