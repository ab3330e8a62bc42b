/**
 * AWS's Lambda API over the operations of runtime/control: a translation, and no second way to deploy. What a request
 * must be is looked at in the order that gives nothing away and costs nothing: who it says it is, what it wants, its
 * body, whether the signature is right, and only then what it says.
 */
import { randomUUID } from 'node:crypto'
import { isIsolaError } from '../../sdk/model/errors.ts'
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { readBody } from '../control/request-body.ts'
import { ApiError, apiErrorResponse, knownApiError } from './api-error.ts'
import { createChangeProgress, type ChangeProgress } from './change-progress.ts'
import { findOperation, type FoundOperation } from './operations.ts'
import type { LambdaApiPorts } from './ports.ts'
import { checkSignature, readSignature, unrecognizedClient, type Signature } from './signature.ts'

export interface LambdaApiOptions {
  /** Hears every fault that a client only sees as `ServiceException`. @default writes it to stderr */
  readonly onFault?: (error: unknown, requestId: string) => void
  /** Unix ms. @default the clock */
  readonly now?: () => number
  /** How long a change may take before its call answers without it. @default LAMBDA_API_LIMITS.changeWaitMs */
  readonly changeWaitMs?: number
  /** As AWS names it. @default this machine's */
  readonly architecture?: string
}

export interface LambdaApi {
  (request: Request): Promise<Response>
  /** Settles when no change is being made any more. */
  idle(): Promise<void>
}

/** Whether a path is one of AWS's: all begin with a date, and none of isola's do. */
export function isLambdaApiPath(path: string): boolean {
  return /^\/20\d\d-\d\d-\d\d\//.test(path)
}

export function createLambdaApi(ports: LambdaApiPorts, options: LambdaApiOptions = {}): LambdaApi {
  const onFault = options.onFault ?? reportToStderr
  const context: Context = {
    ports,
    now: options.now ?? Date.now,
    architecture: options.architecture ?? (process.arch === 'arm64' ? 'arm64' : 'x86_64'),
    progress: createChangeProgress({
      waitMs: options.changeWaitMs ?? LAMBDA_API_LIMITS.changeWaitMs,
      onFault: (error, functionName) => onFault(error, `that changed "${functionName}"`),
    }),
  }
  const handle = async (request: Request): Promise<Response> => {
    const requestId = randomUUID()
    let response: Response
    try {
      response = await answer(context, request, requestId)
    } catch (error) {
      const known = knownApiError(error)
      if (known === undefined) onFault(error, requestId)
      response = apiErrorResponse(error, requestId)
    }
    response.headers.set('x-amzn-requestid', requestId)
    response.headers.set('date', new Date(context.now()).toUTCString())
    return response
  }
  return Object.assign(handle, { idle: () => context.progress.idle() })
}

interface Context {
  readonly ports: LambdaApiPorts
  readonly progress: ChangeProgress
  readonly now: () => number
  readonly architecture: string
}

async function answer(context: Context, request: Request, requestId: string): Promise<Response> {
  const { ports, progress, architecture } = context
  const { headers } = withHost(request)
  const url = new URL(request.url)
  const signed = { method: request.method, url, headers }
  const signature = readSignature(signed)
  const secretAccessKey = ports.keys.secretOf(signature.accessKeyId)
  if (secretAccessKey === undefined) throw unrecognizedClient()
  const operation = findOperation(request.method, url.pathname)
  const body = await readRequestBody(request, operation)
  checkSignature({ request: signed, signature, body, secretAccessKey, nowMs: context.now() })
  if (operation === undefined) {
    throw new ApiError(
      'UnknownOperationException',
      `There is no operation ${request.method} ${url.pathname.slice(0, 200)} in the Lambda API: check method and path, and the version of the client.`,
    )
  }
  const { name, run, parameters } = operation
  if (run === undefined) {
    throw new ApiError(
      'UnsupportedOperationException',
      `${name} is not supported by isola: the README of its Lambda API lists what is.`,
    )
  }
  return await run({
    ports,
    progress,
    requestId,
    architecture,
    url,
    parameters,
    headers,
    body,
    signal: request.signal,
    ...caller(signature),
  })
}

function caller({ accessKeyId, scope }: Signature): {
  readonly accessKeyId: string
  readonly region: string
} {
  return { accessKeyId, region: scope.region }
}

/** A request that did not come over a socket has no such header, and its URL says the same. */
function withHost(request: Request): { readonly headers: Headers } {
  if (request.headers.has('host')) return { headers: request.headers }
  const headers = new Headers(request.headers)
  headers.set('host', new URL(request.url).host)
  return { headers }
}

async function readRequestBody(request: Request, operation: FoundOperation | undefined): Promise<Uint8Array> {
  const bytesMax = operation?.bodyBytesMax ?? LAMBDA_API_LIMITS.unknownRequestBytesMax
  try {
    return await readBody(request, bytesMax)
  } catch (error) {
    if (!isIsolaError(error) || error.code !== 'body_too_large') throw error
    throw new ApiError(
      operation?.tooLarge ?? 'RequestEntityTooLargeException',
      `Request must be smaller than ${bytesMax} bytes for the ${operation?.name ?? 'unknown'} operation`,
      { cause: error },
    )
  }
}

function reportToStderr(error: unknown, requestId: string): void {
  console.error(`Lambda API: request ${requestId} failed:`, error)
}
