import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { readFileSync } from 'node:fs'
import { afterEach, describe, expect, test } from 'vitest'
import {
  INVOKE_STREAM_TYPE,
  InvokeStreamDecoder,
  type InvokeFrame,
} from '../../runtime/lambda/invoke-stream.ts'
import { open, startReady, type CallOptions } from '../harness/lambda-process.ts'

const cleanups: (() => unknown)[] = []
const onCleanup = (cleanup: () => unknown): void => void cleanups.push(cleanup)
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const INTEGRATION = { 'Content-Type': 'application/vnd.awslambda.http-integration-response' }
const SEPARATOR = Buffer.alloc(8)
const prelude = (head: unknown): Buffer => Buffer.concat([Buffer.from(JSON.stringify(head)), SEPARATOR])

async function startStreaming(options: { readonly fn?: Parameters<typeof startReady>[1] } = {}) {
  const ready = await startReady(onCleanup, { responseStreaming: true, ...options.fn })
  const socketPath = ready.place.httpSocket
  const begin = async (call: CallOptions = {}) => {
    const response = open({ socketPath }, call)
    const { id } = await ready.runtime.next()
    return { id, response }
  }
  return { ...ready, begin }
}

async function read(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of response) parts.push(part as Buffer)
  return Buffer.concat(parts).toString()
}

async function status(sent: ReturnType<Awaited<ReturnType<typeof startStreaming>>['runtime']['stream']>) {
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  response.resume()
  return response.statusCode
}

