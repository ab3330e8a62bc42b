/** What a runtime answers to an invocation: a result, whole or in pieces, or an error. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import type { ActiveInvocation } from './active-invocation.ts'
import { askForBody, collectBody, dropBody } from './collect-body.ts'
import type { Environment } from './environment.ts'
import { invalidResponseMode, reported, responseTooLarge, truncated } from './function-failure.ts'
import { accept, refuse } from './runtime-answer.ts'

interface Exchange {
  readonly environment: Environment
  readonly requestId: string
  readonly request: IncomingMessage
  readonly response: ServerResponse
}

export function receiveResponse(exchange: Exchange): void {
  const { environment, requestId, request, response } = exchange
  const active = take(exchange)
  if (active === undefined) return
  const mode = request.headers['lambda-runtime-function-response-mode']
  const contentType = request.headers['content-type']
  if (mode === undefined) {
    collect(exchange, active, (body) => active.succeed(body, contentType))
    return
  }
  if (mode === 'streaming') {
    receiveStream(exchange, active)
    return
  }
  dropBody(request)
  const named = String(mode)
  active.fail(invalidResponseMode(subjectOf(environment, requestId), named))
  refuse(response, {
    status: 400,
    errorType: 'InvalidFunctionResponseMode',
    errorMessage: `Response mode ${JSON.stringify(named.slice(0, 100))} does not exist: leave it out or say "streaming".`,
  })
}

export function receiveError(exchange: Exchange): void {
  const active = take(exchange)
  if (active === undefined) return
  const headerType = oneOf(exchange.request.headers['lambda-runtime-function-error-type'])
  const subject = subjectOf(exchange.environment, exchange.requestId)
  collect(exchange, active, (body) => active.fail(reported(subject, { body, headerType })))
}

function take({ environment, requestId, request, response }: Exchange): ActiveInvocation | undefined {
  const active = environment.takeForAnswer(requestId)
  if (active !== undefined) return active
  dropBody(request)
  refuse(response, {
    status: 400,
    errorType: 'InvalidRequestID',
    errorMessage: 'No invocation of this id waits for an answer.',
  })
  return undefined
}

function collect(exchange: Exchange, active: ActiveInvocation, onBody: (body: Buffer) => void): void {
  const { request, response } = exchange
  active.whenSettled(() => {
    if (!request.complete && !response.headersSent) request.destroy()
  })
  const options = { request, response, bytesMax: CONTAINER_LIMITS.payloadBytesMax }
  collectBody(options, (body) => {
    if (body.type === 'whole') {
      // First, so that the runtime may come for its next event while the caller is being answered.
      accept(response)
      onBody(body.bytes)
    } else fall(exchange, active, body.type)
  })
}

function receiveStream(exchange: Exchange, active: ActiveInvocation): void {
  const { environment, requestId, request, response } = exchange
  const stream = active.begin(request.headers['content-type'])
  const isOver = (): boolean => active.isSettled
  askForBody(request, response)
  active.whenSettled(() => {
    if (!request.complete && !response.headersSent) request.destroy()
  })
  const onData = (chunk: Buffer): void => {
    if (isOver()) return
    const goesOn = stream.write(chunk)
    if (stream.failure !== undefined) {
      request.off('data', onData)
      dropBody(request)
      if (stream.failure.errorType === 'Function.ResponseSizeTooLarge') tooLarge(response)
      else accept(response)
      active.endStream()
    } else if (!goesOn) {
      request.pause()
      stream.onDrain(() => request.resume())
    }
  }
  request.on('data', onData)
  request.on('end', () => {
    if (isOver()) return
    accept(response)
    const errorType = oneOf(request.trailers['lambda-runtime-function-error-type'])
    if (errorType === undefined) {
      active.endStream()
      return
    }
    const body = Buffer.from(oneOf(request.trailers['lambda-runtime-function-error-body']) ?? '', 'base64')
    active.fail(reported(subjectOf(environment, requestId), { body, headerType: errorType }))
  })
  const broken = (): void => {
    if (!isOver() && !request.complete) fall(exchange, active, 'broken')
  }
  request.on('error', broken)
  request.on('close', broken)
}

function fall(exchange: Exchange, active: ActiveInvocation, why: 'too-large' | 'broken'): void {
  const subject = subjectOf(exchange.environment, exchange.requestId)
  if (why === 'too-large') {
    tooLarge(exchange.response)
    active.fail(responseTooLarge(subject))
    return
  }
  refuse(exchange.response, {
    status: 400,
    errorType: 'TruncatedHTTPRequest',
    errorMessage: 'The connection closed before the end of the body.',
  })
  active.fail(truncated(subject))
}

function tooLarge(response: ServerResponse): void {
  refuse(response, {
    status: 413,
    errorType: 'RequestEntityTooLarge',
    errorMessage: `Exceeded maximum allowed payload size (${CONTAINER_LIMITS.payloadBytesMax} bytes).`,
  })
}

function subjectOf(environment: Environment, requestId: string): { functionName: string; requestId: string } {
  return { functionName: environment.function?.functionName ?? '', requestId }
}

function oneOf(value: string | string[] | undefined): string | undefined {
  const text = typeof value === 'string' ? value : value?.[0]
  return text === '' ? undefined : text
}
