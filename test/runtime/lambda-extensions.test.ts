import { afterEach, describe, expect, test } from 'vitest'
import type { RuntimeClient } from '../harness/lambda-process.ts'
import { startReady } from '../harness/lambda-process.ts'

const cleanups: (() => unknown)[] = []
const onCleanup = (cleanup: () => unknown): void => void cleanups.push(cleanup)
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const NEXT = '/2018-06-01/runtime/invocation/next'
const REGISTER = '/2020-01-01/extension/register'
const EVENT_NEXT = '/2020-01-01/extension/event/next'
const EVENT = { method: 'POST', headers: { 'isola-invoke': 'event' } }
const UUID = '5a7d3c1e-9b64-4f0a-8d52-3f8a1c6e7b90'

const register = (runtime: RuntimeClient, name: string, events: unknown[], headers = {}) =>
  runtime.post(REGISTER, JSON.stringify({ events }), { 'Lambda-Extension-Name': name, ...headers })

async function registered(runtime: RuntimeClient, name: string, events: unknown[]) {
  const { headers } = await register(runtime, name, events)
  const identifier = { 'Lambda-Extension-Identifier': String(headers['lambda-extension-identifier']) }
  const next = async () => {
    const answer = await runtime.get(EVENT_NEXT, identifier)
    return { ...answer, event: JSON.parse(answer.text) as Record<string, unknown> }
  }
  return { identifier, next }
}

