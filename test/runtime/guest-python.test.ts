import { describe, expect, test } from 'vitest'
import { startGuest, type Guest, type GuestOptions } from '../harness/guest-runtime.ts'
import type { Outcome } from '../harness/runtime-api.ts'

const ID = '8f5e0c3a-0f6b-4a69-8d0c-6f7c2c1f1a11'

const start = (options: Partial<GuestOptions> & Pick<GuestOptions, 'files'>): Promise<Guest> =>
  startGuest({ runtime: 'python', handler: 'app.handler', ...options })

interface Failure {
  readonly errorType: string
  readonly errorMessage: string
  readonly requestId?: string
  readonly stackTrace: readonly string[]
}

function failure(outcome: Outcome): Failure {
  expect(outcome.type).toBe('error')
  return JSON.parse(outcome.text) as Failure
}

describe('a handler of the python runtime', () => {
  test('gets the event and answers with JSON, from a module or a package', async () => {
    const text = 'def handler(event, context):\n    return {"got": event}\n'
    const { api } = await start({ files: { 'app.py': text } })
    expect(JSON.parse((await api.invoke({ a: ['ü', null, 1.5] })).text)).toEqual({
      got: { a: ['ü', null, 1.5] },
    })
    for (const handler of ['src/web/app.handler', 'src.web.app.handler']) {
      const packaged = await start({ files: { 'src/web/app.py': text }, handler })
      expect((await packaged.api.invoke(1)).text).toBe('{"got": 1}')
    }
  })

  test('reads files beside it, imports its packages, and has its variables but none of the client', async () => {
    const { api } = await start({
      files: {
        'data.txt': 'data',
        'greet/__init__.py': 'def greet(name):\n    return "Hi " + name\n',
        'app.py': `import os, sys\nfrom greet import greet\nGREETING = greet(os.environ["NAME"])
def handler(event, context):
    return {"greeting": GREETING, "data": open("data.txt").read(), "env": dict(os.environ), "cwd": os.getcwd()}\n`,
      },
      environment: { NAME: 'Ada' },
    })
    const { greeting, data, env, cwd } = JSON.parse((await api.invoke({})).text) as Record<string, any>
    expect({ greeting, data }).toEqual({ greeting: 'Hi Ada', data: 'data' })
    expect(env).toMatchObject({
      LAMBDA_TASK_ROOT: cwd,
      _HANDLER: 'app.handler',
      AWS_LAMBDA_FUNCTION_NAME: 'shop',
    })
    expect(env.AWS_EXECUTION_ENV).toMatch(/^AWS_Lambda_python3\.\d+$/)
    expect(Object.keys(env).filter((name) => /ISOLA|RUNTIME_API/.test(name))).toEqual([])
  })

  test('has the context that AWS gives it', async () => {
    const { api } = await start({
      files: {
        'app.py': `import os
def handler(event, c):
    return [c.aws_request_id, c.invoked_function_arn, c.function_name, c.function_version, c.memory_limit_in_mb, c.log_group_name,
        c.log_stream_name, c.client_context and [c.client_context.custom, c.client_context.client.app_title], c.identity.cognito_identity_id,
        20000 < c.get_remaining_time_in_millis() <= 30000, os.environ.get("_X_AMZN_TRACE_ID")]\n`,
      },
    })
    const common = [
      'arn:aws:lambda:eu-central-1:000000000000:function:shop',
      'shop',
      '$LATEST',
      '256',
      '/aws/lambda/shop',
      '2026/11/01/[$LATEST]0123',
    ]
    expect(JSON.parse((await api.invoke(null, { id: 'plain' })).text)).toEqual([
      'plain',
      ...common,
      null,
      null,
      true,
      null,
    ])
    const outcome = await api.invoke(null, {
      id: ID,
      headers: {
        'Lambda-Runtime-Client-Context': '{"custom":{"a":1},"client":{"app_title":"t"}}',
        'Lambda-Runtime-Cognito-Identity': '{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}',
        'Lambda-Runtime-Trace-Id': 'Root=1-5759e988-bd862e3fe1be46a994272793',
      },
    })
    expect(JSON.parse(outcome.text)).toEqual([
      ID,
      ...common,
      [{ a: 1 }, 't'],
      'i',
      true,
      'Root=1-5759e988-bd862e3fe1be46a994272793',
    ])
  })

  test('answers null for nothing, numbers for decimals, and goes on after errors of every kind', async () => {
    const { api, lines } = await start({
      files: {
        'app.py': `import decimal
class Shy(Exception):
    def __str__(self): raise ValueError()
class Bücher(Exception): pass
def handler(event, context):
    kind = event["kind"]
    if kind == "nothing": return None
    if kind == "decimal": return [decimal.Decimal("1.5"), decimal.Decimal(3)]
    if kind == "raise": raise KeyError("no\\nbook")
    if kind == "shy": raise Shy()
    if kind == "named": raise Bücher("mine")
    if kind == "set": return {1}
    if kind == "nan": return float("nan")
    if kind == "circular":
        a = []; a.append(a); return a
    return kind\n`,
      },
    })
    const run = (kind: string) => api.invoke({ kind }, { id: kind })
    expect((await run('nothing')).text).toBe('null')
    expect((await run('decimal')).text).toBe('[1.5, 3]')
    const raised = failure(await run('raise'))
    expect(raised).toMatchObject({ errorType: 'KeyError', errorMessage: "'no\\nbook'", requestId: 'raise' })
    expect(raised.stackTrace).toHaveLength(1)
    expect(raised.stackTrace[0]).toMatch(/^ {2}File ".*app\.py", line 9, in handler\n/)
    expect(failure(await run('shy'))).toMatchObject({ errorType: 'Shy' })
    const named = await run('named')
    expect(failure(named)).toMatchObject({ errorType: 'Bücher', errorMessage: 'mine' })
    expect(named.headers['lambda-runtime-function-error-type']).toBe('B?cher')
    for (const kind of ['set', 'nan', 'circular']) {
      expect(failure(await run(kind))).toMatchObject({ errorType: 'Runtime.MarshalError' })
    }
    expect(failure(await api.invoke({}, { raw: '{"broken' }))).toMatchObject({
      errorType: 'Runtime.UnmarshalError',
    })
    expect((await run('fine')).text).toBe('"fine"')
    expect(lines.filter((line) => line.includes('\traise\t'))).toEqual([
      expect.stringMatching(
        /^\[ERROR\]\t\d{4}-\d\d-\d\dT[\d:.]+Z\traise\tKeyError: 'no\\nbook'\rTraceback [\s\S]*app\.py/,
      ),
    ])
  })

  test('writes lines of logging as AWS does, each with its request, and prints as it prints', async () => {
    const { api, line, lines } = await start({
      files: {
        'app.py': `import logging, sys, threading
logging.warning("loading")
def fail(): raise ValueError("in a thread")
def handler(event, context):
    print("printed"); logging.getLogger("a").error("two\\nlines"); logging.info("unseen"); print("aside", file=sys.stderr)
    thread = threading.Thread(target=fail); thread.start(); thread.join()
    logging.getLogger().setLevel(logging.DEBUG); logging.debug("seen %s", 1)\n`,
      },
    })
    await api.invoke({}, { id: ID })
    await line(/seen 1$/)
    await line(/^aside$/)
    const time = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`
    expect(lines.filter((text) => text !== 'aside')).toEqual([
      expect.stringMatching(new RegExp(String.raw`^\[WARNING\]\t${time}\t\tloading$`)),
      'printed',
      expect.stringMatching(new RegExp(String.raw`^\[ERROR\]\t${time}\t${ID}\ttwo\rlines$`)),
      expect.stringMatching(new RegExp(String.raw`^\[ERROR\]\t${time}\t${ID}\tValueError: in a thread\r`)),
      expect.stringMatching(new RegExp(String.raw`^\[DEBUG\]\t${time}\t${ID}\tseen 1$`)),
    ])
  })

  test('goes on when its response was refused as too large', async () => {
    const { api } = await start({
      files: { 'app.py': 'def handler(event, context): return "x" * event["size"]\n' },
    })
    const large = await api.invoke({ size: 7_000_000 }, { answerStatus: 413 })
    expect(large.text).toHaveLength(7_000_002)
    expect((await api.invoke({ size: 1 })).text).toBe('"x"')
  })

  test('knows its function since the start where its environment says so', async () => {
    const { api } = await start({
      files: { 'app.py': 'import os\ndef handler(event, context): return os.environ["NAME"]\n' },
      environment: { NAME: 'Ada' },
      isKnown: true,
    })
    expect((await api.invoke({})).text).toBe('"Ada"')
  })
})

describe('a python function that cannot start says why', () => {
  const good = 'def handler(event, context): pass\n'
  test.each([
    [
      'no module',
      {},
      'app.handler',
      'Runtime.ImportModuleError',
      "Unable to import module 'app': No module named 'app'",
    ],
    [
      'a missing package',
      { 'app.py': 'import nowhere' },
      'app.handler',
      'Runtime.ImportModuleError',
      "No module named 'nowhere'",
    ],
    [
      'no function',
      { 'app.py': 'other = 1' },
      'app.handler',
      'Runtime.HandlerNotFound',
      "Handler 'handler' missing on module 'app'",
    ],
    [
      'not a function',
      { 'app.py': 'handler = 1' },
      'app.handler',
      'Runtime.HandlerNotFound',
      'is not a function',
    ],
    [
      'a name without a function',
      { 'app.py': good },
      'app',
      'Runtime.MalformedHandlerName',
      "Bad handler 'app'",
    ],
    [
      'a name that leads out',
      { 'app.py': good },
      '../app.handler',
      'Runtime.MalformedHandlerName',
      'Bad handler',
    ],
    [
      'a syntax error',
      { 'app.py': 'def handler(:\n' },
      'app.handler',
      'Runtime.UserCodeSyntaxError',
      "Syntax error in module 'app'",
    ],
    [
      'an exception at import',
      { 'app.py': 'raise ValueError("too far")' },
      'app.handler',
      'ValueError',
      'too far',
    ],
  ])('%s', async (_what, files, handler, errorType, message) => {
    const { api, exited, lines } = await start({ files, handler })
    const outcome = await api.initError
    expect(await exited).toBe(1)
    const error = failure({ ...outcome, type: 'error' })
    expect(error.errorType).toBe(errorType)
    expect(error.errorMessage).toContain(message)
    expect(outcome.headers['lambda-runtime-function-error-type']).toBe(errorType)
    expect(lines.join('\n')).toContain(`\t${errorType}: `)
    expect(error.stackTrace.join('')).not.toContain('client.py')
  })
})

describe('the end of a python runtime', () => {
  test('an exit keeps its code, in an event and at import', async () => {
    const { api, exited } = await start({
      files: { 'app.py': 'import sys\ndef handler(e, c): sys.exit(7)\n' },
    })
    void api.invoke({})
    expect(await exited).toBe(7)
    const early = await start({ files: { 'app.py': 'import sys\nsys.exit(8)\n' } })
    expect(await early.exited).toBe(8)
  })

  test('SIGTERM ends an idle one at once, and a busy one after its answer', async () => {
    const idle = await start({ files: { 'app.py': 'def handler(e, c): pass\n' } })
    await idle.api.ready
    idle.kill('SIGTERM')
    expect(await idle.exited).toBe(0)
    const busy = await start({
      files: {
        'app.py':
          'import time\ndef handler(e, c):\n    print("busy")\n    time.sleep(0.3)\n    return "done"\n',
      },
    })
    const answer = busy.api.invoke({})
    await busy.line(/busy/)
    busy.kill('SIGTERM')
    expect((await answer).text).toBe('"done"')
    expect(await busy.exited).toBe(0)
  })

  test('a process at the other end that was killed is found again, before and after the function is known', async () => {
    const { api, claim } = await start({
      files: { 'app.py': 'n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    return n\n' },
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

  test('a process at the other end that does not want it any more ends it', async () => {
    const { api, exited } = await start({ files: { 'app.py': 'def handler(e, c): pass\n' } })
    await api.ready
    api.dismiss()
    expect(await exited).toBe(1)
  })
})
