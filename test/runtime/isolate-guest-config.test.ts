import { join } from 'node:path'
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import { encodeConfig, INSTANCE_SOCKETS } from '../../runtime/isolate/config.ts'
import { describeStartFailure } from '../../runtime/isolate/output.ts'
import { blankArguments } from '../../runtime/isolate/workerd.ts'
import { workerdBinaryPath } from '../../runtime/machine/workerd-binary.ts'
import { guestVersion, withGuest, withRunningGuest, type GuestInstance } from '../harness/guest-instance.ts'

/** The smallest module that exports something: `answer()` is 42. */
const WASM = Buffer.from(
  '0061736d010000000105016000017f03020100070a0106616e7377657200000a06010400412a0b',
  'hex',
)
const HELLO = `export default { fetch() { return new Response('hello') } }`

describe('a version as configuration', () => {
  test('brings modules of every kind, and bindings, as they are', () =>
    withRunningGuest(
      {
        modules: {
          'index.js': `import wasm from './lib/add.wasm'; import text from './a.txt'; import data from './b.bin'; import json from './c.json'
            import cjs from './d.cjs'; import { sub } from './lib/sub.js'
            const { answer } = new WebAssembly.Instance(wasm).exports
            export default { async fetch(request, env) {
              const { late } = await import('./late.js')
              return Response.json([answer(), text, [...new Uint8Array(data)], json, cjs.name, sub, late, env.TEXT, env.JSON]) } }`,
          'lib/add.wasm': WASM,
          'lib/sub.js': `import { up } from '../up.js'; export const sub = 'sub of ' + up`,
          'up.js': `export const up = 'up'`,
          'late.js': `export const late = 'late'`,
          'a.txt': 'größe\n',
          'b.bin': Uint8Array.of(0, 255, 1),
          'c.json': '{"a":[1]}',
          'd.cjs': `module.exports = { name: 'cjs' }`,
          'index.js.map': '{}',
        },
        kinds: { 'lib/add.wasm': 'wasm', 'a.txt': 'text', 'b.bin': 'data', 'c.json': 'json', 'd.cjs': 'cjs' },
        bindings: [
          { type: 'text', name: 'TEXT', text: 'tëxt' },
          { type: 'json', name: 'JSON', json: { deep: [null, 'x'] } },
        ],
      },
      async (instance) =>
        expect(JSON.parse((await instance.get('/')).body)).toEqual([
          42,
          'größe\n',
          [0, 255, 1],
          { a: [1] },
          'cjs',
          'sub of up',
          'late',
          'tëxt',
          { deep: [null, 'x'] },
        ]),
    ))

  // Either side of the dates at which workerd changes its defaults most: streams, Node.js, the module registry.
  const dates = ['2021-11-02', '2022-06-01', '2024-09-23', '2026-08-03', '2026-08-04', '2026-11-17']
  const mains = ['index.js', 'src/index.js', 'my main.js', 'größe.js', "it's.js"]
  test.each(dates)(
    'serves at compatibility date %s, under any name of the main module',
    async (compatibilityDate) => {
      for (const mainModule of mains) {
        const modules = {
          [mainModule]: `import './beside.js'; ${HELLO}`,
          [join(mainModule, '../beside.js')]: '',
        }
        await withRunningGuest({ modules, mainModule, compatibilityDate }, async (instance) => {
          expect((await instance.get('/')).body).toBe('hello')
          expect((await instance.control()).handlers).toEqual(['fetch'])
        })
      }
    },
  )

  const flagSets = ['nodejs_compat', 'nodejs_als', 'nodejs_compat no_nodejs_als', 'no_nodejs_compat_v2']
  test.each(flagSets)('serves with the flags %s', (flags) =>
    withRunningGuest(
      { modules: { 'index.js': HELLO }, compatibilityFlags: flags.split(' ') },
      async (instance) => expect((await instance.get('/')).body).toBe('hello'),
    ),
  )

  test('of 60 MiB in 2,000 modules is encoded in one pass and starts', async () => {
    const modules: Record<string, string | Uint8Array> = {
      'index.js': `import data from './part-1999.bin'; export default { fetch() { return new Response(String(data.byteLength)) } }`,
    }
    for (let index = 0; index < 2_000; index += 1)
      modules[`part-${index}.bin`] = new Uint8Array(30 * 1024 + (index % 7))
    const kinds = Object.fromEntries(
      Object.keys(modules)
        .filter((name) => name.endsWith('.bin'))
        .map((name) => [name, 'data' as const]),
    )
    await withRunningGuest({ modules, kinds }, async (instance) =>
      expect((await instance.get('/')).body).toBe(String(30 * 1024 + (1999 % 7))),
    )
  })

  test('is refused where a module has a name of ours, the main module is missing, or a body is not given', () => {
    const encode = (modules: Record<string, string>, mainModule = 'index.js') => {
      const given = guestVersion({ modules, mainModule })
      return () => encodeConfig({ ...given, socketDirectory: '/sockets' })
    }
    expect(encode({ 'index.js': HELLO, '__isola_entry.js': '' })).toThrow(
      expect.objectContaining({
        code: 'version_refused',
        message: expect.stringContaining('module "__isola_entry.js"') as unknown,
      }),
    )
    expect(encode({ 'other.js': HELLO })).toThrow(
      expect.objectContaining({
        code: 'version_refused',
        message: expect.stringContaining('"index.js" is not among') as unknown,
      }),
    )
    const { version } = guestVersion({ modules: { 'index.js': HELLO } })
    expect(() => encodeConfig({ version, modules: new Map(), socketDirectory: '/sockets' })).toThrow(
      expect.objectContaining({ code: 'blob_missing' }),
    )
  })
})

