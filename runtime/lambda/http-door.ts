/** The router's door of one environment: HTTP requests as events, and events as they are. */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { isUtf8 } from 'node:buffer'
import { collectBody } from './collect-body.ts'
import { answerFailure } from './door-failure.ts'
import type { Environment } from './environment.ts'
import { EventCaller } from './event-caller.ts'
import { functionUrlEvent } from './function-url-event.ts'
import type { Caller } from './invocation.ts'
import { StreamCaller } from './stream-caller.ts'
import { traceIdOf } from './trace-id.ts'
import { UrlCaller } from './url-caller.ts'
import { LAMBDA_HEADERS, type LambdaFunction } from './wire.ts'

interface Call {
  readonly environment: Environment
  readonly fn: LambdaFunction
  readonly request: IncomingMessage
  readonly response: ServerResponse
}

export function serveCall(
  environment: Environment,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const fn = environment.function
  if (fn === undefined || environment.isOver) {
    // The function has not seen it: the router may try another instance.
    request.socket.destroy()
    return
  }
  const { headers } = request
  const mode = headers[LAMBDA_HEADERS.invoke]
  if (mode !== undefined && mode !== 'event' && mode !== 'stream') {
    answerFailure(response, request, {
      code: 'bad_request',
      message: `${LAMBDA_HEADERS.invoke} is ${JSON.stringify(mode)}: say "event" or "stream", or leave it out`,
    })
    return
  }
  const call = { environment, fn, request, response }
  collectBody({ request, response, bytesMax: CONTAINER_LIMITS.payloadBytesMax }, (body) => {
    if (body.type === 'whole') {
      if (mode === undefined) callUrl(call, body.bytes)
      else callEvent(call, mode, body.bytes)
    } else if (body.type === 'too-large') refuseTooLarge(call)
  })
}

function callUrl(call: Call, body: Buffer): void {
  const { fn, request, response } = call
  const { headers, rawHeaders, method = 'GET', url = '/' } = request
  const requestId = requestIdOf(call)
  const traceId = traceOf(request)
  const event = functionUrlEvent({
    method,
    target: url,
    rawHeaders,
    body,
    functionName: fn.functionName,
    requestId,
    traceId,
    nowMs: Date.now(),
  })
  if (event.length > CONTAINER_LIMITS.payloadBytesMax) {
    refuseTooLarge(call)
    return
  }
  const routerId = headers['x-request-id']
  const caller = new UrlCaller({
    response,
    requestId,
    routerId: typeof routerId === 'string' ? routerId : requestId,
    functionName: fn.functionName,
    isStreaming: fn.responseStreaming,
  })
  invoke(call, { requestId, traceId, event, caller })
}

function callEvent(call: Call, mode: 'event' | 'stream', body: Buffer): void {
  const { request, response, fn } = call
  const event = body.length === 0 ? EMPTY_EVENT : body
  const problem = eventProblem(event)
  const context = clientContextOf(request)
  if (problem !== undefined || context.type === 'wrong') {
    const message = problem ?? `${LAMBDA_HEADERS.clientContext} is not base64 of JSON`
    answerFailure(response, request, { code: 'bad_request', message })
    return
  }
  const requestId = requestIdOf(call)
  const options = { response, requestId, functionName: fn.functionName }
  const caller = mode === 'event' ? new EventCaller(options) : new StreamCaller(options)
  invoke(call, {
    requestId,
    traceId: traceOf(request),
    event,
    caller,
    clientContext: context.json,
    invokedArn: arnOf(request),
  })
}

const EMPTY_EVENT = Buffer.from('{}')

interface Parts {
  readonly requestId: string
  readonly traceId: string
  readonly event: Buffer
  readonly caller: Caller
  readonly clientContext?: string | undefined
  readonly invokedArn?: string | undefined
}

function invoke(call: Call, { requestId, traceId, event, caller, clientContext, invokedArn }: Parts): void {
  const isTaken = call.environment.invoke({
    id: requestId,
    event,
    traceId,
    invokedArn,
    clientContext,
    caller,
  })
  if (!isTaken) call.request.socket.destroy()
}

/** The runtime's client parses it and would fail in its own loop, outside of the function. */
function eventProblem(event: Buffer): string | undefined {
  if (!isUtf8(event)) return 'could not parse the request body into JSON: it is not UTF-8'
  try {
    JSON.parse(event.toString('utf8'))
    return undefined
  } catch (error) {
    return `could not parse the request body into JSON: ${(error as Error).message}`
  }
}

type ClientContext =
  | { readonly type: 'right'; readonly json: string | undefined }
  | { readonly type: 'wrong' }

function clientContextOf(request: IncomingMessage): ClientContext {
  const header = request.headers[LAMBDA_HEADERS.clientContext]
  if (typeof header !== 'string' || header === '') return { type: 'right', json: undefined }
  try {
    const value: unknown = JSON.parse(Buffer.from(header, 'base64').toString('utf8'))
    // As a header: what is not ASCII is escaped, as JSON allows for every character.
    const json = JSON.stringify(value).replaceAll(
      /[\u007f-\uffff]/g,
      (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )
    return { type: 'right', json }
  } catch {
    return { type: 'wrong' }
  }
}

function arnOf(request: IncomingMessage): string | undefined {
  const arn = request.headers[LAMBDA_HEADERS.invokedArn]
  return typeof arn === 'string' && /^[!-~]{1,512}$/.test(arn) ? arn : undefined
}

function requestIdOf({ request, environment }: Call): string {
  const given = request.headers['x-request-id']
  // AWS's clients send the same id again when they try again, maybe while the first try still runs.
  return typeof given === 'string' && UUID.test(given) && !environment.hasRequest(given)
    ? given
    : randomUUID()
}

const UUID = /^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/

function traceOf({ headers }: IncomingMessage): string {
  const one = (value: string | string[] | undefined): string | undefined =>
    typeof value === 'string' ? value : undefined
  return traceIdOf({ amazon: one(headers['x-amzn-trace-id']), traceparent: one(headers.traceparent) })
}

function refuseTooLarge({ request, response }: Call): void {
  answerFailure(response, request, {
    code: 'body_too_large',
    message: `the request's event has more than ${CONTAINER_LIMITS.payloadBytesMax} bytes: a function takes no more, put large data elsewhere and pass a reference`,
  })
}