describe('an extension', () => {
  test('registers, and the start of the function waits for its first poll', async () => {
    const { runtime, agent, call } = await startReady(onCleanup)
    const answer = await register(runtime, 'spy', ['INVOKE'], {
      'Lambda-Extension-Accept-Feature': 'accountId',
    })
    expect(answer.status).toBe(200)
    expect(JSON.parse(answer.text)).toEqual({
      functionName: 'shop',
      functionVersion: '$LATEST',
      handler: 'index.handler',
      accountId: '000000000000',
    })
    const identifier = {
      'Lambda-Extension-Identifier': String(answer.headers['lambda-extension-identifier']),
    }
    const event = runtime.next()
    // Both polls have been read when this, asked later, is answered.
    await runtime.get('/ping')
    expect(agent.messages).toEqual([])
    const told = runtime.get(EVENT_NEXT, identifier)
    await agent.next('ready')
    const caller = call(EVENT)
    const { id, headers } = await event
    const { text, headers: toldHeaders } = await told
    expect(JSON.parse(text)).toEqual({
      eventType: 'INVOKE',
      deadlineMs: Number(headers['lambda-runtime-deadline-ms']),
      requestId: id,
      invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
      tracing: { type: 'X-Amzn-Trace-Id', value: headers['lambda-runtime-trace-id'] },
    })
    expect(toldHeaders['lambda-extension-event-identifier']).toMatch(/^[0-9a-f-]{36}$/)
    await runtime.respond(id, 1)
    expect((await caller).text).toBe('1')
  })

  test('holds back the next invocation until it is back, and no answer', async () => {
    const { runtime, call } = await startReady(onCleanup)
    const spy = await registered(runtime, 'spy', ['INVOKE'])
    const quiet = await registered(runtime, 'quiet', [])
    void quiet.next().catch(() => undefined)
    const told = spy.next()
    const caller = call(EVENT)
    const { id } = await runtime.next()
    await told
    await runtime.respond(id, 1)
    expect((await caller).text).toBe('1')
    let isGiven = false
    const second = call(EVENT)
    const event = runtime.next().finally(() => (isGiven = true))
    await runtime.get('/ping')
    expect(isGiven).toBe(false)
    const again = spy.next()
    await runtime.respond((await event).id, 2)
    expect((await second).text).toBe('2')
    expect((await again).event.eventType).toBe('INVOKE')
  })

  test('that does not come back ends the environment after the time of an invocation', async () => {
    const { runtime, call, agent } = await startReady(onCleanup, { timeoutMs: 150 })
    const spy = await registered(runtime, 'spy', ['INVOKE', 'SHUTDOWN'])
    const told = spy.next()
    const caller = call(EVENT)
    const { id } = await runtime.next()
    await told
    await runtime.respond(id, 1)
    await caller
    void runtime.get(NEXT).catch(() => undefined)
    expect((await call(EVENT)).text).toContain('Sandbox.Timedout')
    expect((await agent.next('timed-out')).message).toContain('an extension did not ask')
    // It hears why when it asks at last.
    expect((await spy.next()).event).toMatchObject({ eventType: 'SHUTDOWN', shutdownReason: 'timeout' })
  })

  test('is told of an orderly end, if it asked for that', async () => {
    const { runtime, agent } = await startReady(onCleanup)
    const spy = await registered(runtime, 'spy', ['SHUTDOWN'])
    const told = spy.next()
    const before = Date.now()
    void runtime.get(NEXT).catch(() => undefined)
    await agent.next('ready')
    agent.channel.send({ type: 'ending', id: 'e1', graceMs: 5_000 })
    const { event } = await told
    expect(event).toMatchObject({ eventType: 'SHUTDOWN', shutdownReason: 'spindown' })
    expect(Number(event.deadlineMs)).toBeGreaterThanOrEqual(before + 2_000)
  })

  test('that fails while the function starts fails the start', async () => {
    const { runtime, agent } = await startReady(onCleanup)
    const spy = await registered(runtime, 'spy', ['INVOKE'])
    const path = '/2020-01-01/extension/init/error'
    const missing = await runtime.post(path, '{}', spy.identifier)
    expect([missing.status, missing.text]).toEqual([
      403,
      expect.stringContaining('Extension.MissingHeader') as string,
    ])
    const type = { 'Lambda-Extension-Function-Error-Type': 'Extension.Broken' }
    expect((await runtime.post(path, '{}', { ...spy.identifier, ...type })).status).toBe(202)
    expect(await agent.next('init-failed')).toMatchObject({
      errorType: 'Extension.InitError',
      message: 'extension "spy" failed',
    })
  })

  test('that fails later fails what is under way', async () => {
    const { runtime, agent, call } = await startReady(onCleanup)
    const spy = await registered(runtime, 'spy', ['INVOKE'])
    void spy.next()
    const caller = call(EVENT)
    await runtime.next()
    const type = { 'Lambda-Extension-Function-Error-Type': 'Extension.Broken' }
    await runtime.post('/2020-01-01/extension/exit/error', '{}', { ...spy.identifier, ...type })
    expect(JSON.parse((await caller).text)).toMatchObject({ errorType: 'Extension.ExitError' })
    expect((await agent.next('timed-out')).message).toBe('extension "spy" failed: Extension.ExitError')
  })

  test('gets a named error for everything that is wrong', async () => {
    const { runtime, agent } = await startReady(onCleanup)
    const errorOf = ({ status, text }: { status: number; text: string }) => [
      status,
      (JSON.parse(text) as { errorType: string }).errorType,
    ]
    const named = { 'Lambda-Extension-Name': 'a' }
    expect(errorOf(await runtime.post(REGISTER, '{"events":[]}'))).toEqual([
      403,
      'Extension.InvalidExtensionName',
    ])
    expect(errorOf(await register(runtime, 'a/b', []))).toEqual([403, 'Extension.InvalidExtensionName'])
    expect(errorOf(await runtime.post(REGISTER, '{', named))).toEqual([403, 'InvalidRequestFormat'])
    expect(errorOf(await runtime.post(REGISTER, '{"events":1}', named))).toEqual([
      403,
      'InvalidRequestFormat',
    ])
    expect(errorOf(await runtime.post(REGISTER, Buffer.alloc(70_000, ' '), named))).toEqual([
      403,
      'InvalidRequestFormat',
    ])
    expect(errorOf(await register(runtime, 'a', ['START']))).toEqual([403, 'Extension.InvalidEventType'])
    const next = async (headers = {}) => errorOf(await runtime.get(EVENT_NEXT, headers))
    expect(await next()).toEqual([403, 'Extension.MissingExtensionIdentifier'])
    const id = 'Lambda-Extension-Identifier'
    expect(await next({ [id]: 'x' })).toEqual([403, 'Extension.InvalidExtensionIdentifier'])
    expect(await next({ [id]: UUID })).toEqual([403, 'Extension.UnknownExtensionIdentifier'])
    const first = await registered(runtime, 'e0', [])
    expect(errorOf(await register(runtime, 'e0', []))).toEqual([403, 'Extension.InvalidExtensionState'])
    const others = await Promise.all(
      Array.from({ length: 9 }, (_, index) => registered(runtime, `e${index + 1}`, [])),
    )
    expect(errorOf(await register(runtime, 'e10', []))).toEqual([403, 'Extension.TooManyExtensions'])
    for (const extension of [first, ...others]) void extension.next().catch(() => undefined)
    void runtime.get(NEXT).catch(() => undefined)
    await agent.next('ready')
    expect(await next(first.identifier)).toEqual([403, 'Extension.InvalidExtensionState'])
    expect(errorOf(await register(runtime, 'late', []))).toEqual([403, 'Extension.RegistrationClosed'])
  })

  test.each(['/2022-07-01/telemetry', '/2020-08-15/logs'])('goes on without %s', async (path) => {
    const { runtime } = await startReady(onCleanup)
    const { status, text } = await runtime.send({ method: 'PUT', path, body: '{}' })
    expect([status, text]).toEqual([202, expect.stringContaining('"Telemetry.NotSupported"') as string])
  })
})
