/** The agent's client of the inner door, against a real router. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createInvoker, eventInvoke } from '../../runtime/node/invoke.ts'
import type { Invocation, Invoker } from '../../runtime/pool/inner-door.ts'
import { ASYNC_LIMITS } from '../../sdk/model/limits.ts'
import { refused } from '../harness/control-place.ts'
import { startHttpInstance, startRawInstance } from '../harness/fake-instance.ts'
import { startTestRouter, type TestRouter } from '../harness/router-process.ts'

const invocation = (fields: Partial<Invocation> = {}): Invocation => ({
  functionName: 'hello',
  payload: Buffer.from('{"a":1}'),
  mode: 'event',
  requestId: '0d6f0c0e-8f0a-4a39-9a43-6f5f3f1e2c11',
  ...fields,
})

function invokerOf(router: TestRouter): Invoker {
  const invoker = createInvoker({ socketPath: join(router.directory, 'invoke.sock') })
  router.undo.defer(async () => invoker.close())
  return invoker
}

async function textOf(body: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = []
  for await (const part of body) parts.push(part)
  return Buffer.concat(parts).toString()
}

describe('invoking by the inner door', () => {
  test('brings the event, its context and its id to the instance, and the result back', async () => {
    await using router = await startTestRouter()
    const bodies: string[] = []
    const instance = await startHttpInstance(router.socketPath('i1'), (request, response) => {
      let body = ''
      request.on('data', (chunk: Buffer) => (body += chunk.toString()))
      request.on('end', () => {
        bodies.push(body)
        response.writeHead(200, { 'isola-function-error': 'Unhandled', 'x-amzn-requestid': 'r' })
        response.end('{"errorMessage":"no"}')
      })
    })
    router.undo.use(instance)
    await router.apply()
    router.up('i1')
    const answer = await invokerOf(router).invoke(
      invocation({
        versionId: 'hello-v1',
        clientContext: 'eyJ9',
        invokedArn: 'arn:aws:lambda:x',
        mode: 'stream',
      }),
    )
    expect(answer).toMatchObject({ status: 200, error: undefined, functionError: 'Unhandled' })
    expect(answer.headers['x-amzn-requestid']).toBe('r')
    expect(await textOf(answer.body)).toBe('{"errorMessage":"no"}')
    expect(bodies).toEqual(['{"a":1}'])
    expect(instance.requests[0]).toMatchObject({
      method: 'POST',
      url: '/',
      headers: {
        'isola-invoke': 'stream',
        'isola-client-context': 'eyJ9',
        'isola-invoked-arn': 'arn:aws:lambda:x',
        'x-request-id': invocation().requestId,
        'content-length': '7',
      },
    })
  })

  test('tells what the router refuses from what the function answers', async () => {
    await using router = await startTestRouter()
    router.undo.use(
      await startHttpInstance(router.socketPath('i1'), (_request, response) => {
        response.writeHead(503, { 'x-isola-error': 'queue_full' })
        response.end('own words')
      }),
    )
    await router.apply()
    router.up('i1')
    const invoker = invokerOf(router)
    const own = await invoker.invoke(invocation())
    expect([own.status, own.error, await textOf(own.body)]).toEqual([503, undefined, 'own words'])
    const unknown = await invoker.invoke(invocation({ functionName: 'nobody' }))
    expect([unknown.status, unknown.error]).toEqual([404, 'function_not_found'])
    expect(JSON.parse(await textOf(unknown.body))).toMatchObject({ error: { code: 'function_not_found' } })
    const version = await invoker.invoke(invocation({ versionId: 'v9' }))
    expect(version.error).toBe('version_not_found')
    expect(await textOf(version.body)).toContain('v9')
  })

  test('streams: the first bytes are there while the function still works', async () => {
    await using router = await startTestRouter()
    const { promise: read, resolve: onRead } = Promise.withResolvers<void>()
    router.undo.use(
      await startHttpInstance(router.socketPath('i1'), (_request, response) => {
        response.write('first ')
        void read.then(() => response.end('last'))
      }),
    )
    await router.apply()
    router.up('i1')
    const { body } = await invokerOf(router).invoke(invocation({ mode: 'stream' }))
    let text = ''
    for await (const part of body) {
      text += Buffer.from(part).toString()
      onRead()
    }
    expect(text).toBe('first last')
  })

  test('without a router, and with one that dies meanwhile, fails by different names', async () => {
    await using router = await startTestRouter()
    const instance = await startRawInstance(router.socketPath('i1'))
    router.undo.use(instance)
    await router.apply()
    router.up('i1')
    const invoker = invokerOf(router)
    const absent = createInvoker({ socketPath: join(router.directory, 'nothing.sock') })
    await expect(absent.invoke(invocation())).rejects.toEqual(
      refused('node_unreachable', /was not called.*ENOENT/),
    )
    const cut = invoker.invoke(invocation())
    await instance.until((received) => received.includes('{"a":1}'))
    router.process.kill('SIGKILL')
    await expect(cut).rejects.toEqual(refused('instance_crashed', /may have run/))
    // Its socket file is still there, and nobody listens.
    expect(readdirSync(router.directory)).toContain('invoke.sock')
    await expect(invoker.invoke(invocation())).rejects.toEqual(refused('node_unreachable', /ECONNREFUSED/))
  })

  test('a caller that goes ends the request at the instance', async () => {
    await using router = await startTestRouter()
    const instance = await startRawInstance(router.socketPath('i1'))
    router.undo.use(instance)
    await router.apply()
    router.up('i1')
    const leaving = new AbortController()
    const left = invokerOf(router).invoke(invocation({ signal: leaving.signal }))
    await instance.until((received) => received.includes('{"a":1}'))
    leaving.abort(new Error('gone home'))
    await expect(left).rejects.toThrow('gone home')
    await instance.openConnections(0)
  })

  test('a try of an event keeps the beginning of a long answer, and the pause that a refusal asks for', async () => {
    await using router = await startTestRouter({ policy: { queue: 0, max: 1, concurrency: 1 } })
    const { promise: free, resolve: onFree } = Promise.withResolvers<void>()
    router.undo.use(
      await startHttpInstance(router.socketPath('i1'), (_request, response) => {
        void free.then(() => response.end('x'.repeat(1_000_000)))
      }),
    )
    await router.apply()
    router.up('i1')
    const attempt = eventInvoke(invokerOf(router))
    const { signal } = new AbortController()
    const first = attempt({ ...invocation(), signal })
    await router.agent.heard('load', ({ instances }) => instances.some(({ inFlight }) => inFlight === 1))
    expect(await attempt({ ...invocation(), signal })).toMatchObject({ error: 'queue_full', retryAfterS: 1 })
    onFree()
    const { body, status, error } = await first
    expect([status, error, body.length]).toEqual([200, undefined, ASYNC_LIMITS.answerBytesMax])
  })
})