describe('a version that workerd does not start', () => {
  const cases = [
    [
      'a syntax error',
      { 'index.js': 'export default {\n  fetch( { }' },
      {},
      /^SyntaxError: .*\n +at index\.js:2:\d+/,
    ],
    [
      'a module that is not there',
      { 'index.js': `import './nope.js'; ${HELLO}` },
      {},
      /No such module "(file:\/\/\/bundle\/)?nope\.js"[^]*index\.js/,
    ],
    [
      'a throw at load',
      { 'index.js': `function deep() {\n  throw new TypeError('boom')\n}\ndeep()\n${HELLO}` },
      {},
      /^TypeError: boom\n +at index\.js:2:9 in deep\n +at index\.js:4:1$/,
    ],
    [
      'a date of the far future',
      { 'index.js': HELLO },
      { compatibilityDate: '2999-01-01' },
      /^compatibility date 2999-01-01 is newer than this node knows \(\d{4}-\d\d-\d\d\): set an earlier compatibility_date$/,
    ],
    [
      'a date that is none',
      { 'index.js': HELLO },
      { compatibilityDate: '2026-13-01' },
      /^Invalid compatibility date: 2026-13-01$/,
    ],
    [
      'an unknown flag',
      { 'index.js': HELLO },
      { compatibilityFlags: ['nonsense'] },
      /^no such compatibility flag: nonsense: remove it/,
    ],
    [
      'an experimental flag',
      { 'index.js': HELLO },
      { compatibilityFlags: ['experimental'] },
      /^compatibility flag experimental is experimental, which/,
    ],
    [
      'memory without end',
      { 'index.js': `const all = []; for (;;) all.push(new Array(1000).fill(0.5)); ${HELLO}` },
      {},
      /out of memory/,
    ],
  ] as const
  test.each(cases)('for %s says so with its place', (_, modules, more, words) =>
    withGuest({ modules, ...more }, async ({ instance, lastErrors, exitCode }) => {
      expect(instance).toBeUndefined()
      expect(exitCode).not.toBe(0)
      const message = describeStartFailure(lastErrors)
      expect(message).toMatch(words)
      expect(message).not.toContain('__isola')
    }),
  )
})

