/** Scripts of the service-worker format. */
import { describe, expect, test } from 'vitest'
import type { Binding } from '../../sdk/model/function.ts'
import { withGuest, withRunningGuest, type GuestSource } from '../harness/guest-instance.ts'

function script(code: string, more: Partial<GuestSource> = {}): GuestSource {
  return {
    modules: { 'index.js': code, ...more.modules },
    kinds: { 'index.js': 'cjs', ...more.kinds },
    format: 'service-worker',
    bindings: more.bindings ?? [],
  }
}

/** A module that exports `add`. */
const WASM = Buffer.from(
  '0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b',
  'hex',
)

describe('a script of the service-worker format', () => {
  test('answers what its listener responds with, and logs with the id of the request', async () => {
    const code = `
      counter = 0 // sloppy, as scripts are
      addEventListener('fetch', (event) => {
        console.log('asked for', event.request.url, event.type, event instanceof FetchEvent)
        event.respondWith(handle(event.request))
      })
      async function handle(request) { return new Response('seen ' + ++counter, { status: 201 }) }`
    await withRunningGuest(script(code), async (instance) => {
      expect(await instance.get('/a')).toMatchObject({ status: 201, body: 'seen 1' })
      expect((await instance.get('/b', { 'x-request-id': 'r-2' })).body).toBe('seen 2')
      const line = await instance.line(({ requestId }) => requestId === 'r-2')
      expect(line.message).toBe('asked for http://shop.example/b fetch true')
      expect((await instance.control()).handlers).toEqual(['fetch'])
    })
  })

  test('finds its bindings as global variables, at its top level too', async () => {
    const code = `
      const atLoad = [TEXT, JSON_VALUE.deep, KEY, META.id.length, typeof LIMIT.limit, WORDS, BYTES.byteLength]
      addEventListener('fetch', (event) => {
        const { add } = new WebAssembly.Instance(ADDER).exports
        event.respondWith(Response.json([...atLoad, add(2, 3), TEXT]))
      })`
    const bindings: Binding[] = [
      { type: 'text', name: 'TEXT', text: 'hello' },
      { type: 'json', name: 'JSON_VALUE', json: { deep: [1] } },
      { type: 'secret', name: 'KEY', sealed: 'terces' },
      { type: 'version-metadata', name: 'META' },
      { type: 'rate-limit', name: 'LIMIT', namespaceId: '1', limit: 1, periodS: 10 },
      { type: 'module', name: 'ADDER', module: 'add.wasm' },
      { type: 'module', name: 'WORDS', module: 'words' },
      { type: 'module', name: 'BYTES', module: 'bytes' },
    ]
    const modules = { 'add.wasm': WASM, words: 'many words', bytes: Buffer.from([1, 2, 3]) }
    const kinds = { 'add.wasm': 'wasm', words: 'text', bytes: 'data' } as const
    await withRunningGuest(script(code, { bindings, modules, kinds }), async (instance) => {
      expect(JSON.parse((await instance.get('/')).body)).toEqual([
        'hello',
        [1],
        'secret',
        36,
        'function',
        'many words',
        3,
        5,
        'hello',
      ])
    })
  })

  test('the first listener that responds is the one, and listeners can be taken away', async () => {
    const code = `
      const gone = () => { throw new Error('still there') }
      const log = []
      addEventListener('fetch', gone)
      addEventListener('fetch', () => { log.push('first') })
      addEventListener('fetch', { handleEvent(event) { log.push('second'); event.respondWith(new Response(log.join())) } })
      addEventListener('fetch', () => { log.push('third') })
      removeEventListener('fetch', gone)`
    await withRunningGuest(script(code), async (instance) => {
      expect((await instance.get('/')).body).toBe('first,second')
    })
  })

  test('a request that no listener responds to goes on to its origin', async () => {
    await withRunningGuest(script(`addEventListener('fetch', () => {})`), async (instance) => {
      await instance.listenEgress((socket) => {
        socket.on('data', (chunk) => {
          const [head] = chunk.toString().split('\r\n')
          socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${head!.length}\r\n\r\n${head}`)
        })
      })
      expect((await instance.get('/path')).body).toBe('GET http://shop.example/path HTTP/1.1')
    })
  })

  test('what it throws is logged and answered as such, in the listener, in its promise and later', async () => {
    const code = `
      addEventListener('fetch', (event) => {
        const { pathname } = new URL(event.request.url)
        if (pathname === '/now') throw new Error('threw now')
        if (pathname === '/promise') event.respondWith(Promise.reject(new Error('threw in the promise')))
        if (pathname === '/nothing') event.respondWith(undefined)
        if (pathname === '/twice') { event.respondWith(new Response('once')); event.respondWith(new Response('twice')) }
        if (pathname === '/late') event.respondWith(new Promise((resolve) => setTimeout(() => {
          try { event.respondWith(new Response('late')) } catch (error) { resolve(new Response(error.name)) }
        })))
        if (pathname === '/origin') { event.passThroughOnException(); throw new Error('the origin answers') }
      })`
    await withRunningGuest(script(code), async (instance) => {
      await instance.listenEgress((socket) => {
        socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\norigin'))
      })
      for (const [path, message] of [
        ['/now', /threw now/],
        ['/promise', /threw in the promise/],
        ['/nothing', /must answer with a Response/],
        ['/twice', /respondWith\(\) has already been called/],
      ] as const) {
        const answer = await instance.get(path, { 'x-request-id': `r${path.slice(1)}` })
        expect(answer.status, path).toBe(500)
        expect(answer.headers['isola-error']).toBe('function_threw')
        const line = await instance.line(({ requestId }) => requestId === `r${path.slice(1)}`)
        expect(line.message).toMatch(message)
      }
      expect((await instance.get('/late')).body).toBe('InvalidStateError')
      expect((await instance.get('/origin')).body).toBe('origin')
    })
  })

  test('work that it waits for is counted until it is done', async () => {
    const code = `
      addEventListener('fetch', (event) => {
        event.waitUntil(fetch('http://slow.example/'))
        event.respondWith(new Response('ok'))
      })`
    await withRunningGuest(script(code), async (instance) => {
      let finish = (): void => undefined
      const asked = new Promise<void>((resolve) => {
        void instance.listenEgress((socket) => {
          socket.on('data', () => resolve())
          finish = () => void socket.write('HTTP/1.1 204 No Content\r\n\r\n')
        })
      })
      expect((await instance.get('/')).body).toBe('ok')
      await asked
      expect((await instance.control()).pending).toBe(1)
      finish()
      await expect.poll(async () => (await instance.control()).pending).toBe(0)
    })
  })

  test('one that registers no listener, and one that throws, do not start', async () => {
    await withGuest(script('const unused = 1'), async ({ instance, lastErrors }) => {
      expect(instance).toBeUndefined()
      expect(lastErrors).toMatch(/index\.js listens for no request: write "addEventListener\('fetch'/)
    })
    await withGuest(script('missing()'), async ({ instance, lastErrors }) => {
      expect(instance).toBeUndefined()
      expect(lastErrors).toMatch(/ReferenceError: missing is not defined/)
      expect(lastErrors).toMatch(/index\.js:1:1/)
    })
    const scheduled = script(`addEventListener('scheduled', () => {})`)
    await withRunningGuest(scheduled, async (instance) => {
      expect((await instance.control()).handlers).toEqual(['scheduled'])
    })
  })

  test('an ES module may be one too, as bundlers write them', async () => {
    const source = {
      ...script(
        `import { text } from './text.js'\naddEventListener('fetch', (e) => e.respondWith(new Response(text + NAME)))`,
      ),
      bindings: [{ type: 'text', name: 'NAME', text: '!' }] satisfies Binding[],
      kinds: {},
    }
    const modules = { ...source.modules, 'text.js': `export const text = 'imported'` }
    await withRunningGuest({ ...source, modules }, async (instance) => {
      expect((await instance.get('/')).body).toBe('imported!')
    })
  })
})
