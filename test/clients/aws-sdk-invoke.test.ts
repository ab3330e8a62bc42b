/** The unmodified AWS SDK calls functions; what the router's inner door says is faked. */
import {
  CreateFunctionCommand,
  InvokeAsyncCommand,
  InvokeCommand,
  InvokeWithResponseStreamCommand,
  PublishVersionCommand,
  type InvokeWithResponseStreamResponseEvent,
} from '@aws-sdk/client-lambda'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  completeFrame,
  failedFrame,
  INVOKE_STREAM_TYPE,
  payloadFrames,
} from '../../runtime/lambda/invoke-stream.ts'
import { LAMBDA_HEADERS } from '../../runtime/lambda/wire.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import { CONTAINER_LIMITS, LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import {
  answerOf,
  errorOf,
  newFunction,
  openLambdaPlace,
  refusalOf,
  type LambdaPlace,
} from '../runtime/lambda-api-place.ts'

let place: LambdaPlace
beforeEach(async () => {
  place = await openLambdaPlace()
  await place.client.send(new CreateFunctionCommand(await newFunction('hello')))
})
afterEach(() => place.close())

const ARN = 'arn:aws:lambda:us-east-1:000000000000:function:hello'
const invoke = (fields: object = {}) =>
  place.client.send(new InvokeCommand({ FunctionName: 'hello', ...fields }))
const say = (line: Partial<LogLine>): void => {
  for (const listener of place.followers) {
    listener({
      time: '2026-11-21T10:00:00.000Z',
      source: 'console',
      level: 'log',
      functionName: 'hello',
      versionId: 'v',
      message: '',
      ...line,
    })
  }
}

