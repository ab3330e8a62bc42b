/**
 * A call of a function of protocol `lambda` by its event. `isola-invoke-type: sync` waits for the result, which may be the
 * function's own error (`isola-function-error`, status 200); `async` only has the event kept, to be worked on later.
 */
import { isIsolaError, IsolaError, type ErrorBody, type ErrorCode } from '../../sdk/model/errors.ts'
import type { FunctionRecord } from '../../sdk/model/function.ts'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import type { AsyncEvents } from '../async/async-events.ts'
import type { InvocationAnswer } from '../pool/inner-door.ts'
import { findFunction } from './find-function.ts'
import type { ControlPorts } from './ports.ts'
import { readBody } from './request-body.ts'

/** Throws `function_not_found`, `invalid_argument`, `body_too_large`, `storage_full`, and what the router refuses with. */
export async function invokeFunction(
  ports: ControlPorts,
  functionName: string,
  { request, requestId }: { readonly request: Request; readonly requestId: string },
): Promise<Response> {
  const type = request.headers.get('isola-invoke-type') ?? 'sync'
  if (type !== 'sync' && type !== 'async') {
    throw new IsolaError(
      'invalid_argument',
      `isola-invoke-type is ${JSON.stringify(type.slice(0, 40))}: give "sync" or "async"`,
    )
  }
  await checkTakesEvents(ports, findFunction(ports.registry.head, functionName))
  const { payloadBytesMax, eventBytesMax } = CONTAINER_LIMITS
  const payload = await readEvent(request, type === 'sync' ? payloadBytesMax : eventBytesMax)
  if (type === 'async') {
    await eventsOf(ports).enqueue({ functionName, requestId, payload })
    return Response.json({ requestId }, { status: 202 })
  }
  if (ports.invoker === undefined) throw new IsolaError('node_unreachable', 'this node calls no functions')
  const { signal } = request
  const answer = await ports.invoker.invoke({ functionName, payload, mode: 'event', requestId, signal })
  if (answer.error !== undefined) throw await refusalOf(answer, answer.error)
  const headers = new Headers({ 'content-type': answer.headers['content-type'] ?? 'application/json' })
  if (answer.functionError !== undefined) headers.set('isola-function-error', answer.functionError)
  return new Response(ReadableStream.from(answer.body), { status: answer.status, headers })
}

/** Where dead letters are. Throws `data_unusable` where this node keeps no events. */
export function eventsOf({ asyncEvents }: ControlPorts): AsyncEvents {
  if (asyncEvents !== undefined) return asyncEvents
  throw new IsolaError('data_unusable', 'this node keeps no asynchronous events: its log says why')
}

async function checkTakesEvents({ registry }: ControlPorts, record: FunctionRecord): Promise<void> {
  const { name, kind, deployment } = record
  const versionId = deployment.shares[0]?.versionId ?? ''
  const version = kind === 'worker' ? undefined : await registry.getVersion(name, versionId)
  const content = version?.content
  if (content?.kind === 'container' && content.protocol === 'lambda') return
  const what = kind === 'worker' ? 'of kind "worker"' : 'of protocol "http"'
  throw new IsolaError(
    'invalid_argument',
    `function "${name}" is ${what} and takes HTTP requests, no events: call it by its host, which "isola list" shows`,
  )
}

/** JSON in UTF-8; an empty one is `{}`. */
async function readEvent(request: Request, bytesMax: number): Promise<Uint8Array> {
  const body = await readBody(request, bytesMax)
  if (body.length === 0) return new TextEncoder().encode('{}')
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (error) {
    throw new IsolaError('invalid_argument', `the event is not JSON: ${(error as Error).message}`, {
      cause: error,
    })
  }
  return body
}

/** The router's own words as an error of the control API. */
async function refusalOf({ status, body }: InvocationAnswer, code: ErrorCode): Promise<IsolaError> {
  const parts: Uint8Array[] = []
  try {
    for await (const part of body) parts.push(part)
    const { error } = JSON.parse(Buffer.concat(parts).toString('utf8')) as ErrorBody
    return new IsolaError(code, error.message)
  } catch (error) {
    if (isIsolaError(error)) return error
    return new IsolaError(code, `the function was not called: status ${status}`, { cause: error })
  }
}
