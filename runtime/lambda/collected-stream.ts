import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import type { FunctionFailure } from './function-failure.ts'
import type { Caller, ResultStream } from './invocation.ts'

/** A streamed result for a caller that takes it whole. */
export class CollectedStream implements ResultStream {
  readonly isBlocked = false
  failure: FunctionFailure | undefined
  #parts: Buffer[] = []
  #bytes = 0
  readonly #caller: Pick<Caller, 'fail'>
  readonly #onWhole: (body: Buffer) => FunctionFailure | undefined
  readonly #tooLarge: () => FunctionFailure

  constructor(options: {
    readonly caller: Pick<Caller, 'fail'>
    readonly onWhole: (body: Buffer) => FunctionFailure | undefined
    readonly tooLarge: () => FunctionFailure
  }) {
    this.#caller = options.caller
    this.#onWhole = options.onWhole
    this.#tooLarge = options.tooLarge
  }

  write(chunk: Buffer): boolean {
    this.#bytes += chunk.length
    if (this.#bytes <= CONTAINER_LIMITS.payloadBytesMax) this.#parts.push(chunk)
    else if (this.failure === undefined) {
      this.#parts = []
      this.failure = this.#tooLarge()
      this.#caller.fail(this.failure)
    }
    return true
  }

  onDrain(listener: () => void): void {
    listener()
  }

  end(): FunctionFailure | undefined {
    return this.#onWhole(Buffer.concat(this.#parts))
  }

  fail(failure: FunctionFailure): void {
    this.#caller.fail(failure)
  }

  cut(): void {
    // Nobody waits for a part of it.
  }
}