describe('Invoke', () => {
  test('the payload goes to the function as it is, and its answer comes back as it is', async () => {
    const Payload = '{ "ä": [1, 2] }'
    const answer = await invoke({ Payload })
    expect(answer).toMatchObject({ StatusCode: 200, ExecutedVersion: '$LATEST' })
    expect(answer.FunctionError).toBeUndefined()
    expect(answer.LogResult).toBeUndefined()
    expect(answer.Payload?.transformToString()).toBe(Payload)
    const [invoked] = place.invoked
    expect(invoked).toMatchObject({ functionName: 'hello', mode: 'event', invokedArn: ARN })
    expect(invoked?.versionId).toBeUndefined()
    expect(invoked?.requestId).toBe(answer.$metadata.requestId)
  })

  test('without a payload the event is an empty object', async () => {
    await invoke()
    expect(Buffer.from(place.invoked[0]?.payload ?? []).toString()).toBe('{}')
  })

  test.each([
    ['a name', 'hello', ARN],
    ['an ARN', ARN, ARN],
    ['part of an ARN', '000000000000:function:hello', ARN],
    ['a name with a version', 'hello:1', `${ARN}:1`],
    ['an ARN with a version', `${ARN}:1`, `${ARN}:1`],
    ['$LATEST', 'hello:$LATEST', `${ARN}:$LATEST`],
  ])('%s names the function', async (_what, FunctionName, invokedArn) => {
    await place.client.send(new PublishVersionCommand({ FunctionName: 'hello' }))
    const { ExecutedVersion } = await invoke({ FunctionName })
    expect(ExecutedVersion).toBe(FunctionName.endsWith(':1') ? '1' : '$LATEST')
    expect(place.invoked[0]?.invokedArn).toBe(invokedArn)
  })

  test('two qualifiers that differ are refused, and one that nobody knows is not found', async () => {
    expect(await errorOf(invoke({ FunctionName: 'hello:1', Qualifier: '2' }))).toMatchObject({
      name: 'InvalidParameterValueException',
    })
    expect(await errorOf(invoke({ Qualifier: 'live' }))).toMatchObject({
      name: 'ResourceNotFoundException',
      message: `Function not found: ${ARN}:live`,
    })
    expect(await errorOf(invoke({ FunctionName: 'no/such' }))).toMatchObject({ name: 'ValidationException' })
  })

  test('a function that failed is told by FunctionError, and its error is the payload', async () => {
    place.node.invoke = async () =>
      answerOf('{"errorType":"Error","errorMessage":"boom"}', {
        headers: { [LAMBDA_HEADERS.functionError]: 'Unhandled' },
      })
    const answer = await invoke()
    expect(answer).toMatchObject({ StatusCode: 200, FunctionError: 'Unhandled' })
    expect(answer.Payload?.transformToString()).toContain('boom')
  })

  test.each([
    [503, 'start_failed', 'Runtime.InitError'],
    [503, 'crash_loop', 'Runtime.InitError'],
    [502, 'instance_crashed', 'Runtime.ExitError'],
    [503, 'memory_limit_exceeded', 'Runtime.OutOfMemory'],
    [504, 'function_timeout', 'Sandbox.Timedout'],
    [504, 'wall_limit_exceeded', 'Sandbox.Timedout'],
    [502, 'response_too_large', 'Function.ResponseSizeTooLarge'],
  ])('%i %s is a failure of the function, which no client tries again', async (status, code, errorType) => {
    place.node.invoke = async () => refusalOf(status, code, 'the cause')
    const client = place.connect({ maxAttempts: 3 })
    const answer = await client.send(new InvokeCommand({ FunctionName: 'hello' }))
    expect(answer).toMatchObject({ StatusCode: 200, FunctionError: 'Unhandled' })
    const payload = JSON.parse(answer.Payload?.transformToString() ?? '') as object
    expect(payload).toEqual({
      errorType,
      errorMessage: `RequestId: ${answer.$metadata.requestId} Error: the cause`,
    })
    expect(place.invoked).toHaveLength(1)
  })

  test.each([
    [429, 'rate_limited', 'TooManyRequestsException', 'FunctionInvocationRateLimitExceeded'],
    [429, 'quota_exceeded', 'TooManyRequestsException', 'ReservedFunctionConcurrentInvocationLimitExceeded'],
    [429, 'queue_full', 'TooManyRequestsException', 'ConcurrentInvocationLimitExceeded'],
    [503, 'node_full', 'TooManyRequestsException', 'ConcurrentInvocationLimitExceeded'],
    [413, 'body_too_large', 'RequestTooLargeException', undefined],
    [400, 'bad_request', 'InvalidRequestContentException', undefined],
    [404, 'version_not_found', 'ResourceNotFoundException', undefined],
    [503, 'engine_unavailable', 'ServiceException', undefined],
    [503, 'draining', 'ServiceException', undefined],
  ])('%i %s is %s: the function has not run', async (status, code, name, Reason) => {
    place.node.invoke = async () => refusalOf(status, code, 'the cause')
    const error = await errorOf(invoke())
    expect(error).toMatchObject({ name, message: expect.stringContaining('the cause') })
    expect(error['Reason']).toBe(Reason)
  })

  test('a call that was throttled is made again by the SDK, and then succeeds', async () => {
    let calls = 0
    place.node.invoke = async ({ payload }) =>
      ++calls === 1 ? refusalOf(429, 'queue_full', 'full') : answerOf(payload)
    const client = place.connect({ maxAttempts: 3 })
    const answer = await client.send(new InvokeCommand({ FunctionName: 'hello' }))
    expect([answer.StatusCode, calls]).toEqual([200, 2])
  })

  test('an answer that breaks off is a failure of the function: it ran', async () => {
    place.node.invoke = async () => answerOf([Buffer.from('{"a":'), new Error('reset')])
    const answer = await invoke()
    expect(answer.FunctionError).toBe('Unhandled')
    expect(answer.Payload?.transformToString()).toContain('Runtime.TruncatedResponse')
  })

  test('an answer above 6 MB is a failure of the function', async () => {
    place.node.invoke = async () => answerOf(Buffer.alloc(CONTAINER_LIMITS.payloadBytesMax + 1))
    expect((await invoke()).Payload?.transformToString()).toContain('Function.ResponseSizeTooLarge')
  })

  test('a router that cannot be reached is the service’s fault, as is what nobody foresaw', async () => {
    place.node.invoke = async () => {
      throw new IsolaError('node_unreachable', 'no router answers')
    }
    expect(await errorOf(invoke())).toMatchObject({ name: 'ServiceException', status: 500 })
    const fault = new Error('secret detail')
    place.node.invoke = async () => {
      throw fault
    }
    const error = await errorOf(invoke())
    expect(error).toMatchObject({ name: 'ServiceException', status: 500 })
    expect(error.message).not.toContain('secret detail')
    expect(place.faults).toEqual([fault])
    place.node.invoke = async () => answerOf('<html>', { status: 502 })
    expect(await errorOf(invoke())).toMatchObject({ name: 'ServiceException' })
  })

  test.each([
    ['a payload that is no JSON', { Payload: '{nope' }, 'InvalidRequestContentException', 400],
    [
      'a payload that is no UTF-8',
      { Payload: Buffer.from([0x22, 0xff, 0x22]) },
      'InvalidRequestContentException',
      400,
    ],
    [
      'a payload above 6 MB',
      { Payload: Buffer.alloc(6 * 1024 * 1024 + 101, 32) },
      'RequestTooLargeException',
      413,
    ],
    [
      'an event above 1 MB',
      { Payload: JSON.stringify('x'.repeat(1024 * 1024)), InvocationType: 'Event' },
      'RequestTooLargeException',
      413,
    ],
    [
      'a client context that is no JSON',
      { ClientContext: 'bm9wZQ==' },
      'InvalidRequestContentException',
      400,
    ],
    [
      'a client context that is too long',
      { ClientContext: Buffer.from(`"${'x'.repeat(3_000)}"`).toString('base64') },
      'InvalidRequestContentException',
      400,
    ],
    ['an invocation type there is not', { InvocationType: 'Later' }, 'ValidationException', 400],
    ['a log type there is not', { LogType: 'Head' }, 'ValidationException', 400],
    ['a tenant', { TenantId: 't' }, 'InvalidParameterValueException', 400],
  ])('%s is refused before the function is called', async (_what, fields, name, status) => {
    expect(await errorOf(invoke(fields))).toMatchObject({ name, status })
    expect(place.invoked).toEqual([])
    expect(place.enqueued).toEqual([])
  })

  test('the client context goes along', async () => {
    const ClientContext = Buffer.from('{"custom":{"a":"ä"}}').toString('base64')
    await invoke({ ClientContext })
    expect(place.invoked[0]?.clientContext).toBe(ClientContext)
  })

  test('a dry run answers 204 and calls nothing', async () => {
    expect(await invoke({ InvocationType: 'DryRun' })).toMatchObject({ StatusCode: 204 })
    expect(place.invoked).toEqual([])
  })

  test('an event is enqueued before it is acknowledged, with the id that the caller gets', async () => {
    const answer = await invoke({ InvocationType: 'Event', Payload: '{"n":1}' })
    expect(answer.StatusCode).toBe(202)
    expect(place.enqueued).toEqual([
      { requestId: answer.$metadata.requestId, functionName: 'hello', payload: Buffer.from('{"n":1}') },
    ])
    expect(place.invoked).toEqual([])
    const old = await place.client.send(new InvokeAsyncCommand({ FunctionName: 'hello', InvokeArgs: '{}' }))
    expect(old.Status).toBe(202)
    expect(place.enqueued).toHaveLength(2)
  })

  test('an event that cannot be kept is not acknowledged', async () => {
    place.node.enqueue = async () => {
      throw new IsolaError('storage_full', 'the disk is full')
    }
    const error = await errorOf(invoke({ InvocationType: 'Event' }))
    expect(error.message).toContain('the disk is full')
  })
})

