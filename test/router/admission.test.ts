import { describe, expect, test } from 'vitest'
import { startRawInstance, type RawInstance } from '../harness/fake-instance.ts'
import { hello, startTestRouter, type RawResponse, type TestRouter } from '../harness/router-process.ts'

const get = (router: TestRouter, path = '/'): string => `GET ${path} HTTP/1.1\r\nHost: ${router.host}\r\n\r\n`

async function withInstance(router: TestRouter, answers = true): Promise<RawInstance> {
  const instance = await startRawInstance(router.socketPath('one'), (socket, received) => {
    if (answers && received.endsWith('\r\n\r\n')) socket.write('HTTP/1.1 204 No Content\r\n\r\n')
  })
  router.undo.use(instance)
  router.up('one')
  return instance
}

function errorOf(response: RawResponse): { code: string; message: string } {
  return (JSON.parse(response.body.toString()) as { error: { code: string; message: string } }).error
}

async function statusesOf(router: TestRouter, count: number): Promise<number[]> {
  const responses: number[] = []
  for (let index = 0; index < count; index++) responses.push((await router.ask(get(router))).status)
  return responses
}

describe('a rate:', () => {
  test('what comes above it is 429 with rate and burst and when to come again, and reaches no instance', async () => {
    await using router = await startTestRouter()
    await router.apply([hello({ ratePerS: 0.01, burst: 3 })])
    const instance = await withInstance(router)
    expect(await statusesOf(router, 3)).toEqual([204, 204, 204])
    const response = await router.ask(get(router, '/late'))
    expect([response.status, errorOf(response).code]).toEqual([429, 'rate_limited'])
    expect(errorOf(response).message).toMatch(/"hello" takes 36 requests an hour \(burst 3\)/)
    expect(Number(response.headers['retry-after'])).toBeGreaterThan(90)
    expect(instance.received()).not.toContain('/late')
    const { lines } = await router.agent.heard('log', ({ lines }) =>
      lines.some(({ request }) => request?.path === '/late'),
    )
    expect(lines.at(-1)).toMatchObject({ request: { status: 429, error: 'rate_limited' } })
  })

  test('is of the function, over all its versions, and survives snapshots; another rate holds at once', async () => {
    await using router = await startTestRouter()
    const shares = (versionId: string) => ({ shares: [{ versionId, percent: 100 }] })
    await router.apply([hello({ ratePerS: 0.01, burst: 3 })])
    await withInstance(router)
    expect(await statusesOf(router, 2)).toEqual([204, 204])
    router.up('one', { versionId: 'hello-v2' })
    await router.apply([{ ...hello({ ratePerS: 0.01, burst: 3 }), ...shares('hello-v2') }])
    expect(await statusesOf(router, 2)).toEqual([204, 429])
    await router.apply([{ ...hello({ ratePerS: 1_000_000 }), ...shares('hello-v2') }])
    expect(await statusesOf(router, 2)).toEqual([204, 204])
    await router.apply([{ ...hello(), ...shares('hello-v2') }])
    expect(await statusesOf(router, 2)).toEqual([204, 204])
  })

  test('an instance that is up before its function is known does not loosen it', async () => {
    await using router = await startTestRouter()
    await withInstance(router)
    await router.apply([hello({ ratePerS: 0.01, burst: 1 })])
    expect(await statusesOf(router, 2)).toEqual([204, 429])
  })

  test('a request that is sent to another instance is let in once', async () => {
    await using router = await startTestRouter()
    await router.apply([hello({ ratePerS: 0.01, burst: 2, concurrency: 1 })])
    for (const id of ['ghost-1', 'ghost-2', 'ghost-3']) router.up(id)
    await withInstance(router)
    expect(await statusesOf(router, 3)).toEqual([204, 204, 429])
    expect(router.agent.messages.some(({ type }) => type === 'instance-unreachable')).toBe(true)
  })

  test('who waits for a version that is replaced is let in once', async () => {
    await using router = await startTestRouter()
    const policy = { ratePerS: 0.01, burst: 1, quota: 1 }
    await router.apply([hello(policy)])
    const waiting = router.ask(get(router))
    await router.agent.heard('need')
    await router.apply([{ ...hello(policy), shares: [{ versionId: 'hello-v2', percent: 100 }] }])
    router.undo.use(
      await startRawInstance(router.socketPath('two'), (socket) =>
        socket.write('HTTP/1.1 204 No Content\r\n\r\n'),
      ),
    )
    router.up('two', { versionId: 'hello-v2' })
    expect((await waiting).status).toBe(204)
    expect(errorOf(await router.ask(get(router))).code).toBe('rate_limited')
  })
})

