/**
 * An invocation that a runtime was given. Whatever ends it (a result, an error, its deadline, the end of its container)
 * ends it once; its caller hears the first.
 */
import { LAMBDA_LIMITS } from '../../sdk/model/limits.ts'
import type { FunctionFailure } from './function-failure.ts'
import type { Invocation, ResultStream } from './invocation.ts'

export interface ActiveInvocationOptions {
  readonly invocation: Invocation
  readonly timeoutMs: number
  /** The deadline has passed. */
  readonly onTimeout: (active: ActiveInvocation) => void
  readonly onSettled: (active: ActiveInvocation, failure: FunctionFailure | undefined) => void
}

export class ActiveInvocation {
  readonly invocation: Invocation
  readonly startedAtMs = performance.now()
  readonly deadlineMs: number
  /** The runtime has begun to answer: it cannot do so again. */
  isAnswered = false
  isSettled = false
  readonly #options: ActiveInvocationOptions
  #timer: NodeJS.Timeout
  #stream: ResultStream | undefined
  #onSettled: (() => void) | undefined

  constructor(options: ActiveInvocationOptions) {
    this.#options = options
    this.invocation = options.invocation
    this.deadlineMs = Date.now() + options.timeoutMs
    this.#timer = setTimeout(() => this.#expire(), options.timeoutMs)
  }

  /** For the one that receives its answer: nobody wants it any more. */
  whenSettled(listener: () => void): void {
    this.#onSettled = listener
  }

  succeed(body: Buffer, contentType: string | undefined): void {
    if (this.isSettled) return
    this.#settle(this.invocation.caller.succeed(body, contentType))
  }

  fail(failure: FunctionFailure): void {
    if (this.isSettled) return
    if (this.#stream === undefined) this.invocation.caller.fail(failure)
    else if (this.#stream.failure === undefined) this.#stream.fail(failure)
    this.#settle(failure)
  }

  begin(contentType: string | undefined): ResultStream {
    this.#stream = this.invocation.caller.begin(contentType)
    return this.#stream
  }

  /** Of what `begin` returned: it has all, or failed by itself. */
  endStream(): FunctionFailure | undefined {
    if (this.isSettled || this.#stream === undefined) return undefined
    const failure = this.#stream.failure ?? this.#stream.end()
    this.#settle(failure)
    return failure
  }

  /** As if it had never been given: its event did not arrive. */
  withdraw(): void {
    this.isSettled = true
    clearTimeout(this.#timer)
  }

  /** Who reads too slowly must not be the end of a container that others can use. */
  #expire(): void {
    if (this.#stream?.isBlocked === true) {
      this.#stream.cut()
      this.#timer = setTimeout(() => this.#options.onTimeout(this), LAMBDA_LIMITS.blockedGraceMs)
    } else this.#options.onTimeout(this)
  }

  #settle(failure: FunctionFailure | undefined): void {
    this.isSettled = true
    clearTimeout(this.#timer)
    this.#options.onSettled(this, failure)
    this.#onSettled?.()
  }
}
