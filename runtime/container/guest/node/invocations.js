/** Takes one event after the other, for ever. */
import process from 'node:process'
import { describeError, runtimeError } from './describe-error.js'
import { writeError } from './console-lines.js'
import { highWaterMarkOf, isStreaming, ResponseStream } from './response-stream.js'

/** `state` is where the process looks when it must end in between. */
export async function runInvocations({ api, handler, state }) {
  const run = isStreaming(handler) ? runStreaming : runBuffered
  while (!state.isEnding) {
    const { headers, body } = await api.next()
    const id = headers['lambda-runtime-aws-request-id']
    const invocation = { id, fail: (error) => api.fail(id, describeError(error)) }
    state.requestId = id
    state.invocation = invocation
    const traceId = headers['lambda-runtime-trace-id']
    if (traceId !== undefined) process.env['_X_AMZN_TRACE_ID'] = traceId
    try {
      await run({ api, handler, invocation, event: parseEvent(body), context: contextOf(id, headers) })
    } catch (error) {
      // It is being ended already, by something thrown elsewhere.
      if (state.isFailing) return new Promise(() => {})
      writeError('Invoke Error', error, id)
      await invocation.fail(error)
    }
    if (state.isFailing) return new Promise(() => {})
    state.invocation = undefined
  }
  process.exit(0)
}

async function runBuffered({ api, handler, invocation, event, context }) {
  const result = await handler(event, context)
  await api.respond(invocation.id, serialize(result))
}

async function runStreaming({ api, handler, invocation, event, context }) {
  const stream = new ResponseStream({
    open: (contentType) => api.openResponse(invocation.id, contentType),
    highWaterMark: highWaterMarkOf(handler),
  })
  const { fail } = invocation
  invocation.fail = (error) => (stream.hasBegun ? stream.fail(error) : fail(error))
  const returned = handler(event, stream, context)
  if (typeof returned?.then !== 'function') throw new Error('a streaming handler must be an async function')
  await returned
  // What is still being piped when the handler returns belongs to the response.
  await stream.taken()
}

function parseEvent(body) {
  try {
    return JSON.parse(body.toString())
  } catch (error) {
    throw runtimeError('Runtime.UnmarshalError', `the event is not JSON: ${error.message}`)
  }
}

/** A result that JSON has no form for, as that of `undefined`, is `null`. */
function serialize(result) {
  try {
    return JSON.stringify(result) ?? 'null'
  } catch (error) {
    throw runtimeError('Runtime.JSONStringifyError', `the result cannot be written as JSON: ${error.message}`)
  }
}

function contextOf(awsRequestId, headers) {
  const { env } = process
  const deadlineMs = Number(headers['lambda-runtime-deadline-ms'])
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    awsRequestId,
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    clientContext: jsonHeader(headers['lambda-runtime-client-context']),
    identity: jsonHeader(headers['lambda-runtime-cognito-identity']),
    getRemainingTimeInMillis: () => deadlineMs - Date.now(),
  }
}

function jsonHeader(text) {
  // Node reads headers as Latin-1.
  return text === undefined || text === '' ? undefined : JSON.parse(Buffer.from(text, 'latin1').toString())
}
