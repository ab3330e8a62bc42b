/** Invocations and dead letters over the control API and the command line. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Invocation, InvocationAnswer } from '../../runtime/pool/inner-door.ts'
import { eventInvoke } from '../../runtime/node/invoke.ts'
import type { ErrorCode } from '../../sdk/model/errors.ts'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { closeAll, dead, makeDirectory, openEvents, type AsyncPlace } from '../harness/async-place.ts'
import {
  bundleOf,
  DEPLOY_OPTIONS,
  openControlPlace,
  refused,
  TOKEN,
  type ControlPlace,
} from '../harness/control-place.ts'
import { runIsola, type CommandOutcome } from '../harness/node.ts'

let place: ControlPlace
let asynchronous: AsyncPlace
/** What the function does; the invocations it got. */
let respond: (invocation: Invocation) => InvocationAnswer
let invocations: Invocation[]

const answerOf = (text: string, fields: Partial<InvocationAnswer> = {}): InvocationAnswer => ({
  status: 200,
  headers: { 'content-type': 'application/json' },
  error: undefined,
  functionError: undefined,
  body: (async function* parts() {
    yield Buffer.from(text)
  })(),
  ...fields,
})
const refusedBy = (code: ErrorCode): InvocationAnswer =>
  answerOf(JSON.stringify({ error: { code, message: `it is ${code}`, requestId: '' } }), {
    status: 429,
    error: code,
  })

beforeEach(async () => {
  makeDirectory()
  invocations = []
  respond = () => answerOf('{"made":1}')
  place = await openControlPlace()
  const invoker = {
    async invoke(invocation: Invocation) {
      invocations.push(invocation)
      return respond(invocation)
    },
    close: () => undefined,
  }
  asynchronous = await openEvents(() => expect.fail('is not asked'), {
    invoke: eventInvoke(invoker),
    settingsOf: (name) => place.registry.head.functions[name] && {},
  })
  Object.assign(place.ports, { invoker, asyncEvents: asynchronous.events })
  const image = { type: 'image', imageId: `sha256:${'a'.repeat(64)}` } as const
  const hosting = { bindings: [], routes: [], baseDomainHost: true, previewHosts: true }
  const { client } = place
  await client.deploy('report', { kind: 'container', protocol: 'lambda', source: image, ...hosting })
  await client.deploy('web', { kind: 'container', protocol: 'http', source: image, ...hosting })
  await client.deployBundle('worker', bundleOf('export default {}'), DEPLOY_OPTIONS)
})
afterEach(async () => {
  await closeAll()
  await place.close()
})

const isola = (...words: string[]): Promise<CommandOutcome> =>
  runIsola([...words, '--control', place.url], { env: { ISOLA_TOKEN: TOKEN } })

describe('invoking a function', () => {
  test('gives its result, under a request id that its log lines carry', async () => {
    const result = await place.client.invoke('report', { payload: '{"a": 1}' })
    expect(Buffer.from(result.body).toString()).toBe('{"made":1}')
    expect(result.functionError).toBeUndefined()
    const [invocation] = invocations
    expect(invocation).toMatchObject({ functionName: 'report', mode: 'event', requestId: result.requestId })
    expect(Buffer.from(invocation!.payload).toString()).toBe('{"a": 1}')
  })

  test('gives the error of a function that failed as a result, and a refusal as an error', async () => {
    respond = () => answerOf('{"errorMessage":"no"}', { functionError: 'Unhandled' })
    const result = await place.client.invoke('report', { payload: '{}' })
    expect([result.functionError, Buffer.from(result.body).toString()]).toEqual([
      'Unhandled',
      '{"errorMessage":"no"}',
    ])
    respond = () => refusedBy('queue_full')
    await expect(place.client.invoke('report', { payload: '{}' })).rejects.toEqual(
      refused('queue_full', /^it is queue_full$/),
    )
  })

  test('of a kind or protocol that takes no events is refused with what to do instead', async () => {
    for (const name of ['worker', 'web'])
      await expect(place.client.invoke(name, { payload: '{}' })).rejects.toEqual(
        refused('invalid_argument', /takes HTTP requests, no events: call it by its host/),
      )
    await expect(place.client.invoke('nobody', { payload: '{}' })).rejects.toEqual(
      refused('function_not_found', /nobody/),
    )
    expect(invocations).toEqual([])
  })

  test('with what is no event is refused before the function is called', async () => {
    const send = (body: string | Uint8Array<ArrayBuffer>, type = 'sync'): Promise<Response> =>
      fetch(`${place.url}/v1/functions/report/invoke`, {
        method: 'POST',
        headers: { authorization: `Bearer ${TOKEN}`, 'isola-invoke-type': type },
        body,
      })
    const codeOf = async (response: Response): Promise<unknown> =>
      ((await response.json()) as { error: { code: string } }).error.code
    expect(await codeOf(await send('{no json'))).toBe('invalid_argument')
    expect(await codeOf(await send(new Uint8Array([34, 0xff, 34])))).toBe('invalid_argument')
    expect(await codeOf(await send('{}', 'later'))).toBe('invalid_argument')
    const { eventBytesMax, payloadBytesMax } = CONTAINER_LIMITS
    const json = (bytes: number): string => `"${'1'.repeat(bytes - 2)}"`
    expect((await send(json(eventBytesMax + 1), 'async')).status).toBe(413)
    expect((await send(json(payloadBytesMax + 1))).status).toBe(413)
    expect(invocations).toEqual([])
    expect((await send(json(payloadBytesMax))).status).toBe(200)
    expect((await send('')).status).toBe(200)
    expect(Buffer.from(invocations.at(-1)!.payload).toString()).toBe('{}')
  })

  test('asynchronously is accepted with the request id that the function will see', async () => {
    const response = await place.call('POST', '/v1/functions/report/invoke', '{"a": 1}', {
      'isola-invoke-type': 'async',
    })
    expect(response.status).toBe(202)
    const { requestId } = (await response.json()) as { requestId: string }
    expect(response.headers.get('x-request-id')).toBe(requestId)
    await asynchronous.until(() => asynchronous.events.counts().size === 0)
    expect(invocations.map((each) => [each.requestId, each.mode])).toEqual([[requestId, 'event']])
  })

  test('on a node that keeps no events says so', async () => {
    Object.assign(place.ports, { asyncEvents: undefined })
    await expect(place.client.invoke('report', { payload: '{}', type: 'async' })).rejects.toEqual(
      refused('data_unusable', /keeps no asynchronous events/),
    )
  })
})

