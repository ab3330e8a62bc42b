import { describe, expect, test } from 'vitest'
import { startGuest, type Guest } from '../harness/guest-runtime.ts'

const HTTP_TYPE = 'application/vnd.awslambda.http-integration-response'
const NUL = '\0'.repeat(8)

/** `body` has `event`, `stream` and `context`. */
const start = (body: string, options = ''): Promise<Guest> =>
  startGuest({
    runtime: 'node',
    handler: 'index.handler',
    files: {
      'index.js': `const { HttpResponseStream } = awslambda
        const { pipeline } = require('node:stream/promises')
        const { Readable } = require('node:stream')
        exports.handler = awslambda.streamifyResponse(async (event, stream, context) => { ${body} }${options})`,
    },
  })

const errorOf = (trailers: NodeJS.Dict<string>): unknown =>
  JSON.parse(
    Buffer.from(trailers['lambda-runtime-function-error-body'] ?? '', 'base64').toString(),
  ) as unknown

describe('a streaming handler of the node runtime', () => {
  test('sends each piece when it is written', async () => {
    const { api, pid } = await start(`
      stream.write('first')
      await new Promise((resolve) => process.on('SIGUSR2', resolve))
      stream.end('second')`)
    // It goes on only when the first piece has arrived.
    const outcome = await api.invoke({}, { onChunk: () => process.kill(pid, 'SIGUSR2') })
    expect(outcome.chunks.map(String)).toEqual(['first', 'second'])
    expect(outcome.headers).toMatchObject({
      'lambda-runtime-function-response-mode': 'streaming',
      'transfer-encoding': 'chunked',
      'content-type': 'application/octet-stream',
      trailer: 'Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body',
    })
    expect(outcome.trailers).toEqual({})
  })

  test('says status, headers and cookies before the body, also before an empty one', async () => {
    const { api } = await start(`
      const http = HttpResponseStream.from(stream, { statusCode: event.status, headers: { 'x-a': 'b' }, cookies: ['c=d'] })
      if (event.body) http.write(event.body)
      http.end()`)
    const head = (status: number) => `{"statusCode":${status},"headers":{"x-a":"b"},"cookies":["c=d"]}${NUL}`
    const whole = await api.invoke({ status: 201, body: 'made' })
    expect(whole.headers['content-type']).toBe(HTTP_TYPE)
    expect(whole.text).toBe(`${head(201)}made`)
    expect((await api.invoke({ status: 204 })).text).toBe(head(204))
  })

  test('takes bytes, text, objects and pipes, and its own content type', async () => {
    const { api } = await start(
      `stream.setContentType('text/plain')
       stream.write({ a: 1 })
       stream.write(new Uint8Array([65, 66]))
       await pipeline(Readable.from(['x', 'y']), stream)`,
      ', { highWaterMark: 1024 }',
    )
    const outcome = await api.invoke({})
    expect(outcome.text).toBe('{"a":1}ABxy')
    expect(outcome.headers['content-type']).toBe('text/plain')
  })

  test('is held back by a reader that does not read', async () => {
    const { api, line } = await start(`
      let isFull = false
      for (let written = 0; written < 64; written += 1) if (!stream.write(Buffer.alloc(1024 * 1024))) isFull = true
      console.log(isFull, stream.writableNeedDrain)
      stream.end()`)
    const outcome = await api.invoke({})
    expect(await line(/INFO/)).toContain('true true')
    expect(outcome.chunks.reduce((sum, chunk) => sum + chunk.length, 0)).toBe(64 * 1024 * 1024)
  })

  test('fails like any other before it begins, and in trailers after', async () => {
    const { api, line } = await start(`
      if (event.at === 'before') throw new TypeError('at once')
      const http = HttpResponseStream.from(stream, { statusCode: 200 })
      if (event.at === 'prelude') throw new TypeError('undecided')
      http.write('half')
      if (event.at === 'outside') setImmediate(() => { throw new TypeError('outside') })
      if (event.at === 'outside') await new Promise(() => {})
      if (event.at === 'middle') throw new TypeError('Straße')
      http.end()`)
    for (const [at, errorMessage] of [
      ['before', 'at once'],
      ['prelude', 'undecided'],
    ] as const) {
      const early = await api.invoke({ at })
      expect(early.type).toBe('error')
      expect(JSON.parse(early.text)).toMatchObject({ errorType: 'TypeError', errorMessage })
    }
    for (const [at, errorMessage] of [
      ['middle', 'Straße'],
      ['outside', 'outside'],
    ] as const) {
      const late = await api.invoke({ at })
      expect(late.type).toBe('response')
      expect(late.text).toBe(`{"statusCode":200}${NUL}half`)
      expect(late.trailers['lambda-runtime-function-error-type']).toBe('TypeError')
      expect(errorOf(late.trailers)).toMatchObject({ errorType: 'TypeError', errorMessage })
    }
    expect(await line(/Uncaught Exception/)).toContain('outside')
  })

  test('finishes what it still pipes when it has returned', async () => {
    const { api } = await start(
      `Readable.from((async function* () { yield 'a'; await new Promise(setImmediate); yield 'b' })()).pipe(stream)`,
    )
    expect((await api.invoke({})).text).toBe('ab')
  })

  test('that is not async is an error, and so are a type that comes too late and a stream that is destroyed', async () => {
    const { api } = await startGuest({
      runtime: 'node',
      handler: 'index.handler',
      files: {
        'index.js': `const run = { plain: () => 1, async late(stream) { stream.write('x'); stream.setContentType('text/plain') }, async gone(stream) { stream.destroy() } }
          exports.handler = awslambda.streamifyResponse(({ kind }, stream) => run[kind](stream))`,
      },
    })
    expect(JSON.parse((await api.invoke({ kind: 'plain' })).text)).toMatchObject({
      errorMessage: 'a streaming handler must be an async function',
    })
    const late = await api.invoke({ kind: 'late' })
    expect(errorOf(late.trailers)).toMatchObject({
      errorMessage: expect.stringContaining('before the first byte') as string,
    })
    expect(JSON.parse((await api.invoke({ kind: 'gone' })).text)).toMatchObject({
      errorMessage: expect.stringContaining('destroyed before it began') as string,
    })
  })

  test('learns by its stream that the other end is gone, and serves the next event', async () => {
    const { api, line } = await start(`
      if (event.next) return void stream.end('next')
      stream.on('error', () => console.log('noticed'))
      stream.write('half'); console.log('begun')
      const timer = setInterval(() => stream.write('more'), 5)
      await new Promise((resolve) => stream.once('close', resolve))
      clearInterval(timer)`)
    const begun = Promise.withResolvers<void>()
    void api.invoke({}, { onChunk: () => begun.resolve() })
    await begun.promise
    await api.stop()
    await line(/noticed/)
    await api.start()
    expect((await api.invoke({ next: true })).text).toBe('next')
  })
})
