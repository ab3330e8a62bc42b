/** A streamed response as it goes to its client: first the head, from the prelude, then bytes as they come. */
import { LAMBDA_LIMITS } from '../../sdk/model/limits.ts'
import type { FunctionFailure } from './function-failure.ts'
import { NO_PRELUDE, PRELUDE_END, readPrelude, type UrlResponseHead } from './function-url-response.ts'
import type { ResultStream } from './invocation.ts'
import type { ResponseWriter } from './response-writer.ts'

export interface UrlStreamOptions {
  /** Absent: the stream begins with a prelude. */
  readonly head: UrlResponseHead | undefined
  readonly writer: ResponseWriter
  readonly sendHead: (head: UrlResponseHead) => void
  readonly fail: (failure: FunctionFailure) => void
  readonly malformed: (why: string) => FunctionFailure
  readonly cut: () => void
}

export class UrlStream implements ResultStream {
  failure: FunctionFailure | undefined
  readonly #options: UrlStreamOptions
  #prelude: Buffer = Buffer.alloc(0)
  /** It is sent with the first byte: a failure before that still has a status of its own. */
  #hasHead = false

  constructor(options: UrlStreamOptions) {
    this.#options = options
  }

  get isBlocked(): boolean {
    return this.#options.writer.isBlocked
  }

  write(chunk: Buffer): boolean {
    if (this.failure !== undefined) return true
    if (this.#hasHead) return this.#options.writer.write([chunk])
    const { head } = this.#options
    if (head !== undefined) {
      this.#begin(head)
      return this.#options.writer.write([chunk])
    }
    return this.#readPrelude(chunk)
  }

  onDrain(listener: () => void): void {
    this.#options.writer.onDrain(listener)
  }

  end(): FunctionFailure | undefined {
    if (!this.#hasHead) {
      if (this.#options.head === undefined) return this.#failAsMalformed('its prelude has no end')
      this.#begin(this.#options.head)
    }
    this.#options.writer.end()
    return undefined
  }

  fail(failure: FunctionFailure): void {
    if (this.#hasHead) this.#options.cut()
    else this.#options.fail(failure)
  }

  cut(): void {
    this.#options.cut()
  }

  #readPrelude(chunk: Buffer): boolean {
    const before = this.#prelude.length
    this.#prelude = before === 0 ? chunk : Buffer.concat([this.#prelude, chunk])
    // The end may begin in the chunk before.
    const end = this.#prelude.indexOf(PRELUDE_END, Math.max(0, before - PRELUDE_END.length + 1))
    const length = end === -1 ? this.#prelude.length - PRELUDE_END.length + 1 : end
    if (length > LAMBDA_LIMITS.preludeBytesMax) {
      this.#failAsMalformed(NO_PRELUDE)
      return true
    }
    if (end === -1) return true
    const head = readPrelude(this.#prelude.subarray(0, end))
    if (typeof head === 'string') {
      this.#failAsMalformed(head)
      return true
    }
    const rest = this.#prelude.subarray(end + PRELUDE_END.length)
    this.#prelude = Buffer.alloc(0)
    this.#begin(head)
    return rest.length === 0 ? true : this.#options.writer.write([rest])
  }

  #begin(head: UrlResponseHead): void {
    this.#hasHead = true
    this.#options.sendHead(head)
  }

  #failAsMalformed(why: string): FunctionFailure {
    this.failure = this.#options.malformed(why)
    this.#options.fail(this.failure)
    return this.failure
  }
}
