import { describe, expect, test } from 'vitest'
import { startGuest, type Guest, type GuestOptions } from '../harness/guest-runtime.ts'
import type { Outcome } from '../harness/runtime-api.ts'

const ID = '8f5e0c3a-0f6b-4a69-8d0c-6f7c2c1f1a11'

const start = (options: Partial<GuestOptions> & Pick<GuestOptions, 'files'>): Promise<Guest> =>
  startGuest({ runtime: 'node', handler: 'index.handler', ...options })

async function result(files: Readonly<Record<string, string>>, handler = 'index.handler'): Promise<unknown> {
  const { api } = await start({ files, handler })
  return JSON.parse((await api.invoke({ n: 1 })).text)
}

async function initError(files: Readonly<Record<string, string>>, handler = 'index.handler') {
  const { api, exited, lines } = await start({ files, handler })
  const outcome = await api.initError
  expect(await exited).toBe(1)
  const body = JSON.parse(outcome.text) as { errorType: string; errorMessage: string; trace: string[] }
  expect(outcome.headers['lambda-runtime-function-error-type']).toBe(body.errorType)
  expect(lines.join('\n')).toContain('\tundefined\tERROR\tInit Error \t')
  return body
}

function failure(outcome: Outcome) {
  expect(outcome.type).toBe('error')
  return JSON.parse(outcome.text) as { errorType: string; errorMessage: string; trace: string[] }
}

