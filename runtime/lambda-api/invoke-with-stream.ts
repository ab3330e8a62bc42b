/** InvokeWithResponseStream: the function's bytes as they come, in AWS's frames, and at the end what became of it. */
import { LAMBDA_HEADERS } from '../lambda/wire.ts'
import { INVOKE_STREAM_TYPE, InvokeStreamDecoder } from '../lambda/invoke-stream.ts'
import { ApiError } from './api-error.ts'
import { noContent, type Call } from './call.ts'
import { eventFrame } from './event-stream.ts'
import { callFunction, openTail, prepare, versionHeader } from './invoke.ts'
import type { FunctionFailure } from './invoke-failure.ts'
import type { LogTail } from './log-tail.ts'
import type { IncomingResponse } from './ports.ts'

export async function invokeWithResponseStream(call: Call): Promise<Response> {
  const type = call.headers.get('x-amz-invocation-type') ?? 'RequestResponse'
  if (type !== 'RequestResponse' && type !== 'DryRun') {
    throw new ApiError(
      'InvalidParameterValueException',
      `Invocation type ${type.slice(0, 40)} is not one for response streaming: use RequestResponse or DryRun.`,
    )
  }
  const invocation = await prepare(call)
  if (type === 'DryRun') return noContent()
  const tail = openTail(call, invocation)
  let answer: IncomingResponse | FunctionFailure
  try {
    answer = await callFunction(call, invocation, 'stream')
  } catch (error) {
    tail?.stop()
    throw error
  }
  const frames = streamFrames(answer, tail)
  return new Response(ReadableStream.from(frames) as ReadableStream<Uint8Array<ArrayBuffer>>, {
    headers: { 'content-type': 'application/vnd.amazon.eventstream', ...versionHeader(invocation) },
  })
}

async function* streamFrames(
  answer: IncomingResponse | FunctionFailure,
  tail: LogTail | undefined,
): AsyncGenerator<Uint8Array> {
  try {
    let outcome: Outcome = {}
    if ('errorType' in answer) outcome = failure(JSON.stringify(answer))
    else {
      for await (const event of readAnswer(answer)) {
        if (event.type === 'end') outcome = event.outcome
        else yield payloadChunk(event.bytes)
      }
    }
    const log = tail && { LogResult: await tail.result() }
    yield eventFrame(
      {
        ':message-type': 'event',
        ':event-type': 'InvokeComplete',
        ':content-type': 'application/json',
      },
      Buffer.from(JSON.stringify({ ...outcome, ...log })),
    )
  } finally {
    tail?.stop()
  }
}

/** What `InvokeComplete` says, beside the log. */
type Outcome = { readonly ErrorCode?: string; readonly ErrorDetails?: string }

type AnswerEvent =
  | { readonly type: 'payload'; readonly bytes: Uint8Array }
  | { readonly type: 'end'; readonly outcome: Outcome }

async function* readAnswer({ headers, body }: IncomingResponse): AsyncGenerator<AnswerEvent> {
  const isFramed = headers['content-type'] === INVOKE_STREAM_TYPE
  const decoder = new InvokeStreamDecoder()
  try {
    for await (const chunk of body) {
      if (!isFramed) {
        yield { type: 'payload', bytes: chunk }
        continue
      }
      for (const frame of decoder.decode(Buffer.from(chunk))) {
        if (frame.type === 'payload') yield frame
        else {
          yield {
            type: 'end',
            outcome: frame.type === 'failed' ? failure(frame.document.toString('utf8')) : {},
          }
          return
        }
      }
    }
  } catch {
    yield { type: 'end', outcome: BROKEN_OFF }
    return
  }
  // Unframed answers are whole where their body is: a function of the old kind cannot stream.
  const unhandled = headers[LAMBDA_HEADERS.functionError]
  yield {
    type: 'end',
    outcome: isFramed ? BROKEN_OFF : unhandled === undefined ? {} : { ErrorCode: unhandled },
  }
}

const BROKEN_OFF: Outcome = {
  ErrorCode: 'Runtime.TruncatedResponse',
  ErrorDetails: 'the response broke off before its end',
}

/** Of an error document, as Invoke would have it for payload. */
function failure(document: string): Outcome {
  return { ErrorCode: 'Unhandled', ErrorDetails: document }
}

function payloadChunk(bytes: Uint8Array): Uint8Array {
  return eventFrame(
    {
      ':message-type': 'event',
      ':event-type': 'PayloadChunk',
      ':content-type': 'application/octet-stream',
    },
    bytes,
  )
}