describe('a streamed response', () => {
  test('goes out as it comes: head, and each piece before the next is written', async () => {
    const { runtime, begin } = await startStreaming()
    const { id, response } = await begin()
    const sent = runtime.stream(id, INTEGRATION)
    const answered = status(sent)
    sent.write(prelude({ statusCode: 203, headers: { 'x-a': 1 }, cookies: ['c=1', 'd=2'] }))
    const head = await response
    expect(head.statusCode).toBe(203)
    expect(head.headers).toMatchObject({
      'x-a': '1',
      'set-cookie': ['c=1', 'd=2'],
      'content-type': 'application/octet-stream',
    })
    for (const piece of ['one', 'two']) {
      sent.write(piece)
      const [chunk] = (await once(head, 'data')) as [Buffer]
      expect(chunk.toString()).toBe(piece)
    }
    const ended = once(head, 'end')
    sent.end()
    expect(await answered).toBe(202)
    await ended
  })

  test('has a prelude that may come byte by byte, with the body right behind it', async () => {
    const { runtime, begin } = await startStreaming()
    const { id, response } = await begin()
    const sent = runtime.stream(id, INTEGRATION)
    const bytes = Buffer.concat([
      prelude({ statusCode: 200, headers: { 'content-type': 'text/css' } }),
      Buffer.from('\0\0b'),
    ])
    for (const byte of bytes) {
      sent.write(Buffer.from([byte]))
      await new Promise(setImmediate)
    }
    sent.end()
    const head = await response
    expect(head.headers['content-type']).toBe('text/css')
    expect(await read(head)).toBe('\0\0b')
  })

  test('without a prelude is a body of the type it says, or of none', async () => {
    const { runtime, begin } = await startStreaming()
    for (const [type, expected] of [
      ['text/plain', 'text/plain'],
      [undefined, 'application/octet-stream'],
    ]) {
      const { id, response } = await begin()
      const sent = runtime.stream(id, type === undefined ? {} : { 'Content-Type': type })
      sent.end('x')
      const head = await response
      expect([head.statusCode, head.headers['content-type'], await read(head)]).toEqual([200, expected, 'x'])
    }
    const { id, response } = await begin()
    runtime.stream(id).end()
    expect([(await response).statusCode, await read(await response)]).toEqual([200, ''])
  })

  test.each([
    ['ends inside', Buffer.from('{"statusCode":200}'), /its prelude has no end/],
    ['is no JSON', Buffer.concat([Buffer.from('nonsense'), SEPARATOR]), /not JSON/],
    ['is no object', Buffer.concat([Buffer.from('7'), SEPARATOR]), /no object/],
    ['has a wrong status', prelude({ statusCode: 1000 }), /statusCode is 1000/],
    ['is larger than 64 KiB', Buffer.alloc(65 * 1024, ' '), /does not end within 65536 bytes/],
  ])('whose prelude %s is answered 502', async (_what, bytes, reason) => {
    const { runtime, begin, agent } = await startStreaming()
    const { id, response } = await begin()
    const sent = runtime.stream(id, INTEGRATION)
    const answered = status(sent)
    sent.end(bytes)
    expect((await response).headers['isola-error']).toBe('function_failed')
    expect((await agent.line(/MalformedResponse/)).message).toMatch(reason)
    expect(await answered).toBe(202)
    void runtime.serve(() => '1')
    expect((await open({ socketPath: runtime.socketPath.replace('api', 'http') }, {})).statusCode).toBe(200)
  })

  test('that fails in the middle is cut, and before the first byte is answered', async () => {
    const { runtime, begin } = await startStreaming()
    const first = await begin()
    const sent = runtime.stream(first.id, INTEGRATION)
    sent.write(prelude({}))
    sent.write('half')
    const head = await first.response
    await once(head, 'data')
    const body = Buffer.from('{"errorType":"Error","errorMessage":"boom"}').toString('base64')
    sent.addTrailers({
      'Lambda-Runtime-Function-Error-Type': 'Error',
      'Lambda-Runtime-Function-Error-Body': body,
    })
    sent.end()
    await expect(read(head)).rejects.toMatchObject({ code: 'ECONNRESET' })
    const second = await begin()
    const early = runtime.stream(second.id, INTEGRATION)
    early.addTrailers({
      'Lambda-Runtime-Function-Error-Type': 'Error',
      'Lambda-Runtime-Function-Error-Body': body,
    })
    early.end()
    expect((await second.response).headers['isola-error']).toBe('function_failed')
  })

  test('whose runtime goes away is cut', async () => {
    const { runtime, begin, agent } = await startStreaming()
    const { id, response } = await begin()
    const sent = runtime.stream(id)
    sent.on('error', () => undefined)
    sent.write('half')
    const head = await response
    await once(head, 'data')
    sent.destroy()
    await expect(read(head)).rejects.toMatchObject({ code: 'ECONNRESET' })
    await agent.line(/Runtime\.TruncatedResponse/)
  })

  test('is collected where the function is not set to stream', async () => {
    const { runtime, begin } = await startStreaming({ fn: { responseStreaming: false } })
    const { id, response } = await begin()
    const sent = runtime.stream(id, INTEGRATION)
    sent.write(prelude({ statusCode: 201, headers: { 'content-type': 'text/css' } }))
    sent.end('abc')
    const head = await response
    expect([head.statusCode, head.headers['content-length'], await read(head)]).toEqual([201, '3', 'abc'])
    const large = await begin()
    const long = runtime.stream(large.id)
    const answered = status(long)
    long.end(Buffer.alloc(7 * 1024 * 1024))
    expect((await large.response).headers['isola-error']).toBe('response_too_large')
    expect(await answered).toBe(413)
    const bad = await begin()
    runtime.stream(bad.id, INTEGRATION).end('no prelude')
    expect((await bad.response).headers['isola-error']).toBe('function_failed')
  })

  test('that nobody reads is not kept: the function has to wait', async () => {
    const { runtime, begin, child } = await startStreaming()
    const { id, response } = await begin()
    const sent = runtime.stream(id)
    const chunk = Buffer.alloc(256 * 1024)
    const residentMib = (): number =>
      Number(readFileSync(`/proc/${child.pid}/statm`, 'utf8').split(' ')[1]) / 256
    sent.write(chunk)
    const head = await response
    head.pause()
    const beforeMib = residentMib()
    let written = 0
    while (sent.write(chunk) || (await drains(sent))) written += chunk.length
    expect(written).toBeLessThan(64 * 1024 * 1024)
    expect(residentMib() - beforeMib).toBeLessThan(40)
    sent.end()
    const rest = await read(head)
    expect(rest.length).toBeGreaterThanOrEqual(written)
  })

  test('goes on to its end when its client goes away, and holds nobody back', async () => {
    const { runtime, begin, agent } = await startStreaming()
    const { id, response } = await begin()
    const sent = runtime.stream(id)
    const answered = status(sent)
    sent.write('x')
    const head = await response
    head.destroy()
    for (let index = 0; index < 64; index += 1) {
      if (!sent.write(Buffer.alloc(256 * 1024))) await once(sent, 'drain')
    }
    sent.end()
    expect(await answered).toBe(202)
    await agent.line(/^REPORT/)
    void runtime.serve(() => '1')
    expect((await open({ socketPath: runtime.socketPath.replace('api', 'http') }, {})).statusCode).toBe(200)
  })

  test('whose client is slow at the deadline loses the client, not the container', async () => {
    const { runtime, begin, agent } = await startStreaming({ fn: { timeoutMs: 400 } })
    const { id, response } = await begin()
    const sent = runtime.stream(id)
    const answered = status(sent)
    sent.write('x')
    const head = await response
    head.pause()
    const broken = once(head, 'error')
    // More than the kernel keeps between the two.
    for (let index = 0; index < 32; index += 1) sent.write(Buffer.alloc(256 * 1024))
    sent.end()
    expect(await answered).toBe(202)
    head.resume()
    await broken
    await agent.line(/^REPORT/)
    expect(agent.messages.some(({ type }) => type === 'timed-out')).toBe(false)
  })
})