describe('what a function sends out', () => {
  const SENDING = `import { connect } from 'cloudflare:sockets'
    export default { async fetch(request) {
      const path = new URL(request.url).pathname
      try {
        if (path === '/https') return await fetch('https://api.example:8443/a?b', { method: 'POST', body: 'sent', headers: { 'x-mine': '1' } })
        if (path === '/websocket') {
          const { webSocket, status } = await fetch('https://api.example/ws', { headers: { upgrade: 'websocket' } })
          return new Response(String(status) + (webSocket === null))
        }
        if (path === '/tcp') {
          const socket = connect('db.example:5432'); await socket.opened
          return new Response('open')
        }
      } catch (error) { return new Response('failed: ' + error.message) }
    } }`

  /** Answers the first head of each connection; gives all heads. */
  async function answerEgress(instance: GuestInstance, answer: string): Promise<string[]> {
    const heads: string[] = []
    await instance.listenEgress((socket: Socket) => {
      socket.on('error', () => undefined)
      let head = ''
      socket.on('data', (chunk: Buffer) => {
        head += chunk.toString()
        if (!head.includes('\r\n\r\n') || heads.includes(head)) return
        heads.push(head)
        socket.end(answer)
      })
    })
    return heads
  }

  test('over https goes to the egress socket as a plain proxy request with the whole URL', () =>
    withRunningGuest(SENDING, async (instance) => {
      const heads = await answerEgress(
        instance,
        'HTTP/1.1 201 Created\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok',
      )
      const answer = await instance.get('/https')
      expect([answer.status, answer.body]).toEqual([201, 'ok'])
      expect(heads[0]).toMatch(/^POST https:\/\/api\.example:8443\/a\?b HTTP\/1\.1\r\n/)
      expect(heads[0]!.toLowerCase()).toContain('x-mine: 1')
    }))

  test('as a WebSocket goes there too, as an upgrade', () =>
    withRunningGuest(SENDING, async (instance) => {
      const heads = await answerEgress(
        instance,
        'HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n',
      )
      expect((await instance.get('/websocket')).body).toBe('403true')
      expect(heads[0]).toMatch(/^GET https?:\/\/api\.example\/ws HTTP\/1\.1\r\n/)
      expect(heads[0]!.toLowerCase()).toContain('upgrade: websocket')
    }))

  test('over TCP asks there with CONNECT, and a refusal is an error of the function', () =>
    withRunningGuest(SENDING, async (instance) => {
      const heads = await answerEgress(
        instance,
        'HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n',
      )
      expect((await instance.get('/tcp')).body).toMatch(/^failed: /)
      expect(heads[0]).toMatch(/^CONNECT db\.example:5432 HTTP\/1\.1\r\n/)
    }))

  test('fails where nobody listens on the egress socket', () =>
    withRunningGuest(SENDING, async (instance) =>
      expect((await instance.get('/https')).body).toMatch(/^failed: /),
    ))
})

describe('memory', () => {
  const privateMib = ({ pid }: GuestInstance): number =>
    Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024

  test('stays flat over 30,000 requests, and the function sees no means to collect garbage', () =>
    withRunningGuest(
      `export default { fetch() { return new Response(typeof globalThis.gc + ('gc' in globalThis)) } }`,
      async (instance) => {
        expect((await instance.get('/')).body).toBe('undefinedfalse')
        const load = async (): Promise<void> => {
          for (let count = 0; count < 1_500; count += 1) await instance.get('/')
        }
        await Promise.all(Array.from({ length: 20 }, load))
        // Stock workerd is past 100 MiB by then.
        expect(privateMib(instance)).toBeLessThan(60)
      },
    ))
})

describe('the binary', () => {
  test('is that of the machine, and another machine is refused with the way out', () => {
    expect(workerdBinaryPath()).toMatch(/workerd-linux-(64|arm64)\/bin\/workerd$/)
    expect(() => workerdBinaryPath('riscv64')).toThrow(
      expect.objectContaining({
        code: 'unsupported_machine',
        message: 'there is no workerd for linux on riscv64: run isola on Linux, x64 or arm64',
      }),
    )
    const missing = process.arch === 'x64' ? 'arm64' : 'x64'
    expect(() => workerdBinaryPath(missing)).toThrow(
      expect.objectContaining({
        code: 'unsupported_machine',
        message: expect.stringContaining('run "npm ci"') as unknown,
      }),
    )
  })

  test('waits for its configuration on stdin and says on the control descriptor that it listens', () => {
    expect(blankArguments({ controlFd: 5 })).toEqual(['serve', '--binary', '--control-fd=5', '-'])
    expect(Object.values(INSTANCE_SOCKETS)).toEqual(['http.sock', 'control.sock', 'rpc.sock', 'egress.sock'])
  })
})
