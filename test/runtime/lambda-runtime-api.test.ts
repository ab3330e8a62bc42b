import { connect } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { FUNCTION, placeOf, RuntimeClient, startLambda, startReady } from '../harness/lambda-process.ts'

const cleanups: (() => unknown)[] = []
const onCleanup = (cleanup: () => unknown): void => void cleanups.push(cleanup)
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const NEXT = '/2018-06-01/runtime/invocation/next'
const INIT_ERROR = '/2018-06-01/runtime/init/error'
const UUID = '5a7d3c1e-9b64-4f0a-8d52-3f8a1c6e7b90'
const TOO_MANY = 6 * 1024 * 1024 + 101
const EVENT = { 'isola-invoke': 'event' }

describe('the Runtime API', () => {
  test('gives an event with the headers that runtimes need, and the caller its result', async () => {
    const { runtime, call, agent } = await startReady(onCleanup)
    const context = Buffer.from(JSON.stringify({ custom: { who: 'ü€😀' } })).toString('base64')
    const before = Date.now()
    const answer = call({
      method: 'POST',
      body: '{"n":1}',
      headers: {
        ...EVENT,
        'x-request-id': UUID,
        'isola-client-context': context,
        'isola-invoked-arn': 'arn:aws:lambda:us-east-1:000000000000:function:shop:live',
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      },
    })
    const { id, headers, event } = await runtime.next()
    expect(await agent.next('ready')).toMatchObject({ id: 'e1', initMs: expect.any(Number) as number })
    expect(id).toBe(UUID)
    expect(event).toEqual({ n: 1 })
    expect(headers['content-type']).toBe('application/json')
    expect(headers['lambda-runtime-invoked-function-arn']).toMatch(/:function:shop:live$/)
    expect(headers['lambda-runtime-trace-id']).toBe(
      'Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1',
    )
    expect(JSON.parse(String(headers['lambda-runtime-client-context']))).toEqual({ custom: { who: 'ü€😀' } })
    const deadlineMs = Number(headers['lambda-runtime-deadline-ms'])
    expect(deadlineMs).toBeGreaterThanOrEqual(before + FUNCTION.timeoutMs)
    expect(deadlineMs).toBeLessThanOrEqual(Date.now() + FUNCTION.timeoutMs)
    const taken = await runtime.respond(id, { ok: true })
    expect([taken.status, taken.text]).toEqual([202, '{"status":"OK"}'])
    expect(await answer).toMatchObject({ status: 200, text: '{"ok":true}' })
    expect((await answer).headers).toMatchObject({ 'x-amzn-requestid': UUID })
    expect((await answer).headers['isola-function-error']).toBeUndefined()
  })

  test('leaves out what a caller did not give, and gives an empty body as an empty event', async () => {
    const { runtime, call } = await startReady(onCleanup)
    const answer = call({ method: 'POST', headers: EVENT })
    const { id, headers, event } = await runtime.next()
    expect(event).toEqual({})
    expect(id).toMatch(/^[0-9a-f-]{36}$/)
    expect(headers['lambda-runtime-invoked-function-arn']).toMatch(/^arn:aws:lambda:.*:function:shop$/)
    expect(headers['lambda-runtime-trace-id']).toMatch(
      /^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0$/,
    )
    expect(headers).not.toHaveProperty('lambda-runtime-client-context')
    await runtime.respond(id, null)
    expect((await answer).text).toBe('null')
  })

  test('passes an error on as the function’s own', async () => {
    const { runtime, call } = await startReady(onCleanup)
    const answer = call({ method: 'POST', headers: EVENT })
    const { id } = await runtime.next()
    const error = { errorType: 'TypeError', errorMessage: 'no such thing', trace: ['at x'] }
    expect((await runtime.fail(id, error)).status).toBe(202)
    const { status, headers, text } = await answer
    expect([status, headers['isola-function-error'], JSON.parse(text)]).toEqual([200, 'Unhandled', error])
  })

  test('makes an error document of what is none, by the type in the header', async () => {
    const { runtime, call } = await startReady(onCleanup)
    const answer = call({ method: 'POST', headers: EVENT })
    const { id } = await runtime.next()
    await runtime.post(`/2018-06-01/runtime/invocation/${id}/error`, 'Segmentation fault', {
      'Lambda-Runtime-Function-Error-Type': 'Runtime.Broken',
    })
    expect(JSON.parse((await answer).text)).toMatchObject({ errorType: 'Runtime.Broken' })
  })

  test('takes an error whose cause fills a header of a megabyte', async () => {
    const { runtime, call } = await startReady(onCleanup)
    const answer = call({ method: 'POST', headers: EVENT })
    const { id } = await runtime.next()
    const cause = { 'Lambda-Runtime-Function-XRay-Error-Cause': 'x'.repeat(1024 * 1024) }
    expect((await runtime.fail(id, { errorType: 'E', errorMessage: 'm' }, cause)).status).toBe(202)
    expect((await answer).headers['isola-function-error']).toBe('Unhandled')
  })

  test('refuses answers to an id that nobody waits for, twice the same answer, and unknown modes', async () => {
    const { runtime, call } = await startReady(onCleanup)
    const refusal = { status: 400, text: expect.stringContaining('"InvalidRequestID"') as string }
    expect(await runtime.respond(UUID, 1)).toMatchObject(refusal)
    expect(await runtime.fail('no-uuid', {})).toMatchObject(refusal)
    const answer = call({ method: 'POST', headers: EVENT })
    const { id } = await runtime.next()
    expect((await runtime.respond(id, 1)).status).toBe(202)
    expect(await runtime.respond(id, 2)).toMatchObject(refusal)
    expect(await runtime.fail(id, {})).toMatchObject(refusal)
    expect((await answer).text).toBe('1')
    const second = call({ method: 'POST', headers: EVENT })
    const event = await runtime.next()
    const mode = { 'Lambda-Runtime-Function-Response-Mode': 'buffered' }
    expect(await runtime.respond(event.id, 1, mode)).toMatchObject({
      status: 400,
      text: expect.stringContaining('"InvalidFunctionResponseMode"') as string,
    })
    expect(JSON.parse((await second).text)).toMatchObject({ errorType: 'Runtime.InvalidResponseModeHeader' })
  })

  test('refuses a response of more than 6 MiB and 100 bytes, tells the caller, and goes on', async () => {
    const { runtime, call } = await startReady(onCleanup)
    const tooLarge = JSON.parse(
      (await withResponse({ runtime, call }, Buffer.alloc(TOO_MANY, 'x'), 413)).text,
    ) as unknown
    expect(tooLarge).toMatchObject({ errorType: 'Function.ResponseSizeTooLarge' })
    const largest = Buffer.alloc(TOO_MANY - 1, 'x')
    expect((await withResponse({ runtime, call }, largest, 202)).body.length).toBe(TOO_MANY - 1)
    // One whose length nobody says, and one of 100 MB.
    const answer = call({ method: 'POST', headers: EVENT })
    const { id } = await runtime.next()
    const chunked = await runtime.post(
      `/2018-06-01/runtime/invocation/${id}/response`,
      Buffer.alloc(TOO_MANY),
      { 'Transfer-Encoding': 'chunked' },
    )
    expect(chunked.status).toBe(413)
    expect((await answer).headers['isola-function-error']).toBe('Unhandled')
    expect((await withResponse({ runtime, call }, Buffer.alloc(100_000_000), 413)).status).toBe(200)
    expect((await withResponse({ runtime, call }, '"still here"', 202)).text).toBe('"still here"')
  })

  test('knows ping, and no other paths, methods or snapshots', async () => {
    const { runtime } = await startReady(onCleanup)
    expect(await runtime.get('/2018-06-01/ping')).toMatchObject({ status: 200, text: 'pong' })
    expect((await runtime.get('/ping')).status).toBe(200)
    const status = async (method: string, path: string): Promise<number> =>
      (await runtime.send({ method, path })).status
    expect(await status('GET', '/2018-06-01/runtime/nothing')).toBe(404)
    expect(await status('GET', '/2018-06-01/runtime/invocation/a/b/response')).toBe(404)
    expect(await status('GET', '/constructor')).toBe(404)
    expect(await status('POST', NEXT)).toBe(405)
    expect(await status('GET', `/2018-06-01/runtime/invocation/${UUID}/response`)).toBe(405)
    expect((await runtime.get('/2018-06-01/runtime/restore/next')).text).toContain('SnapStart.NotSupported')
    expect(await status('POST', '/2018-06-01/runtime/restore/error')).toBe(404)
  })

  test('serves as many polls at a time as there are, each event once', async () => {
    const { runtime, call } = await startReady(onCleanup)
    for (let index = 0; index < 8; index += 1) void runtime.serve(({ event }) => event)
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => call({ method: 'POST', headers: EVENT, body: `{"n":${n}}` })),
    )
    expect(answers.map(({ text }) => text)).toEqual(answers.map((_, n) => `{"n":${n}}`))
  })

  test('a thousand invocations, one after the other: none is lost', async () => {
    const { runtime, call, agent } = await startReady(onCleanup)
    void runtime.serve(({ event }) => event)
    const tookMs: number[] = []
    for (let n = 0; n < 1_000; n += 1) {
      const startMs = performance.now()
      const { text } = await call({ method: 'POST', headers: EVENT, body: `{"n":${n}}` })
      tookMs.push(performance.now() - startMs)
      if (text !== `{"n":${n}}`) expect(text).toBe(`{"n":${n}}`)
    }
    const reports = new Set<string | undefined>()
    while (reports.size < 1_000) {
      await agent.line(/^REPORT/)
      for (const line of agent.lines.splice(0))
        if (line.message.startsWith('REPORT')) reports.add(line.requestId)
    }
    console.info(`warm invocation: median ${tookMs.sort((a, b) => a - b)[500]?.toFixed(3)} ms`)
    expect(reports.size).toBe(1_000)
  })

  test('an event whose poll is lost before all of it has arrived goes to the next poll', async () => {
    const { runtime, call, agent } = await startReady(onCleanup)
    const deaf = connect(runtime.socketPath, () => deaf.write(`GET ${NEXT} HTTP/1.1\r\nHost: x\r\n\r\n`))
    await agent.next('ready')
    const event = JSON.stringify('x'.repeat(5_000_000))
    const answer = call({ method: 'POST', headers: EVENT, body: event })
    const { requestId } = await agent.line(/^START/)
    deaf.destroy()
    const { id } = await runtime.next()
    expect(id).toBe(requestId)
    await runtime.respond(id, 1)
    expect((await answer).text).toBe('1')
  })
})

