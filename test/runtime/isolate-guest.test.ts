import { describe, expect, test } from 'vitest'
import { withGuest, withRunningGuest } from '../harness/guest-instance.ts'

const ID = { 'x-request-id': 'req-1' }

describe("a function's default export behaves as it does in stock workerd", () => {
  test('handlers run on the exported object, with its fields, private fields and inherited methods', () =>
    withRunningGuest(
      `class App { #hits = 0; name = 'app'
         fetch(request, env, ctx) { this.last = request.url; return new Response([this instanceof App, ++this.#hits, this.name, this.help(), arguments.length].join()) }
         help() { return 'helped ' + this.last.length } }
       export default new App()`,
      async (instance) => {
        expect((await instance.get('/')).body).toBe('true,1,app,helped 20,3')
        expect((await instance.get('/')).body).toBe('true,2,app,helped 20,3')
      },
    ))

  test('a frozen object and one with getters are served', () =>
    withRunningGuest(
      `let read = 0
       export default Object.freeze({ get fetch() { return () => new Response('frozen') }, get other() { read++; return 1 } })`,
      async (instance) => expect((await instance.get('/')).body).toBe('frozen'),
    ))

  test('a class is constructed as itself, once a request, with the real ctx and env', () =>
    withRunningGuest(
      {
        modules: {
          'index.js': `import { WorkerEntrypoint } from 'cloudflare:workers'
            let made = 0
            export default class Shop extends WorkerEntrypoint {
              constructor(ctx, env) { super(ctx, env); made++ }
              fetch(request) { this.ctx.waitUntil(Promise.resolve()); return new Response([made, this.constructor === Shop, this.constructor.name, this.env.GREETING, this.help()].join()) }
              help() { return 'helped' } }`,
        },
        bindings: [{ type: 'text', name: 'GREETING', text: 'hi' }],
      },
      async (instance) => {
        expect((await instance.get('/')).body).toBe('1,true,Shop,hi,helped')
        expect((await instance.get('/')).body).toBe('2,true,Shop,hi,helped')
        expect(await instance.control()).toEqual({ handlers: ['fetch'], pending: 0 })
      },
    ))

  test('named exports are reachable as entrypoints', () =>
    withRunningGuest(
      {
        modules: {
          'index.js': `import { WorkerEntrypoint } from 'cloudflare:workers'
            export class Other extends WorkerEntrypoint { add(a, b) { return a + b } }
            export default { async fetch(request, env, ctx) { return new Response(String(await ctx.exports.Other.add(1, 2))) } }`,
        },
        compatibilityFlags: ['enable_ctx_exports'],
      },
      async (instance) => expect((await instance.get('/')).body).toBe('3'),
    ))

  test('a function that replaces globals is still logged and answered', () =>
    withRunningGuest(
      `globalThis.Response = class {}; Promise.prototype.then = undefined; Reflect.apply = undefined
       globalThis.console = undefined; Headers.prototype.get = undefined; WeakSet.prototype.has = undefined
       export default { fetch() { throw new Error('after all') } }`,
      async (instance) => {
        expect((await instance.get('/', ID)).headers['isola-error']).toBe('function_threw')
        expect((await instance.line(({ source }) => source === 'exception')).message).toBe('Error: after all')
      },
    ))

  test('the scheme of request.url is what the router says, in a header that the function does not see', () =>
    withRunningGuest(
      `export default { fetch(request) { return Response.json([request.url, request.headers.get('isola-proto'), request.headers.get('x-forwarded-proto')]) } }`,
      async (instance) => {
        const https = await instance.get('/a?b', { 'isola-proto': 'https', 'x-forwarded-proto': 'https' })
        expect(JSON.parse(https.body)).toEqual(['https://shop.example/a?b', null, 'https'])
        expect(JSON.parse((await instance.get('/')).body)).toEqual(['http://shop.example/', null, null])
      },
    ))
})

describe('what a function cannot answer with is refused at load', () => {
  const refused = [
    ['no default export', `export const other = 1`, 'index.js has no default export'],
    [
      'a default export without handlers',
      `export default {}`,
      'the default export of index.js has no handler',
    ],
    [
      'a promise',
      `export default Promise.resolve({ fetch() {} })`,
      'the default export of index.js has no handler',
    ],
    ['a number', `export default 5`, 'the default export of index.js is of type number'],
    ['null', `export default null`, 'the default export of index.js is null'],
    [
      'a bare function',
      `export default () => new Response('x')`,
      'the default export of index.js is a function',
    ],
    [
      'a class of another kind',
      `export default class { fetch() {} }`,
      'the default export of index.js is a function or a class of another kind',
    ],
  ] as const
  test.each(refused)('%s', (_, source, message) =>
    withGuest({ modules: { 'index.js': source } }, async ({ instance, lastErrors, exitCode }) => {
      expect(instance).toBeUndefined()
      expect(exitCode).toBe(1)
      expect(lastErrors).toContain(message)
      expect(lastErrors).toContain('write "export default { fetch(request, env, ctx) { … } }"')
    }),
  )
})

