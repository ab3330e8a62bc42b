/** A client over HTTP: it gets a response, streamed where the function is set so. */
import type { ServerResponse } from 'node:http'
import { CollectedStream } from './collected-stream.ts'
import { sendFailure } from './door-failure.ts'
import { malformed, responseTooLarge, type FunctionFailure } from './function-failure.ts'
import {
  functionUrlResponse,
  splitPrelude,
  type UrlResponse,
  type UrlResponseHead,
} from './function-url-response.ts'
import type { Caller, ResultStream } from './invocation.ts'
import { ResponseWriter } from './response-writer.ts'
import { UrlStream } from './url-stream.ts'

export interface UrlCallerOptions {
  readonly response: ServerResponse
  readonly requestId: string
  /** As the client knows its request. */
  readonly routerId: string
  readonly functionName: string
  readonly isStreaming: boolean
}

/** AWS's mark of a body that begins with a prelude. */
const INTEGRATION_TYPE = 'application/vnd.awslambda.http-integration-response'

export class UrlCaller implements Caller {
  readonly #options: UrlCallerOptions

  constructor(options: UrlCallerOptions) {
    this.#options = options
  }

  get isGone(): boolean {
    return this.#options.response.destroyed
  }

  succeed(body: Buffer): FunctionFailure | undefined {
    return this.#answer(functionUrlResponse(body))
  }

  fail(failure: FunctionFailure): void {
    sendFailure(this.#options.response, failure, this.#options)
  }

  begin(contentType: string | undefined): ResultStream {
    const hasPrelude = contentType?.split(';', 1)[0]!.trim().toLowerCase() === INTEGRATION_TYPE
    const type = contentType ?? 'application/octet-stream'
    const head: UrlResponseHead | undefined = hasPrelude
      ? undefined
      : { status: 200, headers: ['content-type', type] }
    if (this.#options.isStreaming) {
      return new UrlStream({
        head,
        writer: new ResponseWriter(this.#options.response),
        sendHead: (head) => this.#sendHead(head),
        fail: (failure) => this.fail(failure),
        malformed: (why) => malformed(this.#options, why),
        cut: () => this.#options.response.destroy(),
      })
    }
    return new CollectedStream({
      caller: this,
      onWhole: (whole) => this.#answer(head === undefined ? splitPrelude(whole) : { ...head, body: whole }),
      tooLarge: () => responseTooLarge(this.#options),
    })
  }

  #answer(result: UrlResponse | string): FunctionFailure | undefined {
    if (typeof result === 'string') {
      const failure = malformed(this.#options, result)
      this.fail(failure)
      return failure
    }
    const { response, requestId } = this.#options
    if (response.destroyed) return undefined
    const { status, headers, body } = result
    const hasBody = status !== 204 && status !== 304
    const length = hasBody ? ['content-length', String(body.length)] : []
    response.writeHead(status, [...headers, ...length, 'x-amzn-requestid', requestId])
    response.end(hasBody ? body : undefined)
    return undefined
  }

  #sendHead({ status, headers }: UrlResponseHead): void {
    const { response, requestId } = this.#options
    if (response.destroyed) return
    response.writeHead(status, [...headers, 'x-amzn-requestid', requestId])
    response.flushHeaders()
  }
}
