/** Invoke, its old form InvokeAsync, and what both share with InvokeWithResponseStream. */
import type { ErrorBody } from '../../sdk/model/errors.ts'
import { ERRORS, isIsolaError } from '../../sdk/model/errors.ts'
import { CONTAINER_LIMITS, LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { LAMBDA_HEADERS } from '../lambda/wire.ts'
import { ApiError } from './api-error.ts'
import { noContent, type Call } from './call.ts'
import { parseJson } from './fields.ts'
import { functionArn, LATEST, referenceOf, type FunctionReference } from './function-name.ts'
import { functionFailure, throttledToNothing, type FunctionFailure } from './invoke-failure.ts'
import { findLambdaFunction, targetOf, type Target } from './lambda-function.ts'
import { openLogTail, type LogTail } from './log-tail.ts'
import type { IncomingResponse } from './ports.ts'

export async function invoke(call: Call): Promise<Response> {
  const type = call.headers.get('x-amz-invocation-type') ?? 'RequestResponse'
  checkOneOf('x-amz-invocation-type', type, ['RequestResponse', 'Event', 'DryRun'])
  const invocation = await prepare(call)
  if (type === 'DryRun') return noContent()
  if (type === 'Event') {
    await enqueue(call, invocation)
    return new Response(null, { status: 202, headers: versionHeader(invocation) })
  }
  const tail = openTail(call, invocation)
  try {
    const { payload, functionError } = await run(call, invocation)
    return new Response(payload as Uint8Array<ArrayBuffer>, {
      headers: {
        'content-type': 'application/json',
        ...versionHeader(invocation),
        ...(functionError !== undefined && { 'x-amz-function-error': functionError }),
        ...(tail && { 'x-amz-log-result': await tail.result() }),
      },
    })
  } finally {
    tail?.stop()
  }
}

export async function invokeAsync(call: Call): Promise<Response> {
  await enqueue(call, await prepare(call))
  return Response.json({ Status: 202 }, { status: 202 })
}

export interface Invocation {
  readonly reference: FunctionReference
  readonly target: Target
  readonly payload: Uint8Array
  readonly clientContext: string | undefined
}

const EMPTY_EVENT = new TextEncoder().encode('{}')

/** All that can be refused before the function is called. */
export async function prepare(call: Call): Promise<Invocation> {
  const reference = referenceOf(call)
  const { name, qualifier } = reference
  checkOneOf('x-amz-log-type', call.headers.get('x-amz-log-type') ?? 'None', ['None', 'Tail'])
  for (const header of ['x-amz-tenant-id', 'x-amz-durable-execution-name']) {
    if (call.headers.get(header)) {
      throw new ApiError(
        'InvalidParameterValueException',
        `${header} is not supported by isola: leave it out.`,
      )
    }
  }
  if (call.progress.changeOf(name)?.type === 'create') {
    throw new ApiError(
      'ResourceConflictException',
      `The operation cannot be performed at this time. The function is currently in the following state: Pending, or could not be created: ask GetFunction about "${name}".`,
    )
  }
  const fn = await findLambdaFunction(call, name, { isFresh: false })
  const target = targetOf(call, fn, { qualifier, random: Math.random() })
  const payload = call.body.byteLength === 0 ? EMPTY_EVENT : call.body
  parseJson(payload)
  const clientContext = readClientContext(call.headers.get('x-amz-client-context'))
  const isDryRun = call.headers.get('x-amz-invocation-type') === 'DryRun'
  if (fn.lambda.reservedConcurrency === 0 && !isDryRun) throw throttledToNothing()
  return { reference, target, payload, clientContext }
}

/** Throws an `ApiError` where the function has not run. */
export async function callFunction(
  call: Call,
  invocation: Invocation,
  mode: 'event' | 'stream',
): Promise<IncomingResponse | FunctionFailure> {
  const { reference, target, payload, clientContext } = invocation
  const { name, qualifier } = reference
  try {
    const answer = await call.ports.invoke({
      functionName: name,
      ...(target.type !== 'latest' && target.versionId !== undefined && { versionId: target.versionId }),
      payload,
      mode,
      ...(clientContext !== undefined && { clientContext }),
      invokedArn: functionArn(call, name, qualifier),
      requestId: call.requestId,
      signal: call.signal,
    })
    if (answer.status === 200) return answer
    return functionFailure(await readRefusal(answer), call.requestId)
  } catch (error) {
    if (call.signal.aborted) throw new ApiError('ServiceException', 'the caller has gone', { cause: error })
    if (!isIsolaError(error)) throw error
    return functionFailure({ code: error.code, message: error.message, requestId: '' }, call.requestId)
  }
}

export function openTail(call: Call, { reference }: Invocation): LogTail | undefined {
  if (call.headers.get('x-amz-log-type') !== 'Tail') return undefined
  return openLogTail(call.ports.logs, { functionName: reference.name, requestId: call.requestId })
}

export function versionHeader({ target }: Invocation): Record<string, string> {
  return { 'x-amz-executed-version': target.type === 'latest' ? LATEST : target.number }
}

async function enqueue(call: Call, { reference, target, payload, clientContext }: Invocation): Promise<void> {
  const { eventBytesMax } = CONTAINER_LIMITS
  if (payload.byteLength > eventBytesMax) {
    throw new ApiError(
      'RequestTooLargeException',
      `${payload.byteLength} byte payload is too large for the Event invocation type (limit ${eventBytesMax} bytes)`,
    )
  }
  await call.ports.events.enqueue({
    requestId: call.requestId,
    functionName: reference.name,
    ...(target.type !== 'latest' && target.versionId !== undefined && { versionId: target.versionId }),
    payload,
    ...(clientContext !== undefined && { clientContext }),
  })
}

async function run(
  call: Call,
  invocation: Invocation,
): Promise<{ readonly payload: Uint8Array; readonly functionError?: string }> {
  const answer = await callFunction(call, invocation, 'event')
  if ('errorType' in answer) return failed(answer)
  const functionError = answer.headers[LAMBDA_HEADERS.functionError]
  try {
    const payload = await collect(answer.body, CONTAINER_LIMITS.payloadBytesMax)
    if (payload !== undefined) return { payload, ...(functionError !== undefined && { functionError }) }
  } catch {
    // It ran: what broke off is the function's answer, and asking again would run it again.
    return failed({
      errorType: 'Runtime.TruncatedResponse',
      errorMessage: `RequestId: ${call.requestId} Error: the response broke off`,
    })
  }
  return failed({
    errorType: 'Function.ResponseSizeTooLarge',
    errorMessage: `Response payload size exceeded maximum allowed payload size (${CONTAINER_LIMITS.payloadBytesMax} bytes).`,
  })
}

function failed(failure: FunctionFailure): { readonly payload: Uint8Array; readonly functionError: string } {
  return { payload: Buffer.from(JSON.stringify(failure)), functionError: 'Unhandled' }
}

const REFUSAL_BYTES_MAX = 64 * 1024

async function readRefusal(answer: IncomingResponse): Promise<ErrorBody['error']> {
  const body = await collect(answer.body, REFUSAL_BYTES_MAX)
  try {
    const { error } = JSON.parse(Buffer.from(body ?? []).toString('utf8')) as ErrorBody
    if (Object.hasOwn(ERRORS, error.code) && typeof error.message === 'string') return error
  } catch {
    // Not the router's own words: the status says all there is.
  }
  return { code: 'internal', message: `the router answered ${answer.status}`, requestId: '' }
}

/** `undefined` where it is longer. */
async function collect(body: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = []
  let totalBytes = 0
  for await (const chunk of body) {
    totalBytes += chunk.byteLength
    if (totalBytes > bytesMax) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, totalBytes)
}

function readClientContext(header: string | null): string | undefined {
  if (header === null || header === '') return undefined
  if (header.length <= LAMBDA_API_LIMITS.clientContextBytesMax && /^[A-Za-z0-9+/]*={0,2}$/.test(header)) {
    try {
      JSON.parse(Buffer.from(header, 'base64').toString('utf8'))
      return header
    } catch {
      // Said below.
    }
  }
  throw new ApiError(
    'InvalidRequestContentException',
    `Client context must be a valid Base64-encoded JSON object of at most ${LAMBDA_API_LIMITS.clientContextBytesMax} bytes.`,
  )
}

function checkOneOf(header: string, value: string, allowed: readonly string[]): void {
  if (allowed.includes(value)) return
  throw new ApiError(
    'ValidationException',
    `1 validation error detected: Value '${value.slice(0, 100)}' at '${header}' failed to satisfy constraint: Member must satisfy enum value set: [${allowed.join(', ')}]`,
  )
}