describe('a quota:', () => {
  test('bounds who is in flight or waits; the next is 429 with the values, until one leaves', async () => {
    await using router = await startTestRouter()
    await router.apply([hello({ quota: 2, concurrency: 1 })])
    const instance = await withInstance(router, false)
    const running = await router.open()
    running.send(get(router, '/running'))
    await instance.until((text) => text.includes('/running'))
    const waiting = await router.open()
    waiting.send(get(router, '/waiting'))
    await router.agent.heard('need')
    const response = await router.ask(get(router))
    expect([response.status, errorOf(response).code, response.headers['retry-after']]).toEqual([
      429,
      'quota_exceeded',
      '1',
    ])
    expect(errorOf(response).message).toMatch(/2 requests of function "hello".*quota is 2/)
    waiting.socket.destroy()
    await router.agent.heard(
      'load',
      ({ versions }) => versions[0]?.inFlight === 1 && versions[0].queued === 0,
    )
    const next = router.ask(get(router, '/next'))
    instance.connections[0]!.write('HTTP/1.1 204 No Content\r\n\r\n')
    expect((await running.response()).status).toBe(204)
    await instance.until((text) => text.includes('/next'))
    instance.connections[0]!.write('HTTP/1.1 204 No Content\r\n\r\n')
    expect((await next).status).toBe(204)
    running.socket.destroy()
  })

  test('each way a request can end gives its place back', async () => {
    await using router = await startTestRouter({ limits: { causeWaitMs: 20 } })
    const record = hello({ quota: 1, queueTimeoutMs: 50 }, { responseBytes: 1_000, wallMs: 300 })
    await router.apply([record])
    // Refused at the queue's deadline.
    expect(errorOf(await router.ask(get(router))).code).toBe('queue_timeout')
    let answer = 'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n'
    const instance = await startRawInstance(router.socketPath('one'), (socket) => {
      if (answer === 'close') socket.end()
      else socket.write(answer)
    })
    router.undo.use(instance)
    router.up('one')
    const codes: string[] = []
    for (const next of ['close', 'nonsense\r\n\r\n', '']) {
      codes.push(errorOf(await router.ask(get(router))).code)
      answer = next
    }
    expect(codes).toEqual(['response_too_large', 'instance_crashed', 'invalid_response'])
    // Ended for its wall time, and by its client.
    expect(errorOf(await router.ask(get(router))).code).toBe('wall_limit_exceeded')
    const gone = await router.open()
    const before = instance.accepted
    gone.send(get(router, '/gone'))
    await instance.until((text) => text.includes('/gone'))
    gone.socket.destroy()
    await router.agent.heard('log', ({ lines }) => lines.some(({ request }) => request?.clientAborted))
    expect(instance.accepted).toBeGreaterThan(before)
    answer = 'HTTP/1.1 204 No Content\r\n\r\n'
    expect((await router.ask(get(router))).status).toBe(204)
  })
})

describe('a node:', () => {
  test('holds so many waiting requests of all functions; the next is 503 with when to come again', async () => {
    await using router = await startTestRouter({ limits: { waitingRequestsMax: 2 } })
    const other = { ...hello(), name: 'other', shares: [{ versionId: 'other-v1', percent: 100 }] }
    await router.apply([hello(), other])
    const waiting = [router.ask(get(router)), router.ask(get(router))]
    await router.agent.heard('load', ({ versions }) => versions[0]?.queued === 2)
    const response = await router.ask(`GET / HTTP/1.1\r\nHost: other.localhost\r\n\r\n`)
    expect([response.status, errorOf(response).code, response.headers['retry-after']]).toEqual([
      503,
      'node_full',
      '2',
    ])
    expect(errorOf(response).message).toContain('2 requests already wait')
    await withInstance(router)
    for (const each of waiting) expect((await each).status).toBe(204)
  })

  test('that has no place for an instance says so at the deadline, with the reason', async () => {
    await using router = await startTestRouter()
    await router.apply([hello({ queueTimeoutMs: 300 })])
    const asked = router.ask(get(router))
    await router.agent.heard('need')
    const message = '500 of 512 MiB are in use by functions with more weight'
    router.agent.send({ type: 'start-delayed', versionId: 'hello-v1', message })
    const response = await asked
    expect([response.status, errorOf(response).code, response.headers['retry-after']]).toEqual([
      503,
      'node_full',
      '2',
    ])
    expect(errorOf(response).message).toContain(message)
    await withInstance(router)
    expect(await statusesOf(router, 1)).toEqual([204])
  })

  test('that has had no place long ago is not said to be full', async () => {
    await using router = await startTestRouter({ limits: { startDelayKeptMs: 1 } })
    await router.apply([hello({ queueTimeoutMs: 300 })])
    const asked = router.ask(get(router))
    await router.agent.heard('need')
    router.agent.send({ type: 'start-delayed', versionId: 'hello-v1', message: 'full' })
    expect(errorOf(await asked).code).toBe('queue_timeout')
  })
})
