/** Service bindings with entrypoints, props and calls of methods, on a whole node: real isolates, egress proxy, router. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ServiceBinding } from '../../sdk/model/function.ts'
import { startWorkNode, untilSo, type WorkNode } from '../harness/work-node.ts'

type Target = Partial<Omit<ServiceBinding, 'type' | 'name'>>

const service = (name: string, target: Target = {}): ServiceBinding => ({
  type: 'service',
  name,
  functionName: 'callee',
  ...target,
})

const CALLEE = `import { RpcTarget, WorkerEntrypoint } from 'cloudflare:workers'
class Counter extends RpcTarget {
  #count
  constructor(count) { super(); this.#count = count }
  add(more) { return this.#count += more }
  get count() { return this.#count }
}
class Sad extends Error { name = 'Sad' }
export default class extends WorkerEntrypoint {
  own = 'only of the instance'
  #secret = 'private'
  fetch(request) { return new Response('default fetch ' + request.url) }
  add(a, b) { return a + b }
  get greeting() { return 'hello' }
  get tools() { return { double: (x) => 2 * x, deep: { name: 'tool' } } }
  fail() { throw new RangeError('out of range') }
  async sad() { throw new Sad('own class') }
  counter(start) { return new Counter(start) }
  async apply(callback, value) { return 'callback says ' + await callback(value) }
  multiplier(by) { return (x) => x * by }
  upper(stream) { return stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TransformStream({
    transform(text, controller) { controller.enqueue(text.toUpperCase()) } })).pipeThrough(new TextEncoderStream()) }
  async respond(request) {
    return new Response(request.method + ' ' + await request.text(), { status: 207, headers: { 'x-own': 'kept' } }) }
  say(text) { console.log('says ' + text) }
  late() { this.ctx.waitUntil(scheduler.wait(300).then(() => console.log('late work is done'))) }
}
export class Named extends WorkerEntrypoint {
  who() { return 'named' }
  props() { return this.ctx.props }
  fetch(request) { return Response.json({ url: request.url, props: this.ctx.props,
    own: [...request.headers.keys()].filter((name) => name.startsWith('isola-') && name !== 'isola-depth') }) }
}
export const plain = { fetch: (request, env) => new Response('plain ' + typeof env),
  only(arg, env, ctx) { return [arg, typeof env, typeof ctx.waitUntil] } }
export class Other {}
`

/** What a request's `code` comes to in the caller, with `env` to hand: errors by name and message. */
const CALLER = `import { RpcTarget, WorkerEntrypoint } from 'cloudflare:workers'
const tests = {
${[
  ['add', `() => env.SVC.add(2, 3)`],
  ['named', `async () => [await env.NAMED.who(), await env.NAMED.props(), await env.BARE.props()]`],
  [
    'namedFetch',
    `async () => [await (await env.NAMED.fetch('https://x.host/y')).json(), await (await env.BARE.fetch('https://x.host/y')).json()]`,
  ],
  [
    'forged',
    `async () => (await (await env.BARE.fetch('https://x.host/', { headers: { 'isola-props': '{"forged":1}', 'isola-entrypoint': 'plain' } })).json()).props`,
  ],
  [
    'plain',
    `async () => [await env.PLAIN.only('arg'), await (await env.PLAIN.fetch('http://x/')).text(), await env.PLAIN.only('a', 'b').catch(String)]`,
  ],
  [
    'getter',
    `async () => [await env.SVC.greeting, await env.SVC.tools.deep.name, await env.SVC.tools.double(4)]`,
  ],
  ['private', `() => env.SVC.secret()`],
  ['own', `() => env.SVC.own`],
  ['inherited', `() => env.SVC.ctx`],
  ['missing', `() => env.SVC.nowhere()`],
  ['noEntrypoint', `() => env.WRONG.who()`],
  ['noClass', `() => env.OTHER.who()`],
  ['fail', `() => env.SVC.fail()`],
  ['sad', `() => env.SVC.sad()`],
  ['callback', `() => env.SVC.apply((x) => x + 1, 41)`],
  ['function', `async () => { using triple = await env.SVC.multiplier(3); return await triple(5) }`],
  [
    'target',
    `async () => { using counter = await env.SVC.counter(1); await counter.add(2); await counter.add(3); return await counter.count }`,
  ],
  ['pipelined', `() => env.SVC.counter(10).add(5)`],
  ['stream', `async () => new Response(await env.SVC.upper(new Blob(['streams ', 'pass']).stream())).text()`],
  [
    'http',
    `async () => { const answer = await env.SVC.respond(new Request('http://x/', { method: 'PUT', body: 'body' })); return [answer.status, answer.headers.get('x-own'), await answer.text()] }`,
  ],
  ['say', `() => env.SVC.say('something')`],
  ['late', `() => env.SVC.late()`],
  [
    'hidden',
    `() => [Object.keys(env).sort(), Object.keys(this_.env).filter((name) => name.startsWith('__'))]`,
  ],
  [
    'once',
    `async () => [await env.SVC.fetch('http://x/').then((answer) => answer.text()), typeof env.SVC, typeof env.SVC.then]`,
  ],
]
  .map(([name, code]) => `${name}: (env, this_) => (${code})(),`)
  .join('\n')}
}
export default class extends WorkerEntrypoint {
  async fetch(request) {
    const { pathname } = new URL(request.url)
    try {
      return Response.json({ value: await tests[pathname.slice(1)](this.env, this) })
    } catch (error) {
      return Response.json({ error: { class: error.constructor.name, name: error.name, message: error.message } })
    }
  }
}
`

