import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream'
import type { IsolaError } from '../../sdk/model/errors.ts'
import { answerError } from './answer.ts'
import { responseHeaders } from './headers.ts'

export interface ForwardOptions {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Makes the outgoing request, with `framing` added to its headers. May throw. */
  readonly send: (method: string, framing: readonly string[]) => ClientRequest
  /** Fields of the answer as they go to the function. @default all but those of the connection */
  readonly headersBack?: (raw: readonly string[]) => string[]
  /** What went wrong, as one of our errors. */
  readonly toError: (error: unknown) => IsolaError
  /** For the message; how long is up to `send`. */
  readonly idleTimeoutMs: number
  readonly onError: (error: IsolaError) => void
}

const NO_BYTES = Buffer.alloc(0)
const REPEATABLE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS'])
/** For these no body needs no word; for others it is said by `Content-Length: 0`. */
const BODILESS_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'DELETE', 'TRACE'])

/** Streams a request out and its response back. Settles by ending or destroying `response`; never throws. */
export function forwardRequest(options: ForwardOptions): void {
  const { request, response, toError, idleTimeoutMs, onError } = options
  const method = request.method ?? 'GET'
  const framing = framingOf(request, method)
  const fail = (error: unknown): void => {
    const failure = toError(error)
    onError(failure)
    answerError(response, failure)
  }
  let outgoing: ClientRequest
  try {
    outgoing = options.send(method, framing.headers)
  } catch (error) {
    fail(error)
    return
  }
  const abort = (): void => void outgoing.destroy()
  response.on('close', abort)
  outgoing.on('timeout', () => outgoing.destroy(new Error(`no byte moved in ${idleTimeoutMs} ms`)))
  outgoing.on('response', (answer) => receive(answer, outgoing, options))
  outgoing.on('error', (error) => {
    response.removeListener('close', abort)
    if (response.destroyed || response.writableEnded) return
    // A kept connection that the other side closed just as it was used again: the request reached nobody.
    const lost =
      outgoing.reusedSocket && !response.headersSent && 'code' in error && error.code === 'ECONNRESET'
    if (lost && !framing.hasBody && REPEATABLE_METHODS.has(method)) forwardRequest(options)
    else fail(error)
  })
  // What nobody reads any more is thrown away, so that the connection can carry the next request.
  outgoing.on('close', () => request.resume())
  if (framing.hasBody) {
    // The head goes at once, also where the body is long in coming.
    outgoing.write(NO_BYTES)
    request.pipe(outgoing)
  } else {
    outgoing.end()
  }
}

function receive(
  answer: IncomingMessage,
  outgoing: ClientRequest,
  { response, headersBack = responseHeaders }: ForwardOptions,
): void {
  try {
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage ?? '', headersBack(answer.rawHeaders))
    // Not `flushHeaders`: that writes fields as UTF-8, and bytes above 0x7f would change.
    response.write(NO_BYTES)
  } catch (error) {
    outgoing.destroy(error as Error)
    return
  }
  pipeline(answer, response, (error) => {
    if (error !== undefined && error !== null) outgoing.destroy()
  })
}

function framingOf(
  request: IncomingMessage,
  method: string,
): { hasBody: boolean; headers: readonly string[] } {
  const { 'transfer-encoding': encoding, 'content-length': length } = request.headers
  if (encoding !== undefined) return { hasBody: true, headers: ['Transfer-Encoding', 'chunked'] }
  if (length !== undefined) return { hasBody: Number(length) > 0, headers: [] }
  return { hasBody: false, headers: BODILESS_METHODS.has(method) ? [] : ['Content-Length', '0'] }
}