describe('the tail of the log', () => {
  const tail = async () => {
    const answer = await invoke({ LogType: 'Tail' })
    return Buffer.from(answer.LogResult ?? '', 'base64').toString()
  }

  test('is what this invocation wrote, from START to REPORT, also what came after the answer', async () => {
    place.node.invoke = async ({ requestId, payload }) => {
      const ours = { instanceId: 'i1' }
      say({ message: 'before', ...ours })
      say({ message: `START RequestId: ${requestId} Version: $LATEST`, requestId, ...ours })
      say({ message: 'plain output', ...ours })
      say({ message: 'of another instance', instanceId: 'i2' })
      say({ message: 'of another request', requestId: 'other', ...ours })
      setImmediate(() => {
        say({ message: `END RequestId: ${requestId}`, requestId, ...ours })
        say({ message: `REPORT RequestId: ${requestId}\tDuration: 1 ms`, requestId, ...ours })
        say({ message: 'late output', ...ours })
        say({ message: 'START RequestId: next Version: $LATEST', requestId: 'next', ...ours })
        say({ message: 'after', ...ours })
      })
      return answerOf(payload)
    }
    const { requestId } = await invoke({ LogType: 'Tail' }).then(({ LogResult, $metadata }) => ({
      ...$metadata,
      LogResult,
    }))
    const text = await tail()
    expect(requestId).toBeDefined()
    expect(text.split('\n').map((line) => line.replaceAll(/[0-9a-f-]{36}/g, 'ID'))).toEqual([
      'START RequestId: ID Version: $LATEST',
      'plain output',
      'late output',
      'END RequestId: ID',
      'REPORT RequestId: ID\tDuration: 1 ms',
      '',
    ])
    expect(place.followers.size).toBe(0)
  })

  test('is the last 4 KB', async () => {
    place.node.invoke = async ({ requestId, payload }) => {
      for (let index = 0; index < 200; index++) say({ message: `${index} ${'x'.repeat(50)}`, requestId })
      say({ message: `REPORT RequestId: ${requestId}\t`, requestId })
      return answerOf(payload)
    }
    const text = await tail()
    expect(Buffer.byteLength(text)).toBe(LAMBDA_API_LIMITS.logTailBytesMax)
    expect(text).toMatch(/199 x+\nREPORT RequestId: .*\n$/)
  })

  test('an invocation whose log never ends is answered all the same', async () => {
    place.node.invoke = async ({ requestId, payload }) => {
      say({ message: 'only this', requestId })
      return answerOf(payload)
    }
    expect(await tail()).toBe('only this\n')
  })

  test('a call that is refused leaves nobody listening', async () => {
    place.node.invoke = async () => refusalOf(429, 'queue_full', 'full')
    await errorOf(tail())
    expect(place.followers.size).toBe(0)
  })
})