let node: WorkNode
beforeAll(async () => {
  node = await startWorkNode()
  await node.deploy('callee', CALLEE)
  await node.deploy('caller', CALLER, {
    bindings: [
      service('SVC'),
      service('NAMED', { entrypoint: 'Named', props: { role: 'müller 😀', n: [1] } }),
      service('BARE', { entrypoint: 'Named' }),
      service('PLAIN', { entrypoint: 'plain' }),
      service('WRONG', { entrypoint: 'Wrong' }),
      service('OTHER', { entrypoint: 'Other' }),
    ],
  })
})
afterAll(async () => {
  expect((await node.stop()).leftBehind).toEqual([])
  expect(node.traces()).toEqual([])
})

const ask = async (what: string, caller = 'caller'): Promise<unknown> =>
  JSON.parse((await node.get(caller, `/${what}`)).text) as unknown

describe('a Worker with a service binding', () => {
  test('calls methods with values and gets values', async () => {
    expect(await ask('add')).toEqual({ value: 5 })
    expect(await ask('getter')).toEqual({ value: ['hello', 'tool', 8] })
  })

  test('reaches the named entrypoint of its binding, by method and by fetch, with the binding’s props', async () => {
    const props = { role: 'müller 😀', n: [1] }
    expect(await ask('named')).toEqual({ value: ['named', props, {}] })
    const fetched = { url: 'https://x.host/y', own: [] }
    expect(await ask('namedFetch')).toEqual({
      value: [
        { ...fetched, props },
        { ...fetched, props: {} },
      ],
    })
  })

  test('can say neither entrypoint nor props by itself', async () => {
    expect(await ask('forged')).toEqual({ value: {} })
  })

  test('calls a function of an exported object with one argument, and gets its env and ctx behind it', async () => {
    expect(await ask('plain')).toEqual({
      value: [['arg', 'object', 'function'], 'plain object', expect.stringContaining('one argument')],
    })
  })

  test('passes functions and gets functions and objects with methods, and calls on what has not come back yet', async () => {
    expect(await ask('callback')).toEqual({ value: 'callback says 42' })
    expect(await ask('function')).toEqual({ value: 15 })
    expect(await ask('target')).toEqual({ value: 6 })
    expect(await ask('pipelined')).toEqual({ value: 15 })
  })

  test('the callee logs under the caller’s request id, and its work after the return is done', async () => {
    await node.get('caller', '/say', { headers: { 'x-request-id': 'the-id-of-the-call' } })
    await ask('late')
    const lines = await untilSo(async () => {
      const { stdout } = await node.isola('logs', 'callee', '--json')
      return stdout.includes('late work is done') && stdout.includes('says something')
        ? stdout.split('\n')
        : undefined
    })
    expect(lines.find((line) => line.includes('says something'))).toContain('"the-id-of-the-call"')
  })

  test('passes streams, requests and responses', async () => {
    expect(await ask('stream')).toEqual({ value: 'STREAMS PASS' })
    expect(await ask('http')).toEqual({ value: [207, 'kept', 'PUT body'] })
  })

  test('catches what the method threw, by class where the class is JavaScript’s own', async () => {
    expect(await ask('fail')).toEqual({
      error: { class: 'RangeError', name: 'RangeError', message: 'out of range' },
    })
    expect(await ask('sad')).toEqual({ error: expect.objectContaining({ message: 'own class' }) })
  })

  test('reaches nothing that is not a method of the class: not what is private, the instance’s own or inherited', async () => {
    for (const [what, name] of [
      ['missing', 'nowhere'],
      ['private', 'secret'],
      ['own', 'own'],
      ['inherited', 'ctx'],
    ] as const) {
      const message = `The RPC receiver does not implement the method "${name}".`
      expect(await ask(what)).toEqual({ error: { class: 'TypeError', name: 'TypeError', message } })
    }
  })

  test('is told of an entrypoint that the callee does not have', async () => {
    expect(await ask('noEntrypoint')).toEqual({
      error: expect.objectContaining({ name: 'TypeError', message: expect.stringContaining('"Wrong"') }),
    })
    expect(await ask('noClass')).toEqual({
      error: expect.objectContaining({ message: expect.stringContaining('WorkerEntrypoint') }),
    })
  })

  test('sees its bindings and nothing of what calls are made with', async () => {
    expect(await ask('hidden')).toEqual({ value: [['BARE', 'NAMED', 'OTHER', 'PLAIN', 'SVC', 'WRONG'], []] })
    const early = `import { WorkerEntrypoint } from 'cloudflare:workers'
      let seen
      export default class extends WorkerEntrypoint {
        constructor(ctx, env) { super(ctx, env); seen ??= Object.keys(env) }
        fetch() { return Response.json({ value: seen }) } }`
    const compatibilityFlags = ['disallow_importable_env']
    await node.deploy('early', early, { bindings: [service('SVC')], compatibilityFlags })
    expect(await ask('', 'early')).toEqual({ value: ['SVC'] })
    expect(await ask('once')).toEqual({ value: ['default fetch http://x/', 'object', 'undefined'] })
  })
})