describe('dead letters', () => {
  /** Ids, newest first. */
  async function die(count: number): Promise<string[]> {
    const before = dead(asynchronous.events, 'report')
    respond = () =>
      answerOf('{"errorType":"Error","errorMessage":"out of\\u001b[31m paper"}', {
        functionError: 'Unhandled',
      })
    for (let number = 0; number < count; number += 1)
      await place.client.invoke('report', { payload: JSON.stringify({ number }), type: 'async' })
    await asynchronous.until(() => dead(asynchronous.events, 'report') === before + count)
    return (await place.client.listDeadLetters('report')).map(({ id }) => id)
  }

  test('are listed, shown, redriven and discarded over the API', async () => {
    const { client } = place
    const [first = '', second = ''] = await die(2)
    expect(await client.listDeadLetters('report', { limit: 1 })).toHaveLength(1)
    const letter = await client.getDeadLetter(first)
    expect(letter).toMatchObject({
      functionName: 'report',
      tries: 3,
      reason: 'Error: out of\u001b[31m paper',
    })
    expect(JSON.parse(letter.payload)).toHaveProperty('number')
    expect(letter.answer).toContain('paper')
    respond = () => answerOf('null')
    await client.redriveDeadLetter(first)
    await asynchronous.until(() => dead(asynchronous.events, 'report') === 1)
    expect(invocations.at(-1)!.requestId).toBe(letter.requestId)
    await client.discardDeadLetter(second)
    expect(await client.listDeadLetters('report')).toEqual([])
    for (const call of [client.getDeadLetter, client.redriveDeadLetter, client.discardDeadLetter])
      await expect(call(second)).rejects.toEqual(refused('not_found', /no dead letter/))
    await expect(client.listDeadLetters('report', { limit: 0 })).rejects.toEqual(
      refused('invalid_argument', /limit is "0"/),
    )
  })

  test('of a function that was deleted stay to be seen, and cannot be redriven before it is back', async () => {
    const [id = ''] = await die(1)
    await place.client.deleteFunction('report')
    expect(await place.client.listDeadLetters('report')).toHaveLength(1)
    await expect(place.client.redriveDeadLetter(id)).rejects.toEqual(refused('function_not_found', /report/))
  })

  test('are handled by the command line, which no text of a function can steer', async () => {
    const [first = '', second = ''] = await die(2)
    const listed = await isola('dead-letters', 'report')
    expect(listed.stdout).toContain(first)
    expect(listed.stdout).toContain('Error: out of')
    expect(listed.stdout).not.toContain('\u001b')
    const shown = await isola('dead-letters', 'show', first)
    expect(shown.stdout).toMatch(/^event +\{"number":1\}$/m)
    expect(shown.stdout).not.toContain('\u001b')
    expect(JSON.parse((await isola('dead-letters', 'show', first, '--json')).stdout)).toMatchObject({
      id: first,
    })
    expect((await isola('dead-letters', 'discard', second)).code).toBe(0)
    respond = () => answerOf('null')
    expect((await isola('dead-letters', 'redrive', first)).stdout).toContain('tried again')
    await asynchronous.until(() => asynchronous.events.counts().size === 0)
    expect((await isola('dead-letters', 'report')).stdout).toBe('report has no dead letters\n')
    expect((await isola('dead-letters', 'show', first)).code).toBe(1)
  })

  test('are redriven all together', async () => {
    await die(3)
    respond = () => answerOf('null')
    invocations.length = 0
    expect((await isola('dead-letters', 'redrive', '--all', 'report')).stdout).toContain(
      '3 of report are tried',
    )
    await asynchronous.until(() => asynchronous.events.counts().size === 0)
    const numbers = invocations.map(({ payload }) => Buffer.from(payload).toString())
    expect(numbers).toEqual(['{"number":0}', '{"number":1}', '{"number":2}'])
  })

  test.each([
    [['dead-letters', 'remove', 'x'], 'has no "remove"'],
    [['dead-letters', '--all', 'report'], '--all goes with redrive'],
    [['dead-letters', 'show', 'x', '--lines', '3'], '--lines goes with a function'],
    [['dead-letters', 'report', '--lines', '0'], '--lines'],
  ])('%j is a mistake of usage', async (words, why) => {
    const { code, stderr } = await isola(...words)
    expect([code, stderr]).toEqual([2, expect.stringContaining(why)])
  })
})
