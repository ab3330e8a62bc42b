import { describe, expect, test } from 'vitest'
import { redactHeader, redactUrl } from '../../runtime/node/tail/redact.ts'
import { readTracedRequest, requestEvent } from '../../runtime/node/tail/traced-request.ts'
import { passes } from '../../runtime/node/tail/tail-filter.ts'
import { exceptionOf, outcomeOf } from '../../runtime/node/tail/trace-outcome.ts'
import { noticeEvent, type TraceEvent } from '../../runtime/node/tail/trace-event.ts'
import type { TailFilter } from '../../wrangler-compat/api/ports.ts'

const HEAD = [
  'POST /path?token=0123456789abcdef0123456789ABCDEF&q=plain HTTP/1.1',
  'host: shop.example:8080',
  'Cookie: session=1',
  'X-Api-Key: geheim',
  'x-tag: one',
  'x-tag: two',
  'cf-connecting-ip: 203.0.113.7',
  'isola-proto: https',
  'isola-depth: 2',
  '',
].join('\r\n')

describe('the request of a trace event', () => {
  test('shows URL, method and headers as the function got them, but no secrets', () => {
    expect(requestEvent(readTracedRequest(HEAD), 201)).toEqual({
      request: {
        url: 'https://shop.example:8080/path?token=REDACTED&q=plain',
        method: 'POST',
        headers: {
          host: 'shop.example:8080',
          cookie: 'REDACTED',
          'x-api-key': 'REDACTED',
          'x-tag': 'one, two',
          'cf-connecting-ip': '203.0.113.7',
        },
        cf: {},
      },
      response: { status: 201 },
    })
  })

  test.each([
    ['https://a.b/user/3f2504e0-4f89-41d3-9a0c-0305e82c3301/x', 'https://a.b/user/REDACTED/x'],
    ['https://a.b/?sig=aB3dE5gH7jK9mN1pQ3sT5v', 'https://a.b/?sig=REDACTED'],
    [
      'https://a.b/a-very-long-but-readable-article-title',
      'https://a.b/a-very-long-but-readable-article-title',
    ],
    ['https://a.b/1234567890', 'https://a.b/1234567890'],
  ])('of %s has the URL %s', (url, shown) => {
    expect(redactUrl(url)).toBe(shown)
  })

  test.each([
    ['authorization', true],
    ['x-secret-thing', true],
    ['x-jwt', true],
    ['cookie', true],
    ['accept', false],
    ['x-cookies-taken', false],
  ])('hides the value of the header %s: %s', (name, hidden) => {
    expect(redactHeader(name, 'value') === 'REDACTED').toBe(hidden)
  })
})

describe('outcomes', () => {
  test.each([
    [{}, 0, 'ok'],
    [{}, 1, 'exception'],
    [{ error: 'function_threw' }, 0, 'exception'],
    [{ error: 'cpu_limit_exceeded' }, 0, 'exceededCpu'],
    [{ error: 'memory_limit_exceeded' }, 0, 'exceededMemory'],
    [{ error: 'instance_crashed' }, 0, 'unknown'],
    [{ error: 'made_up' }, 0, 'unknown'],
    [{ clientAborted: true, error: 'function_threw' }, 1, 'canceled'],
  ] as const)('of %j with %d exceptions is %s', (ending, exceptions, outcome) => {
    expect(outcomeOf({ clientAborted: undefined, error: undefined, ...ending }, exceptions)).toBe(outcome)
  })

  test.each([
    ['TypeError: x is not a function', 'TypeError', 'x is not a function'],
    ['just a text', 'Error', 'just a text'],
    ['http://a: b', 'Error', 'http://a: b'],
  ])('an exception that says %s is a %s', (message, name, text) => {
    const line = { time: '2026-11-21T10:00:00.000Z', message } as Parameters<typeof exceptionOf>[0]
    expect(exceptionOf(line)).toEqual({ name, message: text, timestamp: Date.UTC(2026, 10, 21, 10) })
  })
})

describe('a filter', () => {
  const base: TraceEvent = {
    ...noticeEvent('shop', { type: 'overload', message: '' }),
    logs: [{ level: 'log', message: ['hello', { deep: 'needle' }], timestamp: 0 }],
    exceptions: [{ name: 'Error', message: 'sad', timestamp: 0 }],
    outcome: 'exception',
  }
  const traced = { event: base, versionId: 'v1', request: readTracedRequest(HEAD) }
  const told = (filter: TailFilter, clientIp = '::ffff:203.0.113.7', random = 0.5): boolean =>
    passes(filter, traced, { clientIp, random: () => random })

  test.each<[TailFilter, boolean]>([
    [{}, true],
    [{ outcomes: ['ok', 'exception'] }, true],
    [{ outcomes: ['ok'] }, false],
    [{ methods: ['GET', 'POST'] }, true],
    [{ methods: ['GET'] }, false],
    [{ headers: [{ name: 'x-tag' }] }, true],
    [{ headers: [{ name: 'x-api-key', text: 'geheim' }] }, true],
    [{ headers: [{ name: 'x-tag', text: 'three' }] }, false],
    [{ headers: [{ name: 'x-tag' }, { name: 'absent' }] }, false],
    [{ headers: [{ name: 'isola-depth' }] }, false],
    [{ clientIps: ['203.0.113.7'] }, true],
    [{ clientIps: ['198.51.100.1', 'self'] }, true],
    [{ clientIps: ['198.51.100.1'] }, false],
    [{ text: 'needle' }, true],
    [{ text: 'sad' }, true],
    [{ text: 'absent' }, false],
    [{ versionId: 'v1' }, true],
    [{ versionId: 'v2' }, false],
    [{ samplingRate: 0.6 }, true],
    [{ samplingRate: 0.4 }, false],
    [{ outcomes: ['exception'], methods: ['GET'] }, false],
  ])('%j tells of it: %s', (filter, expected) => {
    expect(told(filter)).toBe(expected)
  })

  test('"self" is who watches, by either loopback address', () => {
    const local = {
      ...traced,
      request: readTracedRequest('GET / HTTP/1.1\r\ncf-connecting-ip: 127.0.0.1\r\n'),
    }
    const from = (clientIp: string): boolean =>
      passes({ clientIps: ['self'] }, local, { clientIp, random: () => 0 })
    expect([from('::1'), from('127.0.0.1'), from('::ffff:127.0.0.1'), from('192.0.2.1')]).toEqual([
      true,
      true,
      true,
      false,
    ])
  })

  test('that asks for something of a request holds of no event without one', () => {
    const alone = { ...traced, request: undefined }
    const watcher = { clientIp: '', random: () => 0 }
    for (const filter of [{ methods: ['POST'] }, { headers: [{ name: 'x-tag' }] }, { clientIps: ['self'] }])
      expect(passes(filter, alone, watcher)).toBe(false)
    expect(passes({ outcomes: ['exception'] }, alone, watcher)).toBe(true)
  })
})
