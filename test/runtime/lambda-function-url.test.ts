import { afterEach, describe, expect, test } from 'vitest'
import { startReady, type CallOptions } from '../harness/lambda-process.ts'

const cleanups: (() => unknown)[] = []
const onCleanup = (cleanup: () => unknown): void => void cleanups.push(cleanup)
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const UUID = '5a7d3c1e-9b64-4f0a-8d52-3f8a1c6e7b90'

/** What the router adds. */
const FORWARDED = {
  host: 'shop.example:8443',
  'x-request-id': 'ab12-00000001',
  'x-forwarded-for': '203.0.113.9',
  'x-forwarded-proto': 'https',
  'x-forwarded-host': 'shop.example:8443',
  'x-real-ip': '203.0.113.9',
  'cf-connecting-ip': '203.0.113.9',
  'isola-proto': 'https',
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00',
}

async function startShop(fn: Parameters<typeof startReady>[1] = {}) {
  const ready = await startReady(onCleanup, fn)
  /** The event that the function gets. */
  const eventOf = async (options: CallOptions): Promise<Record<string, unknown>> => {
    const answer = ready.call({ ...options, headers: { ...FORWARDED, ...options.headers } })
    const { id, event } = await ready.runtime.next()
    await ready.runtime.respond(id, '{"statusCode":204}')
    expect((await answer).status).toBe(204)
    return event
  }
  /** What becomes of a result. */
  const resultOf = async (result: unknown, options: CallOptions = {}) => {
    const answer = ready.call({ ...options, headers: { ...FORWARDED, ...options.headers } })
    const { id } = await ready.runtime.next()
    await ready.runtime.respond(id, result)
    return answer
  }
  return { ...ready, eventOf, resultOf }
}

describe('a request', () => {
  test('becomes an event of payload format 2.0, complete', async () => {
    const { eventOf } = await startShop()
    const before = Date.now()
    const event = await eventOf({
      path: '/a%2Fb/%C3%BC?x=1&y=a+b&x=%26&%C3%BC=%zz&flag',
      headers: { 'user-agent': 'curl/8', 'x-request-id': UUID, accept: ['a/b', 'c/d'], 'isola-secret': '1' },
    })
    const { requestContext, ...rest } = event as { requestContext: Record<string, unknown> }
    expect(rest).toEqual({
      version: '2.0',
      routeKey: '$default',
      rawPath: '/a%2Fb/%C3%BC',
      rawQueryString: 'x=1&y=a+b&x=%26&%C3%BC=%zz&flag',
      queryStringParameters: { x: '1,&', y: 'a b', ü: '%zz', flag: '' },
      headers: {
        host: 'shop.example:8443',
        'user-agent': 'curl/8',
        accept: 'a/b,c/d',
        'x-forwarded-for': '203.0.113.9',
        'x-forwarded-proto': 'https',
        'x-forwarded-port': '8443',
        'x-forwarded-host': 'shop.example:8443',
        'x-real-ip': '203.0.113.9',
        traceparent: FORWARDED.traceparent,
        'x-amzn-trace-id': 'Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=0',
      },
      isBase64Encoded: false,
    })
    const { time, timeEpoch, ...context } = requestContext
    expect(context).toEqual({
      accountId: 'anonymous',
      apiId: 'shop',
      authentication: null,
      domainName: 'shop.example',
      domainPrefix: 'shop',
      http: {
        method: 'GET',
        path: '/a%2Fb/%C3%BC',
        protocol: 'HTTP/1.1',
        sourceIp: '203.0.113.9',
        userAgent: 'curl/8',
      },
      requestId: UUID,
      routeKey: '$default',
      stage: '$default',
    })
    expect(timeEpoch).toBeGreaterThanOrEqual(before)
    const at = new Date(Math.floor(Number(timeEpoch) / 1000) * 1000)
    expect(String(time)).toMatch(/^\d\d\/[A-Z][a-z][a-z]\/\d{4}:\d\d:\d\d:\d\d \+0000$/)
    expect(new Date(String(time).replace(':', ' ')).getTime()).toBe(at.getTime())
  })

  test('has its cookies one by one, and not as a header', async () => {
    const { eventOf } = await startShop()
    const { cookies, headers } = await eventOf({ headers: { cookie: 'a=1; b="x y";;c=' } })
    expect(cookies).toEqual(['a=1', 'b="x y"', 'c='])
    expect(headers).not.toHaveProperty('cookie')
    expect(await eventOf({})).not.toHaveProperty('cookies')
  })

  test('keeps the id of the router out where it is no UUID', async () => {
    const { eventOf } = await startShop()
    const { requestContext } = (await eventOf({})) as { requestContext: { requestId: string } }
    expect(requestContext.requestId).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
  })

  test.each([
    ['text/plain; charset=utf-8', 'hé', false],
    ['application/json', '{"a":1}', false],
    ['application/problem+json', '{}', false],
    ['application/javascript', '1', false],
    ['image/svg+xml', '<svg/>', false],
    ['application/xml', '<a/>', false],
    ['application/x-www-form-urlencoded', 'a=1', true],
    ['application/octet-stream', 'abc', true],
    [undefined, 'abc', true],
    ['text/plain', Buffer.from([0xff, 0xfe, 0x00]), true],
  ])('with a body of type %s has it as text or as base64', async (type, body, isBase64Encoded) => {
    const { eventOf } = await startShop()
    const headers: CallOptions['headers'] = type === undefined ? {} : { 'content-type': type }
    const event = await eventOf({ method: 'POST', body, headers })
    const expected = isBase64Encoded ? Buffer.from(body).toString('base64') : body
    expect(event).toMatchObject({ body: expected, isBase64Encoded })
  })

  test('with headers named like parts of JavaScript is an event like any other', async () => {
    const { eventOf } = await startShop()
    const { headers, queryStringParameters } = await eventOf({
      path: '/?__proto__=1&constructor=2',
      headers: { constructor: 'a', 'x-__proto__': 'b' },
    })
    expect(headers).toMatchObject({ constructor: 'a', 'x-__proto__': 'b' })
    expect(JSON.stringify(queryStringParameters)).toBe('{"__proto__":"1","constructor":"2"}')
  })

  test('whose event would have more than 6 MiB and 100 bytes is refused', async () => {
    const { call, runtime, eventOf } = await startShop()
    const tooLarge = await call({ method: 'POST', body: Buffer.alloc(6 * 1024 * 1024 + 101) })
    expect([tooLarge.status, tooLarge.headers['isola-error']]).toEqual([413, 'body_too_large'])
    // As base64 it has a third more.
    const grows = await call({ method: 'POST', body: Buffer.alloc(5 * 1024 * 1024) })
    expect([grows.status, grows.headers['isola-error']]).toEqual([413, 'body_too_large'])
    const fits = await eventOf({ method: 'POST', body: Buffer.alloc(4 * 1024 * 1024) })
    expect(String(fits.body).length).toBeGreaterThan(5 * 1024 * 1024)
    runtime.close()
  })
})

