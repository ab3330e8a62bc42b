import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { temporaryProject } from '../bundler/temporary-project.ts'
import { type Answer, refusal, startFakeControl } from '../harness/fake-control.ts'
import { runIsola } from '../harness/node.ts'

const INVOKE = 'POST /v1/functions/count/invoke'

const answering =
  (body: string, headers: Readonly<Record<string, string>> = {}): Answer =>
  (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'x-request-id': 'request-1', ...headers })
    response.end(body)
  }

describe('isola invoke', () => {
  test('sends the event and prints the result', async () => {
    await using control = await startFakeControl({ [INVOKE]: answering('{"n":2}') })
    const { code, stdout, stderr } = await control.isola(['invoke', 'count', '--payload', '{"n": 1}'])
    expect([code, stdout, stderr]).toEqual([0, '{"n":2}\n', ''])
    const request = control.sent(INVOKE)
    expect(request.body.toString()).toBe('{"n": 1}')
    expect(request.headers).toMatchObject({ 'isola-invoke-type': 'sync', authorization: 'Bearer token' })
  })

  test('without an event sends an empty one; with --json the result is part of the document', async () => {
    await using control = await startFakeControl({ [INVOKE]: answering('[1]') })
    const { stdout } = await control.isola(['invoke', 'count', '--json'])
    expect(JSON.parse(stdout)).toEqual({ functionName: 'count', requestId: 'request-1', result: [1] })
    expect(control.sent(INVOKE).body.toString()).toBe('{}')
  })

  test('a function that fails is exit code 1, its error on stdout', async () => {
    const error = '{"errorType":"TypeError","errorMessage":"x"}'
    await using control = await startFakeControl({
      [INVOKE]: answering(error, { 'isola-function-error': 'Unhandled' }),
    })
    const plain = await control.isola(['invoke', 'count'])
    expect([plain.code, plain.stdout]).toEqual([1, `${error}\n`])
    expect(plain.stderr).toContain('the function failed (Unhandled)')
    const json = await control.isola(['invoke', 'count', '--json'])
    expect(json.code).toBe(1)
    expect(JSON.parse(json.stdout)).toMatchObject({
      functionError: 'Unhandled',
      result: { errorType: 'TypeError' },
    })
  })

  test('reads the event from a file or from stdin', async () => {
    const directory = temporaryProject({ 'event.json': '{"from":"file"}' })
    await using control = await startFakeControl({ [INVOKE]: answering('null') })
    await control.isola(['invoke', 'count', '-p', '@event.json'], { cwd: directory })
    await control.isola(['invoke', 'count', '-p', '-'], { input: '{"from":"stdin"}' })
    expect(control.requests.map(({ body }) => body.toString())).toEqual([
      '{"from":"file"}',
      '{"from":"stdin"}',
    ])
  })

  test('--async only has it accepted', async () => {
    await using control = await startFakeControl({ [INVOKE]: answering('') })
    const { code, stdout } = await control.isola(['invoke', 'count', '--async'])
    expect([code, stdout]).toEqual([0, 'count: accepted as request-1\n'])
    expect(control.sent(INVOKE).headers).toMatchObject({ 'isola-invoke-type': 'async' })
    const json = await control.isola(['invoke', 'count', '--async', '--json'])
    expect(JSON.parse(json.stdout)).toMatchObject({ accepted: true, requestId: 'request-1' })
  })

  test('--log shows on stderr what is written until the request is done', async () => {
    const common = {
      time: '2026-11-01T12:00:00.000Z',
      level: 'log',
      functionName: 'count',
      versionId: 'a'.repeat(32),
    }
    const summary = {
      method: 'POST',
      host: 'count',
      path: '/',
      status: 200,
      totalMs: 3,
      queueMs: 0,
      cold: false,
    }
    let writeLog = (): void => undefined
    await using control = await startFakeControl({
      'GET /v1/functions/count/logs': (_request, response) => {
        response.writeHead(200)
        response.write('\n')
        writeLog = () => {
          response.write(`${JSON.stringify({ ...common, source: 'console', message: 'counting' })}\n`)
          const line = { ...common, source: 'request', message: '', requestId: 'request-1', request: summary }
          response.write(`${JSON.stringify(line)}\n`)
        }
      },
      [INVOKE]: (request, response) => {
        answering('2')(request, response)
        writeLog()
      },
    })
    const { code, stdout, stderr } = await control.isola(['invoke', 'count', '--log'])
    expect([code, stdout]).toEqual([0, '2\n'])
    expect(stderr).toMatch(/12:00:00\.000 aaaaaaaa log +counting\n.*POST count\/ 200 3 ms \(request-1\)\n/)
  })

  test('what the node refuses is said, also with --log', async () => {
    const answer = refusal(404, 'function_not_found', 'there is no function "count"')
    await using control = await startFakeControl({ [INVOKE]: answer, 'GET /v1/functions/count/logs': answer })
    for (const flags of [[], ['--log']]) {
      const { code, stderr } = await control.isola(['invoke', 'count', ...flags])
      expect([code, stderr]).toEqual([1, 'error: there is no function "count"\n'])
    }
  })

  test.each([
    [['--payload', '{'], 'the payload is not JSON'],
    [['--payload', '-'], 'the payload is not JSON'],
    [['--payload', '@gone.json'], 'gone.json cannot be read'],
    [['--payload', '@long.json'], `and ${CONTAINER_LIMITS.payloadBytesMax} is the most`],
    [['--async', '--log'], '--async does not wait: leave one out'],
  ])('%j is refused with exit code 2 before anything is sent', async (flags, message) => {
    const directory = temporaryProject({ 'long.json': ' '.repeat(CONTAINER_LIMITS.payloadBytesMax) + '1' })
    const { code, stderr } = await runIsola(['invoke', 'count', ...flags], { cwd: directory })
    expect(stderr).toContain(message)
    expect(code).toBe(2)
  })

  test('an event on stdin that is too long is refused', async () => {
    const input = ' '.repeat(CONTAINER_LIMITS.payloadBytesMax + 1)
    const { code, stderr } = await runIsola(['invoke', 'count', '--payload', '-'], { input, cwd: join('/') })
    expect([code, stderr]).toEqual([2, expect.stringContaining('stdin has more than')])
  })
})

