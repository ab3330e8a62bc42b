/** Invoke, as AWS answers it: whatever becomes of the function, the status is 200. */
import type { ServerResponse } from 'node:http'
import { CollectedStream } from './collected-stream.ts'
import { responseTooLarge, type FunctionFailure } from './function-failure.ts'
import type { Caller, ResultStream } from './invocation.ts'
import { LAMBDA_HEADERS } from './wire.ts'

export interface RawCallerOptions {
  readonly response: ServerResponse
  readonly requestId: string
  readonly functionName: string
}

export class EventCaller implements Caller {
  readonly #options: RawCallerOptions

  constructor(options: RawCallerOptions) {
    this.#options = options
  }

  get isGone(): boolean {
    return this.#options.response.destroyed
  }

  succeed(body: Buffer, contentType: string | undefined): undefined {
    this.#answer(body, ['content-type', contentType ?? 'application/json'])
    return undefined
  }

  fail({ document }: FunctionFailure): void {
    this.#answer(document, ['content-type', 'application/json', LAMBDA_HEADERS.functionError, 'Unhandled'])
  }

  begin(contentType: string | undefined): ResultStream {
    return new CollectedStream({
      caller: this,
      onWhole: (body) => this.succeed(body, contentType),
      tooLarge: () => responseTooLarge(this.#options),
    })
  }

  #answer(body: Buffer, headers: string[]): void {
    const { response, requestId } = this.#options
    if (response.destroyed) return
    headers.push('content-length', String(body.length), 'x-amzn-requestid', requestId)
    response.writeHead(200, headers)
    response.end(body)
  }
}