describe('a result', () => {
  test('with a statusCode is the response', async () => {
    const { resultOf } = await startShop()
    const { status, headers, text } = await resultOf({
      statusCode: 201,
      headers: {
        'X-Number': 7,
        'x-flag': true,
        'x-null': null,
        'Content-Type': 'text/html',
        connection: 'close',
      },
      cookies: ['a=1; Path=/', 'b=2'],
      body: '<p>ü</p>',
    })
    expect([status, text]).toEqual([201, '<p>ü</p>'])
    expect(headers).toMatchObject({
      'x-number': '7',
      'x-flag': 'true',
      'content-type': 'text/html',
      'set-cookie': ['a=1; Path=/', 'b=2'],
      'content-length': '9',
    })
    expect(headers).not.toHaveProperty('x-null')
    expect(headers).not.toHaveProperty('connection', 'close')
    expect(headers['x-amzn-requestid']).toMatch(/^[0-9a-f-]{36}$/)
  })

  test.each([
    ['"hello"', '"hello"'],
    ['{"a":[1]}', '{"a":[1]}'],
    ['[1]', '[1]'],
    ['null', 'null'],
    ['7', '7'],
    ['', ''],
  ])('without a statusCode, %s, is the body as it is', async (result, body) => {
    const { resultOf } = await startShop()
    const { status, headers, text } = await resultOf(result)
    expect([status, headers['content-type'], text]).toEqual([200, 'application/json', body])
  })

  test('of bytes comes as base64', async () => {
    const { resultOf } = await startShop()
    const bytes = Buffer.from([0, 255, 128, 10])
    const { body, headers } = await resultOf({
      statusCode: '200',
      body: bytes.toString('base64'),
      isBase64Encoded: true,
    })
    expect(body.equals(bytes)).toBe(true)
    expect(headers['content-type']).toBe('application/json')
  })

  test('to HEAD, and with a status that has none, goes out without a body', async () => {
    const { resultOf } = await startShop()
    const head = await resultOf({ statusCode: 200, body: 'abc' }, { method: 'HEAD' })
    expect([head.text, head.headers['content-length']]).toEqual(['', '3'])
    const empty = await resultOf({ statusCode: 204, body: 'abc' })
    expect([empty.status, empty.text, empty.headers['content-type']]).toEqual([204, '', undefined])
    expect((await resultOf({ statusCode: 304 })).status).toBe(304)
  })

  test.each([
    ['not JSON', /not JSON/],
    [{ statusCode: 99 }, /statusCode is 99/],
    [{ statusCode: 101 }, /statusCode is 101/],
    [{ statusCode: 'ok' }, /statusCode is "ok"/],
    [{ statusCode: [200] }, /statusCode is \[200\]/],
    [{ statusCode: 200.5 }, /statusCode is 200.5/],
    [{ statusCode: 200, headers: [] }, /headers is \[\]/],
    [{ statusCode: 200, headers: { a: ['b'] } }, /header "a" is \["b"\]/],
    [{ statusCode: 200, headers: { 'a b': 'c' } }, /header "a b" has characters/],
    [{ statusCode: 200, headers: { a: 'b\r\nc: d' } }, /header "a" has characters/],
    [{ statusCode: 200, cookies: 'a=1' }, /cookies is "a=1"/],
    [{ statusCode: 200, cookies: [1] }, /a cookie is 1/],
    [{ statusCode: 200, body: { a: 1 } }, /body is \{"a":1\}/],
    [{ statusCode: 200, body: '%%%', isBase64Encoded: true }, /not base64/],
    [{ statusCode: 200, body: 'a', isBase64Encoded: 'yes' }, /isBase64Encoded is "yes"/],
  ])('%j is no response: the client gets 502 and the log the reason', async (result, reason) => {
    const { resultOf, agent } = await startShop()
    const { status, headers, text } = await resultOf(result)
    expect([status, headers['isola-error']]).toEqual([502, 'function_failed'])
    expect(JSON.parse(text)).toEqual({
      error: {
        code: 'function_failed',
        message: 'the function "shop" returned what is no HTTP response: its log says why',
        requestId: 'ab12-00000001',
      },
    })
    const line = await agent.line(/^Function\.MalformedResponse/)
    expect(line.message).toMatch(reason)
    expect(line).toMatchObject({ level: 'error', requestId: headers['x-amzn-requestid'], instanceId: 'e1' })
  })

  test('cannot speak to the router', async () => {
    const { resultOf } = await startShop()
    const { status, headers } = await resultOf({
      statusCode: 200,
      headers: { 'Isola-Error': 'function_threw' },
    })
    expect([status, headers['isola-error']]).toEqual([200, undefined])
  })

  test('that is an error keeps the function’s own words from the client', async () => {
    const { call, runtime } = await startShop()
    const answer = call()
    const { id } = await runtime.next()
    await runtime.fail(id, { errorType: 'Error', errorMessage: 'password=hunter2' })
    const { status, headers, text } = await answer
    expect([status, headers['isola-error']]).toEqual([502, 'function_failed'])
    expect(text).not.toContain('hunter2')
  })

  test('that is too large is refused', async () => {
    const { call, runtime } = await startShop()
    const answer = call()
    const { id } = await runtime.next()
    expect((await runtime.respond(id, Buffer.alloc(7 * 1024 * 1024))).status).toBe(413)
    expect((await answer).headers['isola-error']).toBe('response_too_large')
  })
})

test('an unknown way to invoke is refused by name', async () => {
  const { call } = await startShop()
  const { status, text } = await call({ headers: { 'isola-invoke': 'dry' } })
  expect([status, text]).toEqual([400, expect.stringContaining('isola-invoke is \\"dry\\"') as string])
})

test.each([
  ['{', {}],
  ['{"a":1} x', {}],
  [Buffer.from([0x22, 0xff, 0x22]), {}],
  ['{}', { 'isola-client-context': '%%%' }],
  ['{}', { 'isola-client-context': Buffer.from('{').toString('base64') }],
])('an event %s with headers %j that is not JSON reaches no function', async (body, headers) => {
  const { call } = await startShop()
  const answer = await call({ method: 'POST', body, headers: { 'isola-invoke': 'event', ...headers } })
  expect([answer.status, answer.headers['isola-error']]).toEqual([400, 'bad_request'])
})
