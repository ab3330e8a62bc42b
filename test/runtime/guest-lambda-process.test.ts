import { once } from 'node:events'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { LambdaFunction } from '../../runtime/lambda/wire.ts'
import { spawnGuest, type GuestOptions } from '../harness/guest-runtime.ts'
import { open, startLambda, startReady, type OnCleanup } from '../harness/lambda-process.ts'

const NODE = {
  runtime: 'node',
  handler: 'index.handler',
  files: {
    'index.js': `exports.handler = async ({ body, rawPath }) => {
      if (rawPath === '/throw') throw new TypeError('no')
      if (rawPath === '/large') return 'x'.repeat(8_000_000)
      return { statusCode: 201, headers: { 'x-path': rawPath }, body: body ?? String(process.pid) } }`,
  },
} as const
const PYTHON = {
  runtime: 'python',
  handler: 'app.handler',
  files: {
    'app.py': `import os
def handler(event, context):
    if event["rawPath"] == "/throw": raise TypeError("no")
    if event["rawPath"] == "/large": return "x" * 8_000_000
    return {"statusCode": 201, "headers": {"x-path": event["rawPath"]}, "body": event.get("body", str(os.getpid()))}\n`,
  },
} as const

const afterTest: OnCleanup = (cleanup) =>
  onTestFinished(async () => {
    await cleanup()
  })

/** The process, and beside it the client of a container that knows its function. */
async function start(guest: GuestOptions, fn: Partial<LambdaFunction> = {}) {
  const ready = await startReady(afterTest, fn)
  const process = spawnGuest({ ...guest, isKnown: true, address: join(ready.directory, 'e1.api.sock') })
  await ready.agent.next('ready', 'e1')
  return { ...ready, process }
}

describe.each([NODE, PYTHON])('the client of $runtime beside the real Lambda process', (guest) => {
  test('serves requests, errors and what is too large, one after the other', async () => {
    const { call, process } = await start(guest)
    const pid = String(process.pid)
    expect(await call({ path: '/a' })).toMatchObject({ status: 201, text: pid, headers: { 'x-path': '/a' } })
    expect(
      await call({ method: 'POST', body: 'Ü', headers: { 'content-type': 'text/plain' } }),
    ).toMatchObject({ text: 'Ü' })
    expect((await call({ path: '/throw' })).headers['isola-error']).toBe('function_failed')
    expect((await call({ path: '/large' })).status).toBe(502)
    const raw = await call({
      method: 'POST',
      body: '{"rawPath":"/throw"}',
      headers: { 'isola-invoke': 'event' },
    })
    expect(raw.headers['isola-function-error']).toBe('Unhandled')
    expect(JSON.parse(raw.text)).toMatchObject({ errorType: 'TypeError', errorMessage: 'no' })
    for (let index = 0; index < 50; index += 1) expect((await call()).text).toBe(pid)
  })

  test('keeps its function when the process is killed and comes back', async () => {
    const { call, process, child, directory, place } = await start(guest)
    child.kill('SIGKILL')
    await once(child, 'exit')
    const again = startLambda(afterTest, { directory })
    const agent = await again.attach()
    agent.channel.send({ type: 'environments', environments: [place] })
    await agent.next('ready', 'e1')
    expect((await call()).text).toBe(String(process.pid))
  })

  test('ends when its environment is over', async () => {
    const { agent, process } = await start(guest)
    agent.channel.send({ type: 'ended', id: 'e1', end: { exitCode: 0, outOfMemory: false } })
    agent.channel.send({ type: 'close', id: 'e1' })
    process.kill('SIGTERM')
    expect(await process.exited).toBe(0)
  })
})

describe('streams of the node client through the real Lambda process', () => {
  const files = {
    'index.js': `exports.handler = awslambda.streamifyResponse(async ({ rawPath }, stream) => {
      const http = awslambda.HttpResponseStream.from(stream, { statusCode: 203, headers: { 'x-a': 'b' }, cookies: ['c=d'] })
      if (rawPath === '/empty') return void http.end()
      http.write('first')
      await new Promise((resolve) => process.on('SIGUSR2', resolve))
      if (rawPath === '/break') throw new TypeError('half way')
      http.end('second')
    })`,
  }
  const guest = { runtime: 'node', handler: 'index.handler', files } as const

  test('come piece by piece behind their status and headers', async () => {
    const { process, place } = await start(guest, { responseStreaming: true })
    const response = await open({ socketPath: place.httpSocket }, {})
    expect(response.statusCode).toBe(203)
    expect(response.headers).toMatchObject({ 'x-a': 'b', 'set-cookie': ['c=d'] })
    const pieces: string[] = []
    for await (const piece of response as AsyncIterable<Buffer>) {
      pieces.push(piece.toString())
      process.kill('SIGUSR2')
    }
    expect(pieces).toEqual(['first', 'second'])
  })

  test('have a status without a body, and break off where the handler does', async () => {
    const { call, process, place } = await start(guest, { responseStreaming: true })
    expect(await call({ path: '/empty' })).toMatchObject({ status: 203, text: '' })
    const response = await open({ socketPath: place.httpSocket }, { path: '/break' })
    response.once('data', () => process.kill('SIGUSR2'))
    await expect(once(response, 'end')).rejects.toThrow(/aborted/)
  })
})