describe('what a function throws', () => {
  const SOURCE = `export default { async fetch(request, env, ctx) {
    switch (new URL(request.url).pathname) {
      case '/async': await null; throw new TypeError('late')
      case '/null': throw null
      case '/cause': throw new Error('outer', { cause: new RangeError('inner') })
      case '/undefined': return
      case '/number': return 5
      case '/unhandled': Promise.reject(new Error('nobody waits')); await null; break
      case '/wait': ctx.waitUntil(Promise.reject(new Error('in the background'))); break
      case '/pass': ctx.passThroughOnException(); throw new Error('pass me on')
      case '/stream': { let n = 0; return new Response(new ReadableStream({ async pull(c) { if (n++ > 1) { await scheduler.wait(10); throw new Error('mid-stream') } c.enqueue(new TextEncoder().encode('x')) } })) }
      case '/own': return new Response('mine', { status: 500 })
    }
    return new Response('fine')
  } }`

  test('is logged with request id, message and stack, and answered as function_threw', () =>
    withRunningGuest(
      `function deep() { throw new TypeError('sync') }\nexport default { fetch() { deep() } }`,
      async (instance) => {
        const answer = await instance.get('/', ID)
        expect([answer.status, answer.headers['isola-error']]).toEqual([500, 'function_threw'])
        const line = await instance.line(({ source }) => source === 'exception')
        expect(line).toMatchObject({
          level: 'error',
          functionName: 'shop',
          versionId: '0123456789abcdef0123456789abcdef',
          instanceId: 'instance-1',
          requestId: 'req-1',
          message: 'TypeError: sync',
          stack: 'TypeError: sync\n    at deep (index.js:1:25)\n    at Object.fetch (index.js:2:28)',
        })
      },
    ))

  const thrown = [
    ['/async', 'TypeError: late'],
    ['/null', 'null'],
    ['/cause', 'Error: outer'],
    ['/undefined', 'TypeError: fetch() must answer with a Response, but its result is undefined'],
    ['/number', 'TypeError: fetch() must answer with a Response, but its result is of type number'],
  ] as const
  test.each(thrown)('%s is logged as "%s"', (path, message) =>
    withRunningGuest(SOURCE, async (instance) => {
      const answer = await instance.get(path, ID)
      expect([answer.status, answer.headers['isola-error']]).toEqual([500, 'function_threw'])
      const line = await instance.line(({ source }) => source === 'exception')
      expect(line).toMatchObject({ message, requestId: 'req-1' })
      if (path === '/cause') expect(line.stack).toContain('[cause]: RangeError: inner')
    }),
  )

  test('in a promise that nobody awaits, or in waitUntil, is logged, and the answer stays', () =>
    withRunningGuest(SOURCE, async (instance) => {
      expect((await instance.get('/unhandled', ID)).body).toBe('fine')
      expect((await instance.get('/wait', ID)).body).toBe('fine')
      expect((await instance.line((line) => line.message === 'Error: nobody waits')).source).toBe('exception')
      const background = await instance.line((line) => line.message === 'Error: in the background')
      expect(background).toMatchObject({ source: 'exception', requestId: 'req-1' })
    }))

  test('while its body is sent breaks the connection and is logged', () =>
    withRunningGuest(SOURCE, async (instance) => {
      const answer = await instance.get('/stream', ID)
      expect(answer).toMatchObject({ status: 200, aborted: true })
      expect((await instance.line((line) => line.source === 'exception')).message).toBe('Error: mid-stream')
    }))

  test('after passThroughOnException sends the request on to the origin', () =>
    withRunningGuest(SOURCE, async (instance) => {
      const heads: string[] = []
      await instance.listenEgress((socket) => {
        socket.on('error', () => undefined)
        socket.on('data', (chunk: Buffer) => {
          heads.push(chunk.toString())
          socket.end('HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\norigin')
        })
      })
      expect((await instance.get('/pass', ID)).body).toBe('origin')
      expect(heads[0]).toMatch(/^GET http:\/\/shop\.example\/pass HTTP\/1\.1\r\n/)
      expect((await instance.line(({ source }) => source === 'exception')).message).toBe('Error: pass me on')
    }))

  test("does not touch a function's own answer with status 500", () =>
    withRunningGuest(SOURCE, async (instance) => {
      const answer = await instance.get('/own', ID)
      expect([answer.status, answer.body, answer.headers['isola-error']]).toEqual([500, 'mine', undefined])
    }))
})

describe('background work', () => {
  test('is counted while it is pending, and ctx.waitUntil looks and fails as the stock one', () =>
    withRunningGuest(
      `let release
       export default { fetch(request, env, ctx) {
         switch (new URL(request.url).pathname) {
           case '/start': ctx.waitUntil(new Promise((resolve) => { release = resolve })); ctx.waitUntil(scheduler.wait(100_000)); return new Response('started')
           case '/bad': try { const { waitUntil } = ctx; waitUntil(Promise.resolve()) } catch (e) { return new Response(e.name) }
         }
         return new Response([ctx.waitUntil.name, ctx.waitUntil.length, typeof ctx.passThroughOnException].join())
       } }`,
      async (instance) => {
        expect((await instance.get('/')).body).toBe('waitUntil,0,function')
        expect((await instance.get('/bad')).body).toBe('TypeError')
        expect(await instance.control()).toEqual({ handlers: ['fetch'], pending: 0 })
        await instance.get('/start')
        expect(await instance.control()).toEqual({ handlers: ['fetch'], pending: 2 })
      },
    ))

  test('that ends is no longer counted', () =>
    withRunningGuest(
      `export default { fetch(request, env, ctx) {
         ctx.waitUntil((async () => { await scheduler.wait(20); console.log('done') })()); return new Response('started') } }`,
      async (instance) => {
        await instance.get('/', ID)
        expect((await instance.line(({ message }) => message === 'done')).requestId).toBe('req-1')
        await expect.poll(async () => (await instance.control()).pending).toBe(0)
      },
    ))
})