describe('InvokeWithResponseStream', () => {
  const stream = async (fields: object = {}) => {
    const answer = await place.client.send(
      new InvokeWithResponseStreamCommand({ FunctionName: 'hello', ...fields }),
    )
    const events: InvokeWithResponseStreamResponseEvent[] = []
    for await (const event of answer.EventStream ?? []) events.push(event)
    const texts = events.flatMap(({ PayloadChunk }) =>
      PayloadChunk === undefined ? [] : [Buffer.from(PayloadChunk.Payload ?? []).toString()],
    )
    return { answer, texts, complete: events.at(-1)?.InvokeComplete }
  }
  const framed = (frames: readonly (Uint8Array | Error)[]) =>
    answerOf(frames, { headers: { 'content-type': INVOKE_STREAM_TYPE } })

  test('pieces come one by one, however the frames were cut, and then the end', async () => {
    place.node.invoke = async () => {
      const whole = Buffer.concat([
        ...payloadFrames(Buffer.from('one')),
        ...payloadFrames(Buffer.from('two')),
        completeFrame(),
      ])
      return framed([...whole].map((byte) => Buffer.from([byte])))
    }
    const { answer, texts, complete } = await stream()
    expect(texts).toEqual(['one', 'two'])
    expect(complete).toEqual({})
    expect(answer).toMatchObject({
      StatusCode: 200,
      ExecutedVersion: '$LATEST',
      ResponseStreamContentType: 'application/vnd.amazon.eventstream',
    })
    expect(place.invoked[0]).toMatchObject({ mode: 'stream' })
  })

  test('the first piece is there before the second is made', async () => {
    let second: (() => void) | undefined
    const asked = new Promise<void>((resolve) => {
      second = resolve
    })
    place.node.invoke = async () => ({
      status: 200,
      headers: { 'content-type': INVOKE_STREAM_TYPE },
      body: (async function* () {
        yield* payloadFrames(Buffer.from('one'))
        await asked
        yield completeFrame()
      })(),
    })
    const answer = await place.client.send(new InvokeWithResponseStreamCommand({ FunctionName: 'hello' }))
    const seen: string[] = []
    for await (const event of answer.EventStream ?? []) {
      seen.push(Object.keys(event)[0] ?? '')
      second?.()
    }
    expect(seen).toEqual(['PayloadChunk', 'InvokeComplete'])
  })

  test('a failure after the first piece is told at the end, with the log', async () => {
    const document = '{"errorType":"Error","errorMessage":"late"}'
    place.node.invoke = async ({ requestId }) => {
      say({ message: `REPORT RequestId: ${requestId}\t`, requestId })
      return framed([...payloadFrames(Buffer.from('one')), failedFrame(Buffer.from(document))])
    }
    const { texts, complete } = await stream({ LogType: 'Tail' })
    expect(texts).toEqual(['one'])
    expect(complete).toMatchObject({ ErrorCode: 'Unhandled', ErrorDetails: document })
    expect(Buffer.from(complete?.LogResult ?? '', 'base64').toString()).toContain('REPORT')
    expect(place.followers.size).toBe(0)
  })

  test.each([
    ['breaks off', () => [...payloadFrames(Buffer.from('one')), new Error('reset')]],
    ['ends without a last frame', () => payloadFrames(Buffer.from('one'))],
  ])('a stream that %s is told as truncated', async (_what, frames) => {
    place.node.invoke = async () => framed(frames())
    const { texts, complete } = await stream()
    expect(texts).toEqual(['one'])
    expect(complete?.ErrorCode).toBe('Runtime.TruncatedResponse')
  })

  test('a start that failed is told in the stream; a refusal is an error of the call', async () => {
    place.node.invoke = async () => refusalOf(503, 'start_failed', 'no handler')
    const { texts, complete } = await stream()
    expect(texts).toEqual([])
    expect(complete?.ErrorDetails).toContain('no handler')
    place.node.invoke = async () => refusalOf(429, 'queue_full', 'full')
    expect(await errorOf(stream({ LogType: 'Tail' }))).toMatchObject({ name: 'TooManyRequestsException' })
    expect(place.followers.size).toBe(0)
  })

  test('events cannot be streamed, and a dry run calls nothing', async () => {
    expect(await errorOf(stream({ InvocationType: 'Event' }))).toMatchObject({
      name: 'InvalidParameterValueException',
    })
    const dry = await place.client.send(
      new InvokeWithResponseStreamCommand({ FunctionName: 'hello', InvocationType: 'DryRun' }),
    )
    expect(dry.StatusCode).toBe(204)
    expect(place.invoked).toEqual([])
  })
})