describe('a start', () => {
  test('that the runtime says has failed is told in its words, and it is over', async () => {
    const { runtime, agent, call } = await startReady(onCleanup)
    const error = { errorType: 'Runtime.ImportModuleError', errorMessage: 'Cannot find module x' }
    const said = await runtime.post(INIT_ERROR, JSON.stringify(error), {
      'Lambda-Runtime-Function-Error-Type': 'Runtime.Other',
    })
    expect(said.status).toBe(202)
    expect(await agent.next('init-failed')).toEqual({
      type: 'init-failed',
      id: 'e1',
      errorType: 'Runtime.ImportModuleError',
      message: 'Cannot find module x',
    })
    expect(await runtime.get(NEXT)).toMatchObject({
      status: 403,
      text: expect.stringContaining('"InvalidStateTransition"') as string,
    })
    await expect(call()).rejects.toMatchObject({ code: 'ENOENT' })
  })

  test('is answered with its failure where somebody waits for it already', async () => {
    const { runtime, call } = await startReady(onCleanup)
    const waiting = call({ method: 'POST', headers: EVENT })
    const web = call()
    // Both are there once a third request on the same door is refused for what it is.
    await call({ method: 'POST', headers: { 'isola-invoke': 'other' } })
    await runtime.post(INIT_ERROR, '{"errorType":"Runtime.HandlerNotFound","errorMessage":"no handler"}')
    expect(await waiting).toMatchObject({
      status: 200,
      text: '{"errorType":"Runtime.HandlerNotFound","errorMessage":"no handler"}',
    })
    expect((await web).headers['isola-error']).toBe('function_failed')
  })

  test('that has been made cannot fail any more', async () => {
    const { runtime, agent } = await startReady(onCleanup)
    void runtime.get(NEXT).catch(() => undefined)
    await agent.next('ready')
    expect((await runtime.post(INIT_ERROR, '{}')).status).toBe(403)
  })

  test('that takes too long, or whose container ends, has failed', async () => {
    const { agent } = await startReady(onCleanup, { initTimeoutMs: 50 })
    expect(await agent.next('init-failed')).toMatchObject({
      errorType: 'Sandbox.Timedout',
      message: 'the runtime did not ask for its first event within 0.05 seconds',
    })
    const other = await startReady(onCleanup)
    other.agent.channel.send({ type: 'ended', id: 'e1', end: { exitCode: 7, outOfMemory: false } })
    expect(await other.agent.next('init-failed')).toMatchObject({
      errorType: 'Runtime.ExitError',
      message: 'Runtime exited with error: exit status 7',
    })
  })
})

