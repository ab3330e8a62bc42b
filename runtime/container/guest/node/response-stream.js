/**
 * `awslambda.streamifyResponse` and `HttpResponseStream`: a handler that writes its response while it makes it. The
 * request that carries it is opened by the first byte, so a handler that fails before has an ordinary error; one that
 * fails later says so in trailers.
 */
import { Writable } from 'node:stream'
import { describeError } from './describe-error.js'

/** Frameworks look for these symbols. */
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming')
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark')
const HTTP_CONTENT_TYPE = 'application/vnd.awslambda.http-integration-response'
/** Between the JSON that says status and headers, and the body. */
const DELIMITER = Buffer.alloc(8)

export const awslambda = {
  streamifyResponse(handler, options) {
    handler[STREAMING] = 'response'
    if (typeof options?.highWaterMark === 'number') handler[HIGH_WATER_MARK] = options.highWaterMark
    return handler
  },
  HttpResponseStream: {
    /** `metadata`: statusCode, headers, cookies. */
    from(stream, metadata) {
      stream.setContentType(HTTP_CONTENT_TYPE)
      stream.prelude = Buffer.concat([Buffer.from(JSON.stringify(metadata)), DELIMITER])
      return stream
    },
  },
}

export function isStreaming(handler) {
  return handler[STREAMING] === 'response'
}

export function highWaterMarkOf(handler) {
  return handler[HIGH_WATER_MARK]
}

export class ResponseStream extends Writable {
  /** Bytes that go out before all others. */
  prelude
  #contentType = 'application/octet-stream'
  #open
  #response

  /** `open(contentType)`: the request as `openResponse` of the Runtime API has it. */
  constructor({ open, highWaterMark }) {
    super(highWaterMark === undefined ? {} : { highWaterMark })
    this.#open = open
    // A failure is the handler's to see; one that does not look must not end the process.
    this.on('error', () => undefined)
  }

  get hasBegun() {
    return this.#response !== undefined
  }

  setContentType(contentType) {
    if (this.hasBegun) throw new Error('the content type must be set before the first byte is written')
    this.#contentType = contentType
  }

  write(chunk, ...rest) {
    const isBytes = typeof chunk === 'string' || chunk instanceof Uint8Array
    return super.write(isBytes ? chunk : JSON.stringify(chunk), ...rest)
  }

  /** Resolves when all of it was taken. Rejects where it cannot be any more. */
  async taken() {
    await new Promise((resolve, reject) => {
      if (this.writableFinished || this.destroyed) resolve()
      this.once('finish', resolve).once('error', reject).once('close', resolve)
    })
    if (this.#response === undefined) throw new Error('the response stream was destroyed before it began')
    await this.#response.done
  }

  /** Ends a response that has begun with what went wrong. */
  async fail(thrown) {
    const { outgoing, done } = this.#response
    const error = describeError(thrown)
    if (!outgoing.writableEnded) {
      outgoing.addTrailers({
        'Lambda-Runtime-Function-Error-Type': error.errorType,
        'Lambda-Runtime-Function-Error-Body': Buffer.from(JSON.stringify(error)).toString('base64'),
      })
      outgoing.end()
    }
    await done.catch(() => undefined)
    this.destroy()
  }

  _write(chunk, _encoding, done) {
    this.#begin().write(chunk, done)
  }

  _final(done) {
    this.#begin().end(done)
  }

  #begin() {
    if (this.#response !== undefined) return this.#response.outgoing
    this.#response = this.#open(this.#contentType)
    const { outgoing } = this.#response
    outgoing.on('error', (error) => this.destroy(error))
    if (this.prelude !== undefined) outgoing.write(this.prelude)
    return outgoing
  }
}
