import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import type { EnvironmentEnd } from '../../runtime/lambda/wire.ts'
import { FUNCTION, placeOf, startLambda, startReady } from '../harness/lambda-process.ts'

const cleanups: (() => unknown)[] = []
const onCleanup = (cleanup: () => unknown): void => void cleanups.push(cleanup)
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const NEXT = '/2018-06-01/runtime/invocation/next'
const EVENT = { method: 'POST', headers: { 'isola-invoke': 'event' } }

describe('the deadline', () => {
  test('answers the caller, tells the agent, and closes the door before that', async () => {
    const { runtime, call, agent } = await startReady(onCleanup, { timeoutMs: 100 })
    const answer = call(EVENT)
    const { id } = await runtime.next()
    const { status, headers, text } = await answer
    expect([status, headers['isola-function-error']]).toEqual([200, 'Unhandled'])
    expect(JSON.parse(text)).toEqual({
      errorType: 'Sandbox.Timedout',
      errorMessage: `RequestId: ${id} Error: Task timed out after 0.10 seconds`,
    })
    expect(headers.connection).toBe('close')
    await expect(call(EVENT)).rejects.toMatchObject({ code: 'ENOENT' })
    expect(await agent.next('timed-out')).toEqual({
      type: 'timed-out',
      id: 'e1',
      message: `invocation ${id} timed out after 0.10 seconds`,
    })
    expect((await runtime.respond(id, 1)).status).toBe(400)
    expect((await runtime.get(NEXT)).status).toBe(403)
    const line = await agent.line(/Task timed out/)
    expect(line.message).toMatch(new RegExp(`^\\d{4}-.*Z ${id} Task timed out after 0.10 seconds$`))
    expect((await agent.line(/^REPORT/)).message).toContain('\tStatus: timeout\t')
  })

  test('is 504 for a client over HTTP, also where the response has come by half', async () => {
    const { runtime, call } = await startReady(onCleanup, { timeoutMs: 100 })
    const answer = call()
    const { id } = await runtime.next()
    const half = connect(runtime.socketPath)
    onCleanup(() => half.destroy())
    half.write(
      `POST /2018-06-01/runtime/invocation/${id}/response HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"ha`,
    )
    const closed = once(half.resume(), 'close')
    const { status, headers, text } = await answer
    expect([status, headers['isola-error']]).toEqual([504, 'function_timeout'])
    expect(text).toContain('timed out after 0.10 seconds')
    await closed
  })

  test('of a runtime that does not come back for the next event is as long', async () => {
    const { runtime, call, agent } = await startReady(onCleanup, { timeoutMs: 100 })
    const first = call(EVENT)
    const { id } = await runtime.next()
    await runtime.respond(id, 1)
    expect((await first).text).toBe('1')
    expect((await call(EVENT)).text).toContain('Sandbox.Timedout')
    expect((await agent.next('timed-out')).message).toContain('did not ask for the next event')
  })
})

describe('the end of the container', () => {
  test.each<[EnvironmentEnd, string, string, string]>([
    [
      { exitCode: 3, outOfMemory: false },
      'Runtime.ExitError',
      'Runtime exited with error: exit status 3',
      'instance_crashed',
    ],
    [
      { exitCode: 0, outOfMemory: false },
      'Runtime.ExitError',
      'Runtime exited without providing a reason',
      'instance_crashed',
    ],
    [
      { signal: 'SIGKILL', outOfMemory: false },
      'Runtime.ExitError',
      'Runtime exited with error: signal: killed',
      'instance_crashed',
    ],
    [
      { signal: 'SIGSEGV', outOfMemory: false },
      'Runtime.ExitError',
      'Runtime exited with error: signal: segmentation fault',
      'instance_crashed',
    ],
    [
      { exitCode: 137, outOfMemory: true },
      'Runtime.OutOfMemory',
      'Runtime exited with error: signal: killed',
      'memory_limit_exceeded',
    ],
  ])('%j is told to who waits', async (end, errorType, words, code) => {
    const { runtime, call, agent } = await startReady(onCleanup)
    const event = call(EVENT)
    const { id } = await runtime.next()
    const web = call()
    await runtime.next()
    agent.channel.send({ type: 'ended', id: 'e1', end })
    expect(JSON.parse((await event).text)).toEqual({
      errorType,
      errorMessage: `RequestId: ${id} Error: ${words}`,
    })
    expect((await web).headers['isola-error']).toBe(code)
    await expect(call()).rejects.toMatchObject({ code: 'ENOENT' })
    expect((await agent.line(/^REPORT/)).message).toContain(`\tStatus: error\tError Type: ${errorType}\t`)
  })
})