describe('a blank', () => {
  test('waits for its function, gets it with the variables of AWS, and again whenever it asks', async () => {
    const lambda = startLambda(onCleanup)
    const agent = await lambda.attach()
    const { place, runtime, call } = placeOf(onCleanup, lambda.directory)
    agent.channel.send({ type: 'open', environment: place })
    await agent.next('opened')
    expect((await runtime.get(NEXT)).status).toBe(403)
    const claim = runtime.get('/isola/claim')
    expect(await agent.next('waiting')).toEqual({ type: 'waiting', id: 'e1' })
    const environment = { COLOR: 'red', _HANDLER: 'forged', AWS_LAMBDA_FUNCTION_NAME: 'forged', LANG: 'C' }
    agent.channel.send({ type: 'claim', id: 'e1', function: { ...FUNCTION, environment } })
    const claimed = await claim
    expect([claimed.status, claimed.headers['content-type']]).toEqual([200, 'application/json'])
    expect(JSON.parse(claimed.text)).toEqual({
      handler: 'index.handler',
      taskRoot: '/var/task',
      environment: {
        COLOR: 'red',
        LANG: 'C',
        TZ: ':UTC',
        AWS_REGION: 'us-east-1',
        AWS_DEFAULT_REGION: 'us-east-1',
        _HANDLER: 'index.handler',
        LAMBDA_TASK_ROOT: '/var/task',
        LAMBDA_RUNTIME_DIR: '/var/runtime',
        AWS_LAMBDA_FUNCTION_NAME: 'shop',
        AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '128',
        AWS_LAMBDA_LOG_GROUP_NAME: '/aws/lambda/shop',
        AWS_LAMBDA_LOG_STREAM_NAME: 'e1',
        AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
      },
    })
    expect((await runtime.get('/isola/claim')).text).toBe(claimed.text)
    void runtime.serve(() => ({ statusCode: 200, body: 'hello' }))
    await agent.next('ready')
    expect((await call()).text).toBe('hello')
  })

  test('that does not exist cannot be claimed', async () => {
    const lambda = startLambda(onCleanup)
    const agent = await lambda.attach()
    agent.channel.send({ type: 'claim', id: 'e9', function: FUNCTION })
    expect(await agent.next('init-failed')).toMatchObject({ id: 'e9', errorType: 'Sandbox.Failure' })
  })

  test('that is closed ends the poll of its runtime', async () => {
    const lambda = startLambda(onCleanup)
    const agent = await lambda.attach()
    const { place, runtime } = placeOf(onCleanup, lambda.directory)
    agent.channel.send({ type: 'open', environment: place })
    await agent.next('opened')
    const claim = runtime.get('/isola/claim').then(
      ({ status }) => status,
      () => 'closed',
    )
    await agent.next('waiting')
    agent.channel.send({ type: 'close', id: 'e1' })
    expect([403, 'closed']).toContain(await claim)
    await expect(new RuntimeClient(runtime.socketPath).get(NEXT)).rejects.toMatchObject({
      code: expect.stringMatching(/^(?:ENOENT|ECONNRESET)$/) as string,
    })
  })
})

type Ready = Awaited<ReturnType<typeof startReady>>

async function withResponse(
  { runtime, call }: Pick<Ready, 'runtime' | 'call'>,
  body: string | Buffer,
  status: number,
) {
  const answer = call({ method: 'POST', headers: EVENT })
  const { id } = await runtime.next()
  expect((await runtime.respond(id, body)).status).toBe(status)
  return answer
}
