import { Agent, request, type IncomingMessage } from 'node:http'
import { ERRORS, IsolaError, type ErrorCode } from '../../sdk/model/errors.ts'
import { ASYNC_LIMITS } from '../../sdk/model/limits.ts'
import type { EventTry } from '../async/event-worker.ts'
import type { TryAnswer } from '../async/judge-try.ts'
import { LAMBDA_HEADERS } from '../lambda/wire.ts'
import {
  INNER_DOOR_HEADERS,
  type Invocation,
  type InvocationAnswer,
  type Invoker,
} from '../pool/inner-door.ts'
import { INSTANCE_HEADERS } from '../pool/driver.ts'

/** Below the router's own, so that no request meets a connection that is just being closed. */
const IDLE_MS = 4_000

/** Calls functions through the router's inner door at `socketPath`. */
export function createInvoker({ socketPath }: { readonly socketPath: string }): Invoker {
  const agent = new Agent({ keepAlive: true, timeout: IDLE_MS })
  return {
    async invoke(invocation) {
      const incoming = await send(invocation, { socketPath, agent })
      const headers = flat(incoming)
      const error = headers[INNER_DOOR_HEADERS.error]
      return {
        status: incoming.statusCode ?? 502,
        headers,
        error: error !== undefined && Object.hasOwn(ERRORS, error) ? (error as ErrorCode) : undefined,
        functionError: headers[LAMBDA_HEADERS.functionError],
        body: incoming,
      }
    },
    close: () => agent.destroy(),
  }
}

/** One try of an event, as the worker of asynchronous events makes it: with the beginning of the answer. */
export function eventInvoke(invoker: Invoker): (attempt: EventTry) => Promise<TryAnswer> {
  return async (attempt) => {
    const answer = await invoker.invoke({ ...attempt, mode: 'event' })
    const { status, error, functionError, headers } = answer
    const seconds = Number(headers['retry-after'])
    return {
      status,
      error,
      functionError,
      retryAfterS: seconds > 0 ? seconds : undefined,
      body: await readBeginning(answer, ASYNC_LIMITS.answerBytesMax),
    }
  }
}

function send(
  invocation: Invocation,
  way: { readonly socketPath: string; readonly agent: Agent },
): Promise<IncomingMessage> {
  const { functionName, versionId, payload, mode, clientContext, invokedArn, requestId, signal } = invocation
  return new Promise((resolve, reject) => {
    const outgoing = request({
      ...way,
      method: 'POST',
      path: '/',
      // The router knows how long this function may take, and always answers.
      timeout: 0,
      ...(signal && { signal }),
      headers: {
        host: HOST,
        'content-type': 'application/json',
        'content-length': payload.length,
        [INSTANCE_HEADERS.requestId]: requestId,
        [INNER_DOOR_HEADERS.functionName]: functionName,
        [LAMBDA_HEADERS.invoke]: mode,
        ...(versionId !== undefined && { [INNER_DOOR_HEADERS.versionId]: versionId }),
        ...(clientContext !== undefined && { [LAMBDA_HEADERS.clientContext]: clientContext }),
        ...(invokedArn !== undefined && { [LAMBDA_HEADERS.invokedArn]: invokedArn }),
      },
    })
    let isConnected = false
    outgoing.on('socket', (socket) => {
      isConnected = !socket.connecting
      socket.once('connect', () => (isConnected = true))
    })
    outgoing.on('response', resolve)
    outgoing.on('error', (error) => {
      reject(signal?.aborted === true ? signal.reason : unanswered({ error, functionName, isConnected }))
    })
    outgoing.end(payload)
  })
}

/** What the log of requests shows as the host. */
const HOST = 'invoke'

function unanswered(options: {
  readonly error: NodeJS.ErrnoException
  readonly functionName: string
  readonly isConnected: boolean
}): IsolaError {
  const { error, functionName, isConnected } = options
  const why = error.code ?? error.message
  if (isConnected) {
    return new IsolaError(
      'instance_crashed',
      `the connection broke before function "${functionName}" had answered (${why}): it may have run`,
      { cause: error },
    )
  }
  return new IsolaError(
    'node_unreachable',
    `function "${functionName}" was not called: this node's router does not answer (${why}), but is about to be back`,
    { cause: error },
  )
}

function flat({ headers }: IncomingMessage): Record<string, string> {
  const flattened: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) flattened[name] = Array.isArray(value) ? value.join(', ') : value
  }
  return flattened
}

async function readBeginning({ body }: InvocationAnswer, bytesMax: number): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of body) {
    // Read to its end all the same: what comes after it tells that the function has ended.
    if (bytes < bytesMax) parts.push(part.subarray(0, bytesMax - bytes))
    bytes += part.length
  }
  return Buffer.concat(parts).toString('utf8')
}
