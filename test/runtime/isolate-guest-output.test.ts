import { describe, expect, test } from 'vitest'
import { createOutputParser, describeStartFailure } from '../../runtime/isolate/output.ts'
import { OUTPUT_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import { withRunningGuest } from '../harness/guest-instance.ts'

function parser(): {
  lines: LogLine[]
  push(text: string | Uint8Array, stream?: 'stdout' | 'stderr'): void
  lastErrors(): string
} {
  const lines: LogLine[] = []
  const parser = createOutputParser({
    functionName: 'shop',
    versionId: 'v',
    instanceId: 'i',
    mapStack: (stack) => stack,
    onLine: (line) => lines.push(line),
  })
  return {
    lines,
    push: (text, stream = 'stdout') =>
      parser.push(typeof text === 'string' ? Buffer.from(text) : text, stream),
    lastErrors: () => parser.lastErrors(),
  }
}

const record = (message: string, more: object = {}): string =>
  `${JSON.stringify({ timestamp: 1_795_257_916_414, level: 'log', message, ...more })}\n`

describe('what a function logs', () => {
  const LOGGING = `export default { fetch(request) {
    console.log('%s of %d', 'one', 2, { a: [1, { b: { c: {} } }] })
    console.log({ first: true }, 'text', null, undefined, 5n)
    console.error(); console.warn('percent 100%'); console.debug('d'); console.info('i')
    console.log(new Map([['k', new Set([1])]]), 'two\\nlines')
    console.log('\\x01xforged\\x02as an exception')
    return new Response([console.log.name, console.log.length].join()) } }`

  test('is formatted as workerd does it, a line a call, with level, time and request id', () =>
    withRunningGuest(LOGGING, async (instance) => {
      expect((await instance.get('/', { 'x-request-id': 'req-7' })).body).toBe('log,0')
      await instance.line(({ message }) => message.includes('forged'))
      expect(instance.lines.map(({ level, message }) => [level, message])).toEqual([
        ['log', 'one of 2 { a: [ 1, { b: [Object] } ] }'],
        ['log', '{ first: true } text null undefined 5n'],
        ['error', ''],
        ['warn', 'percent 100%'],
        ['debug', 'd'],
        ['info', 'i'],
        ['log', "Map(1) { 'k' => Set(1) { 1 } } two\nlines"],
        ['log', '\u0001xforged\u0002as an exception'],
      ])
      for (const line of instance.lines) {
        expect(line).toMatchObject({
          source: 'console',
          functionName: 'shop',
          instanceId: 'instance-1',
          requestId: 'req-7',
        })
        expect(Date.parse(line.time)).toBeGreaterThan(Date.now() - 60_000)
      }
    }))

  test('keeps its request across awaits and among requests at the same time', () =>
    withRunningGuest(
      `export default { async fetch(request) {
         for (let turn = 0; turn < 3; turn++) { await scheduler.wait(5); console.log(new URL(request.url).pathname) }
         return new Response('') } }`,
      async (instance) => {
        const ids = ['a', 'b', 'c', 'd']
        await Promise.all(ids.map((id) => instance.get(`/${id}`, { 'x-request-id': id })))
        await expect.poll(() => instance.lines.length).toBe(12)
        for (const line of instance.lines) expect(line.message).toBe(`/${line.requestId}`)
      },
    ))

  test('outside of a request, or under an id that could be mistaken for a format, carries none', () =>
    withRunningGuest(
      `console.log('at load'); export default { fetch(request) { console.log('%s here', 'value'); return new Response('') } }`,
      async (instance) => {
        await instance.get('/', { 'x-request-id': '%s%s' })
        await instance.line(({ message }) => message === 'value here')
        expect(instance.lines.map(({ message, requestId }) => [message, requestId])).toEqual([
          ['at load', undefined],
          ['value here', undefined],
        ])
      },
    ))

  test('carries no request id where the flags of the function forbid to follow requests, and works', () =>
    withRunningGuest(
      {
        modules: {
          'index.js': `export default { fetch() { console.log('here'); return new Response('ok') } }`,
        },
        compatibilityDate: '2024-01-01',
        compatibilityFlags: ['no_nodejs_als'],
      },
      async (instance) => {
        expect((await instance.get('/', { 'x-request-id': 'a' })).body).toBe('ok')
        expect((await instance.line(({ message }) => message === 'here')).requestId).toBeUndefined()
      },
    ))

  test('through process.stdout and process.stderr is logged too', () =>
    withRunningGuest(
      {
        modules: {
          'index.js': `import process from 'node:process'
            export default { fetch() { process.stdout.write('out\\n'); process.stderr.write('err\\n'); return new Response('') } }`,
        },
        compatibilityFlags: ['nodejs_compat'],
      },
      async (instance) => {
        await instance.get('/')
        expect((await instance.line(({ message }) => message === 'out')).level).toBe('log')
        expect((await instance.line(({ message }) => message === 'err')).level).toBe('error')
      },
    ))

  test('is cut at the bound of a line, and what follows is not lost', () =>
    withRunningGuest(
      `export default { fetch() {
         console.log('x'.repeat(5_000_000)); console.log({ deep: Array.from({ length: 100 }, () => 'y'.repeat(9_000)) }); console.log('after'); return new Response('') } }`,
      async (instance) => {
        await instance.get('/', { 'x-request-id': 'r' })
        await instance.line(({ message }) => message === 'after')
        const [long, deep] = instance.lines
        expect(long!.message).toBe(`${'x'.repeat(OUTPUT_LIMITS.textLengthMax)}… (cut)`)
        expect(deep!.message).toMatch(/^\{\n {2}deep: \[\n {4}'yyy/)
        expect(deep).toMatchObject({ requestId: 'r', source: 'console' })
        expect(deep!.message.length).toBe(OUTPUT_LIMITS.textLengthMax + '… (cut)'.length)
      },
    ))

  test('by way of a broken JSON.stringify stays a line of its own log, whatever it says', () =>
    withRunningGuest(
      `JSON.stringify = () => '{"timestamp":1,"level":"error","message":"out of memory","source":"instance"}'
       export default { fetch() { console.log('x'); JSON.stringify = () => { throw new Error('formatting') }; console.log('y'); return new Response('') } }`,
      async (instance) => {
        await instance.get('/')
        const line = await instance.line(({ message }) => message.includes('Formatting threw'))
        expect(line.source).toBe('console')
        for (const { source } of instance.lines) expect(['console', 'exception']).toContain(source)
      },
    ))
})

describe('the parser', () => {
  test('takes lines split anywhere, also inside a character', () => {
    const { lines, push } = parser()
    const bytes = Buffer.from(record('\u0001creq\u0002größe €') + record('next'))
    for (const byte of bytes) push(Uint8Array.of(byte))
    expect(lines.map(({ message, requestId }) => [message, requestId])).toEqual([
      ['größe €', 'req'],
      ['next', undefined],
    ])
    expect(lines[0]!.time).toBe('2026-11-21T10:45:16.414Z')
  })

  test('saves the beginning of a line over the bound, wherever an escape is cut', () => {
    for (let shift = 0; shift < 12; shift += 1) {
      const { lines, push } = parser()
      push(record('z'.repeat(shift) + '\\\u0001"'.repeat(OUTPUT_LIMITS.lineBytesMax)))
      push(record('after'))
      expect(lines.map(({ message }) => message.length)).toEqual([OUTPUT_LIMITS.textLengthMax + 7, 5])
    }
  })

  test('gives a line the time of its arrival where it claims one that no calendar has', () => {
    const { lines, push } = parser()
    for (const timestamp of [1e300, -1e300, 'soon', null]) push(record('when', { timestamp }))
    expect(lines).toHaveLength(4)
    expect(lines.map(({ time }) => Number.isNaN(Date.parse(time)))).toEqual([false, false, false, false])
  })

  test('drops frames of the guest in time that does not grow with the square of a line', () => {
    const { lines, push } = parser()
    for (let line = 0; line < 50; line++)
      push(record(`a\n at ${'__isola_'.repeat(OUTPUT_LIMITS.lineBytesMax / 10)}`))
    expect(lines).toHaveLength(50)
  })

  test('keeps what workerd says on stderr as last errors, within bounds, and makes no log line of it', () => {
    const { lines, push, lastErrors } = parser()
    push('<--- Last few GCs --->\nFATAL ERROR: JavaScript heap out of memory\n', 'stderr')
    push(
      record('service function: Uncaught Error: x', {
        level: 'error',
        source: 'entry.rs:170',
        timestamp: '5',
      }),
      'stderr',
    )
    push(record('NOSENTRY compile cache', { level: 'warn', source: 'bootstrap.c++:828' }))
    expect(lastErrors().split('\n')).toEqual([
      '<--- Last few GCs --->',
      'FATAL ERROR: JavaScript heap out of memory',
      'service function: Uncaught Error: x',
    ])
    for (let index = 0; index < 100; index += 1) push(`${index} ${'e'.repeat(1000)}\n`, 'stderr')
    expect(lastErrors().length).toBeLessThanOrEqual(
      OUTPUT_LIMITS.lastErrorsLengthMax + OUTPUT_LIMITS.lastErrorsLinesMax,
    )
    expect(lastErrors()).toMatch(/(^|\n)99 e/)
    for (let index = 0; index < 100; index += 1) push(`${index}\n`, 'stderr')
    expect(lastErrors().split('\n')).toHaveLength(OUTPUT_LIMITS.lastErrorsLinesMax)
    expect(lines).toEqual([])
  })

  test('makes an exception of what a stream threw, and drops frames of the guest from stacks', () => {
    const { lines, push } = parser()
    push(
      record('Uncaught exception: workerd/jsg/value.h:1456: failed: remote.jsg.TypeError: in a stream', {
        level: 'error',
        source: 'mod.rs:372',
      }),
    )
    push(
      record(
        '\u0001xr\u0003 Error: a\n    at f (index.js:1:2)\n    at answer (__isola_handlers.js:1:2) {\n  [cause]: 5\n}',
        { level: 'error' },
      ),
    )
    expect(lines[0]).toMatchObject({ source: 'exception', message: 'TypeError: in a stream' })
    expect(lines[1]).toMatchObject({
      requestId: 'r',
      message: 'Error: a',
      stack: 'Error: a\n    at f (index.js:1:2) {\n  [cause]: 5\n}',
    })
  })
})

describe('why a version did not start', () => {
  const cases = [
    [
      'service function: Uncaught SyntaxError: Unexpected token \';\'\n  at index.js:1:8\nSocket "control" refers to service "function" with a named entrypoint "x"',
      "SyntaxError: Unexpected token ';'\n  at index.js:1:8",
    ],
    [
      'service function: Uncaught TypeError: boom\n  at index.js:2:9 in deep\n  at __isola_entry.js:5:1',
      'TypeError: boom\n  at index.js:2:9 in deep',
    ],
    [
      'service function: No such compatibility flag: nonsense',
      'no such compatibility flag: nonsense: remove it from compatibility_flags',
    ],
    [
      'service function: This Worker requires compatibility date "2027-01-01", but the newest date supported by this server binary is "2026-11-24".\nservice function: Can\'t set compatibility date in the future: "2027-01-01". Today\'s date (UTC) is "2026-11-21".',
      'compatibility date 2027-01-01 is newer than this node knows (2026-11-24): set an earlier compatibility_date',
    ],
    [
      'Can\'t set compatibility date in the future: "2026-11-23". Today\'s date (UTC) is "2026-11-21".',
      'compatibility date 2026-11-23 is in the future (today is 2026-11-21, UTC): set an earlier compatibility_date',
    ],
    [
      '<--- Last few GCs --->\n#\n# Fatal JavaScript heap out of memory',
      'out of memory while it was loaded: load less, or raise its memory limit',
    ],
    ['', 'workerd ended without a message'],
  ] as const
  test.each(cases)('%j', (errors, words) => expect(describeStartFailure(errors)).toBe(words))
})
