/** InvokeWithResponseStream: the result as framed pieces, sent as they come. */
import type { ServerResponse } from 'node:http'
import type { RawCallerOptions } from './event-caller.ts'
import type { FunctionFailure } from './function-failure.ts'
import type { Caller, ResultStream } from './invocation.ts'
import { completeFrame, failedFrame, INVOKE_STREAM_TYPE, payloadFrames } from './invoke-stream.ts'
import { ResponseWriter } from './response-writer.ts'

export class StreamCaller implements Caller, ResultStream {
  readonly failure = undefined
  readonly #response: ServerResponse
  readonly #requestId: string
  readonly #writer: ResponseWriter

  constructor({ response, requestId }: RawCallerOptions) {
    this.#response = response
    this.#requestId = requestId
    this.#writer = new ResponseWriter(response)
  }

  get isGone(): boolean {
    return this.#response.destroyed
  }

  get isBlocked(): boolean {
    return this.#writer.isBlocked
  }

  succeed(body: Buffer): undefined {
    this.begin()
    this.write(body)
    return this.end()
  }

  begin(): ResultStream {
    if (!this.#response.headersSent && !this.isGone) {
      const headers = ['content-type', INVOKE_STREAM_TYPE, 'x-amzn-requestid', this.#requestId]
      this.#response.writeHead(200, headers)
      this.#response.flushHeaders()
    }
    return this
  }

  write(chunk: Buffer): boolean {
    return this.#writer.write(payloadFrames(chunk))
  }

  onDrain(listener: () => void): void {
    this.#writer.onDrain(listener)
  }

  end(): undefined {
    this.#writer.end(completeFrame())
    return undefined
  }

  fail({ document }: FunctionFailure): void {
    this.begin()
    this.#writer.end(failedFrame(document))
  }

  cut(): void {
    this.#response.destroy()
  }
}
