/** The paths of a runtime's door: Runtime API, Extensions API, and isola's own claim. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { CONTAINER_LIMITS, LAMBDA_LIMITS } from '../../sdk/model/limits.ts'
import { collectBody } from './collect-body.ts'
import type { Environment } from './environment.ts'
import { receiveError, receiveResponse } from './receive-answer.ts'
import { accept, answerJson, refuse, refuseState } from './runtime-answer.ts'

type Route = (environment: Environment, request: IncomingMessage, response: ServerResponse) => void

const RUNTIME = '/2018-06-01/runtime/'
const INVOCATION = `${RUNTIME}invocation/`

const ROUTES: Readonly<Record<string, readonly [method: string, route: Route]>> = {
  [`${INVOCATION}next`]: ['GET', (environment, _request, response) => environment.next(response)],
  [`${RUNTIME}init/error`]: ['POST', receiveInitError],
  [`${RUNTIME}restore/next`]: ['GET', refuseRestore],
  [`${RUNTIME}restore/error`]: ['POST', refuseRestore],
  '/2018-06-01/ping': ['GET', answerPing],
  '/ping': ['GET', answerPing],
  '/isola/claim': ['GET', (environment, _request, response) => environment.waitForClaim(response)],
  '/2020-01-01/extension/register': ['POST', registerExtension],
  '/2020-01-01/extension/event/next': [
    'GET',
    (environment, { headers }, response) => environment.extensions.next(headers, response),
  ],
  '/2020-01-01/extension/init/error': [
    'POST',
    (environment, { headers }, response) => environment.extensions.fail('init', headers, response),
  ],
  '/2020-01-01/extension/exit/error': [
    'POST',
    (environment, { headers }, response) => environment.extensions.fail('exit', headers, response),
  ],
  '/2022-07-01/telemetry': ['PUT', refuseTelemetry],
  '/2020-08-15/logs': ['PUT', refuseTelemetry],
}

export function serveRuntime(
  environment: Environment,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const target = request.url ?? ''
  const query = target.indexOf('?')
  const path = query === -1 ? target : target.slice(0, query)
  const method = request.method ?? ''
  const known = Object.hasOwn(ROUTES, path) ? ROUTES[path] : undefined
  if (known !== undefined) {
    if (known[0] === method) known[1](environment, request, response)
    else refuseMethod(response, known[0])
    return
  }
  const match = ANSWER_PATH.exec(path)
  if (match === null) refuseUnknown(response)
  else if (method !== 'POST') refuseMethod(response, 'POST')
  else {
    const exchange = { environment, requestId: match[1]!, request, response }
    if (match[2] === 'response') receiveResponse(exchange)
    else receiveError(exchange)
  }
}

const ANSWER_PATH = /^\/2018-06-01\/runtime\/invocation\/([^/]{1,200})\/(response|error)$/

function receiveInitError(
  environment: Environment,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const header = request.headers['lambda-runtime-function-error-type']
  const headerType = typeof header === 'string' && header !== '' ? header : undefined
  collectBody({ request, response, bytesMax: CONTAINER_LIMITS.payloadBytesMax }, (body) => {
    // What it says may be lost; that it failed is not.
    const bytes = body.type === 'whole' ? body.bytes : Buffer.alloc(0)
    if (environment.initError(bytes, headerType)) accept(response)
    else refuseState(response, 'The start of the function is over.')
  })
}

function registerExtension(
  environment: Environment,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  collectBody({ request, response, bytesMax: LAMBDA_LIMITS.registerBytesMax }, (body) =>
    environment.extensions.register(
      request.headers,
      body.type === 'whole' ? body.bytes : undefined,
      response,
    ),
  )
}

function answerPing(_environment: Environment, _request: IncomingMessage, response: ServerResponse): void {
  response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': 4 })
  response.end('pong')
}

function refuseRestore(_environment: Environment, _request: IncomingMessage, response: ServerResponse): void {
  refuse(response, {
    status: 404,
    errorType: 'SnapStart.NotSupported',
    errorMessage: 'There are no snapshots to restore from: go on with runtime/invocation/next.',
  })
}

/** Accepted in form, as extensions end themselves where it is refused. */
function refuseTelemetry(
  _environment: Environment,
  _request: IncomingMessage,
  response: ServerResponse,
): void {
  answerJson(response, 202, {
    errorType: 'Telemetry.NotSupported',
    errorMessage: 'Telemetry is not supported: nothing will be sent.',
  })
}

function refuseUnknown(response: ServerResponse): void {
  refuse(response, { status: 404, errorType: 'NotFound', errorMessage: 'There is no such path.' })
}

function refuseMethod(response: ServerResponse, method: string): void {
  const errorMessage = `This path takes ${method} alone.`
  refuse(response, { status: 405, errorType: 'MethodNotAllowed', errorMessage })
}