describe('lists', () => {
  const deployment = {
    id: 'd',
    shares: [{ versionId: 'b'.repeat(32), percent: 100 }],
    createdAt: '2026-11-01T00:00:00.000Z',
    message: '',
  }
  const answer =
    (document: unknown): Answer =>
    (_request, response) => {
      response.writeHead(200).end(JSON.stringify(document))
    }

  test('of functions say their kind', async () => {
    const record = { deployment, routes: [] }
    await using control = await startFakeControl({
      'GET /v1/functions': answer({
        functions: [
          { name: 'hello', kind: 'worker', ...record },
          { name: 'count', kind: 'container', ...record },
        ],
      }),
    })
    const { stdout } = await control.isola(['list'])
    expect(stdout).toMatch(
      /^FUNCTION +KIND +VERSIONS.*\nhello +worker +bbbbbbbb 100%.*\ncount +container +bbbbbbbb/,
    )
  })

  test('of versions say what each runs', async () => {
    const version = (content: object): object => ({
      id: 'b',
      createdAt: deployment.createdAt,
      message: '',
      percent: 0,
      content,
    })
    const code = { type: 'code', runtime: 'python3', handler: 'app.handler' }
    const image = { type: 'image', imageId: `sha256:${'c'.repeat(64)}` }
    await using control = await startFakeControl({
      'GET /v1/functions/count/versions': answer({
        versions: [
          version({ kind: 'container', protocol: 'lambda', source: code }),
          version({ kind: 'container', protocol: 'http', source: image }),
          version({ kind: 'worker', mainModule: 'index.js' }),
        ],
      }),
    })
    const { stdout } = await control.isola(['versions', 'count'])
    const runs = stdout.split('\n').map((line) => /^\S+ {2,}(\S+(?: \S+)*)/.exec(line)?.[1])
    expect(runs.slice(0, 4)).toEqual(['RUNS', 'python3 app.handler', 'image cccccccccccc, http', 'index.js'])
  })
})