describe('the log', () => {
  test('has START, END and REPORT of each invocation, the start of the function with the first', async () => {
    const { runtime, call, agent } = await startReady(onCleanup)
    void runtime.serve(() => 1)
    await call(EVENT)
    const { initMs } = await agent.next('ready')
    const { requestId, ...line } = await agent.line(/^REPORT/)
    expect(line).toMatchObject({
      source: 'instance',
      level: 'info',
      functionName: 'shop',
      versionId: 'v1',
      instanceId: 'e1',
    })
    expect(agent.lines.map(({ message }) => message)).toEqual([
      `START RequestId: ${requestId} Version: $LATEST`,
      `END RequestId: ${requestId}`,
      expect.stringMatching(
        /^REPORT RequestId: \S+\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tInit Duration: \d+\.\d\d ms\t$/,
      ),
    ])
    expect(line.message).toContain(`\tInit Duration: ${initMs.toFixed(2)} ms\t`)
    agent.lines.length = 0
    await call(EVENT)
    expect((await agent.line(/^REPORT/)).message).not.toContain('Init Duration')
  })
})

describe('a client that goes away', () => {
  test('leaves an invocation to its end, and one that has not begun is never begun', async () => {
    const { runtime, call, agent, place } = await startReady(onCleanup)
    const leave = async (body: string): Promise<() => void> => {
      const request = httpRequest({ socketPath: place.httpSocket, ...EVENT, agent: false })
      request.on('error', () => undefined)
      request.end(body)
      await once(request, 'finish')
      return () => request.destroy()
    }
    const leaveFirst = await leave('1')
    const { id } = await runtime.next()
    const leaveSecond = await leave('2')
    // It is there once another request, made later, has been answered.
    await call({ headers: { 'isola-invoke': 'none' } })
    leaveFirst()
    leaveSecond()
    await call({ headers: { 'isola-invoke': 'none' } })
    expect((await runtime.respond(id, 1)).status).toBe(202)
    await agent.line(/^REPORT/)
    const third = call({ ...EVENT, body: '3' })
    const { id: last, event } = await runtime.next()
    expect(event).toBe(3)
    await runtime.respond(last, 3)
    expect((await third).text).toBe('3')
  })
})