describe('a handler of the node runtime', () => {
  test.each([
    ['CommonJS', { 'index.js': 'exports.handler = async (event) => ({ got: event })' }],
    ['an ES module', { 'index.mjs': 'export const handler = async (event) => ({ got: event })' }],
    [
      'an ES module by its package',
      {
        'package.json': '{"type":"module"}',
        'index.js': 'await 0; export const handler = async (event) => ({ got: event })',
      },
    ],
    ['an ES module by its syntax', { 'index.js': 'export const handler = (event) => ({ got: event })' }],
    ['.cjs', { 'index.cjs': 'module.exports = { handler: (event) => ({ got: event }) }' }],
    [
      'a default export that holds it',
      { 'index.mjs': 'export default { handler: (event) => ({ got: event }) }' },
    ],
  ])('is found in %s', async (_kind, files) => {
    expect(await result(files)).toEqual({ got: { n: 1 } })
  })

  test('is found below directories, in nested exports, in a directory with an index and in a package', async () => {
    const text = 'exports.api = { v1: { handler: async () => "here" } }'
    expect(await result({ 'src/web/app.js': text }, 'src/web/app.api.v1.handler')).toBe('here')
    expect(await result({ 'app/index.js': text }, 'app.api.v1.handler')).toBe('here')
    expect(await result({ 'node_modules/app/index.js': text }, 'app.api.v1.handler')).toBe('here')
  })

  test('reads files beside it, requires its packages, and has its variables but none of the client', async () => {
    const { api } = await start({
      files: {
        'data.txt': 'data',
        'node_modules/greet/index.js': 'module.exports = (name) => "Hi " + name',
        'index.js': `const { readFileSync } = require('node:fs')
          const greeting = require('greet')(process.env.NAME)
          exports.handler = async () => ({ greeting, data: readFileSync('data.txt', 'utf8'), cwd: process.cwd(), env: process.env })`,
      },
      environment: { NAME: 'Ada' },
    })
    const { greeting, data, cwd, env } = JSON.parse((await api.invoke({})).text) as Record<string, any>
    expect({ greeting, data }).toEqual({ greeting: 'Hi Ada', data: 'data' })
    expect(env).toMatchObject({ LAMBDA_TASK_ROOT: cwd, _HANDLER: 'index.handler', NAME: 'Ada' })
    expect(env).toMatchObject({
      AWS_LAMBDA_FUNCTION_NAME: 'shop',
      AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs24.x',
    })
    expect(Object.keys(env).filter((name) => /ISOLA|RUNTIME_API/.test(name))).toEqual([])
  })

  test('has the context that AWS gives it', async () => {
    const { api } = await start({
      files: {
        'index.js': `exports.handler = async (event, context) => ({ ...context, left: context.getRemainingTimeInMillis(), trace: process.env._X_AMZN_TRACE_ID })`,
      },
    })
    const outcome = await api.invoke(null, {
      id: ID,
      headers: {
        'Lambda-Runtime-Client-Context': '{"custom":{"a":1}}',
        'Lambda-Runtime-Cognito-Identity': '{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}',
        'Lambda-Runtime-Trace-Id': 'Root=1-5759e988-bd862e3fe1be46a994272793',
      },
    })
    const { left, ...context } = JSON.parse(outcome.text) as Record<string, unknown>
    expect(left).toBeGreaterThan(20_000)
    expect(left).toBeLessThanOrEqual(30_000)
    expect(context).toEqual({
      callbackWaitsForEmptyEventLoop: true,
      functionName: 'shop',
      functionVersion: '$LATEST',
      memoryLimitInMB: '256',
      logGroupName: '/aws/lambda/shop',
      logStreamName: '2026/11/01/[$LATEST]0123',
      awsRequestId: ID,
      invokedFunctionArn: 'arn:aws:lambda:eu-central-1:000000000000:function:shop',
      clientContext: { custom: { a: 1 } },
      identity: { cognitoIdentityId: 'i', cognitoIdentityPoolId: 'p' },
      trace: 'Root=1-5759e988-bd862e3fe1be46a994272793',
    })
  })

  test('answers null for nothing, and goes on after errors of every kind', async () => {
    const { api, lines } = await start({
      files: {
        'index.js': `class Shy { get name() { throw 1 } get message() { throw 1 } toString() { throw 1 } }
          exports.handler = async ({ kind }) => {
            if (kind === 'nothing') return undefined
            if (kind === 'type') throw new TypeError('no such\\nbook')
            if (kind === 'text') throw 'just text'
            if (kind === 'empty') throw undefined
            if (kind === 'shy') throw new Shy()
            if (kind === 'named') throw Object.assign(new Error('mine'), { name: 'Bücher Error', code: 'E1' })
            if (kind === 'circular') { const a = {}; a.a = a; return a }
            if (kind === 'bigint') return 1n
            return kind
          }`,
      },
    })
    const run = (kind: string) => api.invoke({ kind }, { id: kind })
    expect((await run('nothing')).text).toBe('null')
    expect(failure(await run('type'))).toMatchObject({
      errorType: 'TypeError',
      errorMessage: 'no such\nbook',
    })
    expect(failure(await run('text'))).toEqual({ errorType: 'string', errorMessage: 'just text', trace: [] })
    expect(failure(await run('empty'))).toMatchObject({ errorType: 'undefined' })
    expect(failure(await run('shy'))).toMatchObject({ errorType: 'Runtime.Unknown' })
    expect(failure(await run('named'))).toMatchObject({ errorType: 'B?cher Error', errorMessage: 'mine' })
    expect(failure(await run('circular'))).toMatchObject({ errorType: 'Runtime.JSONStringifyError' })
    expect(failure(await run('bigint'))).toMatchObject({ errorType: 'Runtime.JSONStringifyError' })
    expect(failure(await api.invoke({}, { raw: '{"broken' }))).toMatchObject({
      errorType: 'Runtime.UnmarshalError',
    })
    expect((await run('fine')).text).toBe('"fine"')
    const logged = lines.find((line) => line.includes('\ttype\tERROR\tInvoke Error \t')) ?? ''
    expect(JSON.parse(logged.split('\t').at(-1) ?? '')).toMatchObject({ errorType: 'TypeError' })
  })

  test('goes on when its response was refused as too large', async () => {
    const { api } = await start({
      files: { 'index.js': 'exports.handler = async ({ size }) => "x".repeat(size)' },
    })
    const large = await api.invoke({ size: 7_000_000 }, { answerStatus: 413 })
    expect(large.text).toHaveLength(7_000_002)
    expect((await api.invoke({ size: 1 })).text).toBe('"x"')
  })

  test('writes lines as AWS does, each with its request', async () => {
    const { api, line, lines } = await start({
      files: {
        'index.js': `console.log('loading')
          exports.handler = async () => {
            console.debug('a %s', 'b', { c: 1 }); console.warn('two\\nlines'); console.error(new Error('oh')); process.stdout.write('plain\\n')
          }`,
      },
    })
    await api.invoke({}, { id: ID })
    await line(/^plain$/)
    const time = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`
    expect(lines[0]).toMatch(new RegExp(String.raw`^${time}\tundefined\tINFO\tloading$`))
    expect(lines[1]).toMatch(new RegExp(String.raw`^${time}\t${ID}\tDEBUG\ta b { c: 1 }$`))
    expect(lines[2]).toMatch(new RegExp(String.raw`^${time}\t${ID}\tWARN\ttwo\rlines$`))
    expect(lines[3]).toMatch(new RegExp(String.raw`^${time}\t${ID}\tERROR\tError: oh\r    at `))
    expect(lines[4]).toBe('plain')
  })

  test('may wait for something that keeps no process alive', async () => {
    const files = {
      'index.js': `exports.handler = ({ wait }) => new Promise((resolve) => {
        process.on('SIGUSR2', () => resolve('late'))
        console.log('waiting')
        if (!wait) resolve('at once')
      })`,
    }
    const { api, pid, line } = await start({ files })
    const late = api.invoke({ wait: true })
    await line(/waiting/)
    // Whoever ends for want of work has done so when another has started.
    const other = await start({ files })
    expect((await other.api.invoke({})).text).toBe('"at once"')
    process.kill(pid, 'SIGUSR2')
    expect((await late).text).toBe('"late"')
  })

  test('knows its function since the start where its environment says so', async () => {
    const { api } = await start({
      files: { 'index.js': 'exports.handler = async () => process.env.NAME' },
      environment: { NAME: 'Ada' },
      isKnown: true,
    })
    expect((await api.invoke({})).text).toBe('"Ada"')
  })
})

describe('a node function that cannot start says why', () => {
  test.each([
    ['no file', {}, 'index.handler', 'Runtime.ImportModuleError', "Error: Cannot find module 'index'"],
    [
      'no export',
      { 'index.js': 'exports.other = 1' },
      'index.handler',
      'Runtime.HandlerNotFound',
      'index.handler is undefined or not exported',
    ],
    [
      'no function',
      { 'index.js': 'exports.handler = 1' },
      'index.handler',
      'Runtime.HandlerNotFound',
      'index.handler is not a function',
    ],
    [
      'a name without an export',
      { 'index.js': '' },
      'index',
      'Runtime.MalformedHandlerName',
      "Bad handler 'index'",
    ],
    [
      'a name that leads out',
      { 'index.js': '' },
      '../index.handler',
      'Runtime.MalformedHandlerName',
      "'../index.handler' is not a valid handler name",
    ],
    [
      'a syntax error',
      { 'index.js': 'exports.handler = async () => {' },
      'index.handler',
      'Runtime.UserCodeSyntaxError',
      'SyntaxError: ',
    ],
    [
      'a missing package',
      { 'index.js': "require('nowhere')" },
      'index.handler',
      'Runtime.ImportModuleError',
      "Error: Cannot find module 'nowhere'",
    ],
    [
      'a missing package of an ES module',
      { 'index.mjs': "import 'nowhere'" },
      'index.handler',
      'Runtime.ImportModuleError',
      "Cannot find package 'nowhere'",
    ],
    [
      'a callback',
      { 'index.js': 'exports.handler = (event, context, callback) => callback()' },
      'index.handler',
      'Runtime.CallbackHandlerDeprecated',
      'takes a callback',
    ],
    [
      'a throw at load',
      { 'index.js': "throw new RangeError('too far')" },
      'index.handler',
      'RangeError',
      'too far',
    ],
  ])('%s', async (_what, files, handler, errorType, message) => {
    const error = await initError(files, handler)
    expect(error.errorType).toBe(errorType)
    expect(error.errorMessage).toContain(message)
  })

  test("a rejection that nobody catches at load, with AWS's exit code for it", async () => {
    const { api, exited } = await start({
      files: { 'index.mjs': "Promise.reject(new Error('later')); await new Promise(() => {})" },
    })
    expect(failure({ ...(await api.initError), type: 'error' })).toMatchObject({
      errorType: 'Runtime.UnhandledPromiseRejection',
      errorMessage: 'Error: later',
    })
    expect(await exited).toBe(128)
  })

  test('with the place of the mistake', async () => {
    const { trace } = await initError({ 'index.js': '\n\nexports.handler = async () => { return 1 +; }' })
    expect(trace.join('\n')).toMatch(/index\.js:3/)
  })
})

describe('what nothing catches', () => {
  const files = {
    'index.js': `exports.handler = ({ kind }) => new Promise((resolve) => {
      if (kind === 'exception') setImmediate(() => { throw new TypeError('out of reach') })
      if (kind === 'rejection') { Promise.reject(new TypeError('unseen')) }
      if (kind === 'exit') process.exit(7)
      if (kind === 'fine') resolve('fine')
    })`,
  }

  test('an exception ends the process after the caller has been told', async () => {
    const { api, exited, line } = await start({ files })
    expect(failure(await api.invoke({ kind: 'exception' }))).toMatchObject({
      errorType: 'TypeError',
      errorMessage: 'out of reach',
    })
    expect(await line(/Uncaught Exception/)).toContain('request-1\tERROR\t')
    expect(await exited).toBe(129)
  })

  test('an unhandled rejection too', async () => {
    const { api, exited } = await start({ files })
    expect(failure(await api.invoke({ kind: 'rejection' }))).toMatchObject({
      errorType: 'Runtime.UnhandledPromiseRejection',
      errorMessage: 'TypeError: unseen',
    })
    expect(await exited).toBe(128)
  })

  test('an exit keeps its code', async () => {
    const { api, exited } = await start({ files })
    expect((await api.invoke({ kind: 'fine' })).text).toBe('"fine"')
    void api.invoke({ kind: 'exit' })
    expect(await exited).toBe(7)
  })

  test('SIGTERM ends an idle one at once, and a busy one after its answer', async () => {
    const idle = await start({ files })
    await idle.api.ready
    idle.kill('SIGTERM')
    expect(await idle.exited).toBe(0)
    const busy = await start({
      files: {
        'index.js': `exports.handler = () => new Promise((resolve) => { console.log('busy'); setTimeout(resolve, 300, 'done') })`,
      },
    })
    const answer = busy.api.invoke({})
    await busy.line(/busy/)
    busy.kill('SIGTERM')
    expect((await answer).text).toBe('"done"')
    expect(await busy.exited).toBe(0)
  })
})

describe('a process at the other end that was killed', () => {
  test('is found again: a blank asks for its function again, a function goes on', async () => {
    const { api, claim } = await start({
      files: { 'index.js': 'let n = 0; exports.handler = async () => ++n' },
      isClaimed: false,
    })
    await api.claimAsked
    await api.stop()
    await api.start()
    claim()
    expect((await api.invoke({})).text).toBe('1')
    await api.stop()
    await api.start()
    expect((await api.invoke({})).text).toBe('2')
  })

  test('ends a runtime that it does not want any more', async () => {
    const { api, exited } = await start({ files: { 'index.js': 'exports.handler = async () => 1' } })
    await api.ready
    api.dismiss()
    expect(await exited).toBe(1)
  })

  test('takes the result of the running invocation with it, and no more', async () => {
    const { api, line } = await start({
      files: {
        'index.js': `exports.handler = async ({ waitMs }) => { console.log('waiting'); await new Promise((resolve) => setTimeout(resolve, waitMs)); return 'done' }`,
      },
    })
    void api.invoke({ waitMs: 200 })
    await line(/waiting/)
    await api.stop()
    await api.start()
    expect((await api.invoke({ waitMs: 0 })).text).toBe('"done"')
  })
})