describe('invocation as a stream', () => {
  const STREAM = { method: 'POST', headers: { 'isola-invoke': 'stream' }, body: '{}' }

  async function frames(response: IncomingMessage): Promise<InvokeFrame[]> {
    const decoder = new InvokeStreamDecoder()
    const found: InvokeFrame[] = []
    for await (const part of response) found.push(...decoder.decode(part as Buffer))
    return found
  }

  test('frames the pieces as they come, prelude and all, and says that it is complete', async () => {
    const { runtime, begin } = await startStreaming({ fn: { responseStreaming: false } })
    const { id, response } = await begin(STREAM)
    const sent = runtime.stream(id, INTEGRATION)
    sent.write(prelude({ statusCode: 200 }))
    const head = await response
    expect([head.statusCode, head.headers['content-type']]).toEqual([200, INVOKE_STREAM_TYPE])
    sent.end('abc')
    const found = await frames(head)
    expect(found.at(-1)).toEqual({ type: 'complete' })
    const payload = found.flatMap((frame) => (frame.type === 'payload' ? [frame.bytes] : []))
    expect(Buffer.concat(payload).toString()).toBe('{"statusCode":200}\0\0\0\0\0\0\0\0abc')
  })

  test('cuts a whole result into pieces of at most 64 KiB', async () => {
    const { runtime, begin } = await startStreaming()
    const { id, response } = await begin(STREAM)
    await runtime.respond(id, Buffer.alloc(200_000, 'x'))
    const found = await frames(await response)
    const lengths = found.map((frame) => (frame.type === 'payload' ? frame.bytes.length : frame.type))
    expect(lengths).toEqual([65_536, 65_536, 65_536, 3_392, 'complete'])
  })

  test('says how it failed, at once or after the first pieces', async () => {
    const { runtime, begin } = await startStreaming()
    const first = await begin(STREAM)
    await runtime.fail(first.id, { errorType: 'E', errorMessage: 'm' })
    const failed = [{ type: 'failed', document: Buffer.from('{"errorType":"E","errorMessage":"m"}') }]
    expect(await frames(await first.response)).toEqual(failed)
    const second = await begin(STREAM)
    const sent = runtime.stream(second.id)
    sent.write('half')
    const head = await second.response
    sent.addTrailers({
      'Lambda-Runtime-Function-Error-Type': 'E',
      'Lambda-Runtime-Function-Error-Body': Buffer.from('{"errorType":"E","errorMessage":"m"}').toString(
        'base64',
      ),
    })
    sent.end()
    expect(await frames(head)).toEqual([{ type: 'payload', bytes: Buffer.from('half') }, ...failed])
  })

  test('as an event takes a streamed result whole', async () => {
    const { runtime, begin } = await startStreaming()
    const { id, response } = await begin({ ...STREAM, headers: { 'isola-invoke': 'event' } })
    runtime.stream(id, { 'Content-Type': 'text/plain' }).end('abc')
    const head = await response
    expect([head.headers['content-type'], await read(head)]).toEqual(['text/plain', 'abc'])
  })

  test('bytes that are no frames are a fault', () => {
    expect(() => new InvokeStreamDecoder().decode(Buffer.from([9, 0, 0, 0, 0]))).toThrow('type 9')
  })
})

/** False once nothing has moved for a while that was enough for all before it. */
function drains(stream: { once(event: 'drain', listener: () => void): unknown }): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), 500)
    stream.once('drain', () => {
      clearTimeout(timer)
      resolve(true)
    })
  })
}

test('a response that comes slowly holds no other back', async () => {
  const { runtime, begin } = await startStreaming()
  const slow = await begin()
  const socket = connect(runtime.socketPath)
  onCleanup(() => socket.destroy())
  socket.write(
    `POST /2018-06-01/runtime/invocation/${slow.id}/response HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"ha`,
  )
  for (let index = 0; index < 20; index += 1) {
    const { id, response } = await begin()
    await runtime.respond(id, '1')
    expect(await read(await response)).toBe('1')
  }
  socket.write('lfway"')
  expect(await read(await slow.response)).toBe('"halfway"')
})
