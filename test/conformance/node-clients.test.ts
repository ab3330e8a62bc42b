/**
 * What handlers see and answer is the same under isola's runtime client and AWS's: one suite, both, equal outcomes. They
 * differ where AWS's would leave something undone: an empty body behind HTTP metadata, what is no JSON.
 */
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { AWS_CLIENT_INSTALL_MS, describeAwsClient, installAwsClient } from '../harness/aws-client.ts'
import { startGuest, type Guest, type GuestOptions } from '../harness/guest-runtime.ts'
import type { Outcome } from '../harness/runtime-api.ts'

let client = ''

type Given = Pick<GuestOptions, 'files' | 'handler' | 'environment'>

/** Both of them; theirs first. */
async function startBoth(given: Given): Promise<readonly [Guest, Guest]> {
  return await Promise.all([
    startGuest({ ...given, runtime: 'aws', client }),
    startGuest({ ...given, runtime: 'node' }),
  ])
}

const CARRIED = [
  'content-type',
  'lambda-runtime-function-response-mode',
  'lambda-runtime-function-error-type',
]

/** Without what tells the two apart: places in files, and that AWS's names its type in the header only at init. */
function comparable({ type, text, headers, trailers }: Outcome): unknown {
  const body = type === 'error' ? withoutPlaces(text) : text
  const error = trailers['lambda-runtime-function-error-body']
  return {
    type,
    body,
    headers: type === 'response' ? CARRIED.map((name) => headers[name]) : [],
    ...(error !== undefined && {
      error: withoutPlaces(Buffer.from(error, 'base64').toString()),
      errorType: trailers['lambda-runtime-function-error-type'],
    }),
  }
}

function withoutPlaces(text: string): unknown {
  const { errorType, errorMessage } = JSON.parse(text) as { errorType: string; errorMessage: string }
  return { errorType, errorMessage: errorMessage.split('\nRequire stack')[0]?.replaceAll(/\/tmp\S+/g, '…') }
}

const HEADERS = {
  'Lambda-Runtime-Deadline-Ms': String(Date.now() + 600_000),
  'Lambda-Runtime-Client-Context': '{"custom":{"a":1}}',
  'Lambda-Runtime-Trace-Id': 'Root=1-5759e988-bd862e3fe1be46a994272793',
}

describeAwsClient('the runtime clients of isola and AWS agree on', () => {
  beforeAll(async () => {
    client = join(await installAwsClient(), 'node_modules/aws-lambda-ric/index.mjs')
  }, AWS_CLIENT_INSTALL_MS)

  test.each([
    ['results', 'async (event) => event', [{ a: 1 }, null, 'text', 1.5, [], { ü: '\u2028' }]],
    ['nothing', 'async () => undefined', [1]],
    ['a result that is not a promise', '(event) => [event]', [1]],
    ['errors', "async () => { throw new RangeError('far') }", [1]],
    ['errors without a class', "async () => { throw 'text' }", [1]],
    ['errors that are thrown at once', "() => { throw new TypeError('now') }", [1]],
    [
      'the context',
      `async (event, context) => { const { getRemainingTimeInMillis, ...rest } = context; return ['awsRequestId', 'functionName', 'functionVersion',
      'memoryLimitInMB', 'logGroupName', 'logStreamName', 'invokedFunctionArn', 'clientContext', 'identity'].map((name) => rest[name] ?? null) }`,
      [1],
    ],
    [
      'the environment',
      "async () => ['_HANDLER', 'NAME', 'AWS_LAMBDA_FUNCTION_NAME'].map((name) => process.env[name])",
      [1],
    ],
  ])('%s', async (_what, handler, events) => {
    const both = await startBoth({
      files: { 'index.js': `exports.handler = ${handler}` },
      handler: 'index.handler',
      environment: { NAME: 'Ada' },
    })
    for (const event of events) {
      const [theirs, ours] = await Promise.all(
        both.map(({ api }) => api.invoke(event, { id: 'same', headers: HEADERS })),
      )
      expect(comparable(ours!)).toEqual(comparable(theirs!))
    }
  })

  test.each([
    ['bytes', "stream.write('a'); stream.write(Buffer.from([0, 255])); stream.end()"],
    [
      'metadata',
      "const http = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { a: 'b' }, cookies: ['c=d'] }); http.write('x'); http.end()",
    ],
    ['a content type', "stream.setContentType('text/html'); stream.write({ a: 1 }); stream.end()"],
    [
      'a failure in the middle',
      "stream.write('a'); await new Promise(setImmediate); throw new RangeError('far')",
    ],
  ])('streams: %s', async (_what, body) => {
    const both = await startBoth({
      files: {
        'index.js': `exports.handler = awslambda.streamifyResponse(async (event, stream) => { ${body} })`,
      },
      handler: 'index.handler',
    })
    const [theirs, ours] = await Promise.all(both.map(({ api }) => api.invoke({})))
    expect(comparable(ours!)).toEqual(comparable(theirs!))
  })

  test.each([
    ['no file', {}, 'index.handler'],
    ['no export', { 'index.js': '' }, 'index.handler'],
    ['no function', { 'index.js': 'exports.handler = 1' }, 'index.handler'],
    ['a missing package', { 'index.js': "require('nowhere')" }, 'index.handler'],
    ['a syntax error', { 'index.js': 'exports.handler = (' }, 'index.handler'],
    ['a throw at load', { 'index.mjs': "throw new RangeError('far')" }, 'index.handler'],
  ])('failures to start: %s', async (_what, files, handler) => {
    const both = await startBoth({ files, handler })
    const [theirs, ours] = await Promise.all(both.map(({ api }) => api.initError))
    expect(withoutPlaces(ours!.text)).toEqual(withoutPlaces(theirs!.text))
    expect(ours!.headers['lambda-runtime-function-error-type']).toBe(
      theirs!.headers['lambda-runtime-function-error-type'],
    )
    expect(await both[1].exited).toBe(1)
    expect(await both[0].exited).toBe(1)
  })

  test('names of errors to start whose words differ', async () => {
    for (const [files, handler] of [
      [{ 'index.js': '' }, 'index'],
      [{ 'index.js': '' }, '../index.handler'],
      [{ 'index.js': 'exports.handler = (event, context, callback) => callback()' }, 'index.handler'],
    ] as const) {
      const both = await startBoth({ files, handler })
      const [theirs, ours] = await Promise.all(
        both.map(async ({ api }) => (await api.initError).headers['lambda-runtime-function-error-type']),
      )
      expect(ours).toBe(theirs)
    }
  })
})