describe('a hostile runtime', () => {
  test('sends garbage, half requests and connections without end, and spoils nothing of others', async () => {
    const { runtime, call, agent, directory, child, stderr } = await startReady(onCleanup)
    const other = placeOf(onCleanup, directory, { id: 'e2', function: { ...FUNCTION, functionName: 'blog' } })
    agent.channel.send({ type: 'open', environment: other.place })
    await agent.next('opened', 'e2')
    void other.runtime.serve(({ event }) => event)
    const held: Socket[] = []
    onCleanup(() => held.forEach((socket) => socket.destroy()))
    const answer = call(EVENT)
    const { id } = await runtime.next()
    const post = `POST /2018-06-01/runtime/invocation/${id}/response HTTP/1.1\r\nHost: x\r\n`
    const attacks = [
      '\0\xff\x16\x03\x01 garbage\r\n\r\n',
      `GET ${NEXT} HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(2_000_000)}\r\n\r\n`,
      `GET ${NEXT} HTTP/1.1\r\nHost: x\r\n\r\ngarbage`,
      `${post}Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n`,
      'POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n',
      'POST /2020-01-01/extension/register HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{{{{{',
      'CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n',
      `GET ${NEXT} HTTP/1.1\r\nHo`,
      'PUT /2022-07-01/telemetry HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    ]
    for (const attack of attacks) {
      const socket = connect(runtime.socketPath, () => socket.write(attack, 'latin1'))
      socket.on('error', () => undefined).resume()
      held.push(socket)
    }
    for (let index = 0; index < 300; index += 1) {
      held.push(
        connect(runtime.socketPath)
          .on('error', () => undefined)
          .resume(),
      )
    }
    await whenClosed(held, 150)
    for (let n = 0; n < 20; n += 1) {
      expect((await other.call({ ...EVENT, body: String(n) })).text).toBe(String(n))
    }
    for (const socket of held) socket.destroy()
    await other.call({ ...EVENT, body: '1' })
    expect((await runtime.respond(id, '"mine"')).status).toBe(202)
    expect((await answer).text).toBe('"mine"')
    expect([child.exitCode, stderr()]).toEqual([null, ''])
  })

  test('that sends more than is read and dropped loses its connection', async () => {
    const { runtime, call } = await startReady(onCleanup)
    const answer = call(EVENT)
    const { id } = await runtime.next()
    const socket = connect(runtime.socketPath)
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.on('error', () => undefined).resume()
    socket.write(
      `POST /2018-06-01/runtime/invocation/${id}/response HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n`,
    )
    const chunk = Buffer.alloc(1024 * 1024)
    const more = (): void => {
      while (socket.writable && socket.write(chunk));
    }
    socket.on('drain', more)
    more()
    await closed
    expect((await answer).text).toContain('Function.ResponseSizeTooLarge')
  })

  test('that breaks its response off has failed, and the next one is welcome', async () => {
    const { runtime, call } = await startReady(onCleanup)
    const answer = call(EVENT)
    const { id } = await runtime.next()
    const socket = connect(runtime.socketPath, () =>
      socket.end(
        `POST /2018-06-01/runtime/invocation/${id}/response HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"ha`,
      ),
    )
    socket.on('error', () => undefined).resume()
    expect((await answer).text).toContain('Runtime.TruncatedResponse')
    void runtime.serve(() => 1)
    expect((await call(EVENT)).text).toBe('1')
  })
})

describe('the process', () => {
  test('killed with kill -9 comes back: the agent says all, clients and callers go on', async () => {
    const first = startLambda(onCleanup)
    const agent = await first.attach()
    const { place, runtime } = placeOf(onCleanup, first.directory)
    agent.channel.send({ type: 'open', environment: place })
    await agent.next('opened')
    const claim = runtime.get('/isola/claim')
    await agent.next('waiting')
    agent.channel.send({ type: 'claim', id: 'e1', function: FUNCTION })
    await claim
    const polls = runtime.serve(() => 1)
    await agent.next('ready')
    first.child.kill('SIGKILL')
    await once(first.child, 'exit')
    await polls
    const { directory } = first
    const second = startLambda(onCleanup, { directory })
    const after = await second.attach()
    const blank = placeOf(onCleanup, directory, { id: 'e2' })
    const known = placeOf(onCleanup, directory, { function: FUNCTION })
    after.channel.send({ type: 'environments', environments: [known.place, blank.place] })
    await after.next('opened', 'e1')
    await after.next('opened', 'e2')
    // One that has its function goes on with `next`; one that lost its claim asks again.
    expect(JSON.parse((await known.runtime.get('/isola/claim')).text)).toMatchObject({
      handler: 'index.handler',
    })
    expect((await known.runtime.respond('5a7d3c1e-9b64-4f0a-8d52-3f8a1c6e7b90', 1)).status).toBe(400)
    void known.runtime.serve(() => 2)
    await after.next('ready', 'e1')
    expect((await known.call(EVENT)).text).toBe('2')
    void blank.runtime.get('/isola/claim').catch(() => undefined)
    await after.next('waiting', 'e2')
  })

  test('outlives the agent, tells the next one how things stand, and what was logged meanwhile', async () => {
    const { agent, attach, runtime, call, place, directory } = await startReady(onCleanup)
    void runtime.serve(() => 1)
    const { initMs } = await agent.next('ready')
    const blank = placeOf(onCleanup, directory, { id: 'e2' })
    const broken = placeOf(onCleanup, directory, { id: 'e3', function: FUNCTION })
    agent.channel.send({ type: 'open', environment: blank.place })
    agent.channel.send({ type: 'open', environment: broken.place })
    await agent.next('opened', 'e3')
    const claim = blank.runtime.get('/isola/claim').catch(() => undefined)
    await agent.next('waiting')
    agent.channel.close()
    await agent.closed
    expect((await call(EVENT)).text).toBe('1')
    await broken.runtime.post('/2018-06-01/runtime/init/error', '{"errorType":"E","errorMessage":"m"}')
    const next = await attach()
    expect(await next.next('ready')).toEqual({ type: 'ready', id: 'e1', initMs })
    expect(await next.next('waiting')).toEqual({ type: 'waiting', id: 'e2' })
    expect(await next.next('init-failed')).toMatchObject({ id: 'e3', errorType: 'E', message: 'm' })
    await next.line(/^REPORT/)
    // What is not named is closed, what is named goes on as it was.
    next.channel.send({ type: 'environments', environments: [{ ...place, function: FUNCTION }] })
    await next.next('opened', 'e1')
    await claim
    await expect(blank.runtime.get('/isola/claim')).rejects.toThrow(/ECONNRE|ENOENT/)
    expect((await call(EVENT)).text).toBe('1')
  })

  test('says what environment cannot be opened, and serves the others', async () => {
    const { agent, directory, call, runtime, stderr } = await startReady(onCleanup)
    const far = placeOf(onCleanup, `${directory}/nowhere`, { id: 'e2' })
    const long = placeOf(onCleanup, directory, { id: 'x'.repeat(120) })
    for (const { place } of [far, long]) {
      agent.channel.send({ type: 'open', environment: place })
      expect((await agent.next('open-failed', place.id)).message).toMatch(/ENOENT|EINVAL|EACCES|ENAMETOOLONG/)
    }
    expect(stderr()).toContain('environment e2 could not be opened')
    void runtime.serve(() => 1)
    expect((await call(EVENT)).text).toBe('1')
  })

  test('opens an environment again at other places, and one that is there only once', async () => {
    const { agent, directory, place, call, runtime } = await startReady(onCleanup)
    void runtime.serve(() => 1)
    await agent.next('ready')
    agent.channel.send({ type: 'open', environment: place })
    await agent.next('opened')
    expect((await call(EVENT)).text).toBe('1')
    const moved = { ...place, httpSocket: `${directory}/moved.sock`, function: FUNCTION }
    agent.channel.send({ type: 'open', environment: moved })
    await agent.next('opened')
    await expect(call(EVENT)).rejects.toThrow(/ENOENT|ECONNRE|hang up/)
  })

  test('ends when its control socket is another’s, and leaves the other’s doors alone', async () => {
    const first = await startReady(onCleanup)
    const second = startLambda(onCleanup, { directory: first.directory })
    const agent = await second.attach()
    const { place, runtime, call } = placeOf(onCleanup, first.directory, { function: FUNCTION })
    agent.channel.send({ type: 'environments', environments: [place] })
    await agent.next('opened')
    await once(first.child, 'exit')
    expect(first.child.exitCode).toBe(0)
    void runtime.serve(() => 1)
    expect((await call(EVENT)).text).toBe('1')
  })

  test('ends when no agent ever comes, and when the agent says so', async () => {
    const lonely = startLambda(onCleanup, { arguments: ['--agent-wait-ms', '1'] })
    expect(await once(lonely.child, 'exit')).toEqual([0, null])
    expect(lonely.stderr()).toContain('no agent has connected within 1 ms')
    const { agent, child, place } = await startReady(onCleanup)
    agent.channel.send({ type: 'shutdown' })
    expect(await once(child, 'exit')).toEqual([0, null])
    const gone = connect(place.httpSocket)
    expect(await once(gone, 'error')).toMatchObject([{ code: 'ENOENT' }])
  })

  test('stops on SIGTERM, but not on Ctrl-C', async () => {
    const { child, runtime, call } = await startReady(onCleanup)
    child.kill('SIGINT')
    child.kill('SIGHUP')
    void runtime.serve(() => 1)
    expect((await call(EVENT)).text).toBe('1')
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
  })

  test('without --socket says how it is started', async () => {
    const { spawn } = await import('node:child_process')
    const { LAMBDA_MAIN } = await import('../harness/lambda-process.ts')
    const child = spawn(process.execPath, [LAMBDA_MAIN], { stdio: ['ignore', 'ignore', 'pipe'] })
    let stderr = ''
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    expect(await once(child, 'close')).toEqual([2, null])
    expect(stderr).toContain('--socket PATH')
  })
})

/** Resolves when so many are closed, whichever. */
function whenClosed(sockets: readonly Socket[], count: number): Promise<void> {
  return new Promise((resolve) => {
    let left = count
    const onClose = (): void => {
      left -= 1
      if (left === 0) resolve()
    }
    for (const socket of sockets) {
      if (socket.closed) onClose()
      else socket.once('close', onClose)
    }
  })
}
