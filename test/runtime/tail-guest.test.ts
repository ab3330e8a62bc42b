/** What an instance does for tails: values of console lines, and trace events for a tail handler. */
import { request } from 'node:http'
import { describe, expect, test } from 'vitest'
import { withRunningGuest, type GuestInstance } from '../harness/guest-instance.ts'

const LOGGING = `export default { async fetch(request) {
  const loop = {}; loop.self = loop
  console.log('%s of', 1, { deep: [true, null, 'x'] }, undefined, NaN)
  console.warn('one text')
  console.info(Symbol('s'), 5n, new Map(), () => 1, new Date(0), loop)
  console.debug({ get bad() { throw new Error('no') } }, { toJSON() { return undefined } })
  console.log('long', 'y'.repeat(20_000))
  console.error(new RangeError('logged'))
  console.log('\\x01v\\x02["forged"]', 1)
  console.log(new Proxy({}, { getPrototypeOf() { throw new Error('no') } }))
  await scheduler.wait(1)
  console.log('after', 'await')
  return new Response('') } }`

describe('console lines of a request that is tailed', () => {
  test('carry what was logged as values, where the text says less', () =>
    withRunningGuest(LOGGING, async (instance) => {
      await instance.get('/', { 'x-request-id': 'r1', 'isola-tail': 'lines' })
      await instance.line(({ message }) => message === 'after await')
      expect(instance.lines.map(({ values }) => values)).toEqual([
        ['%s of', 1, { deep: [true, null, 'x'] }, null, null],
        undefined,
        [
          'Symbol(s)',
          '5',
          '[object Map]',
          '() => 1',
          expect.stringContaining('1970') as string,
          '[object Object]',
        ],
        ['[object Object]', null],
        undefined,
        [expect.stringMatching(/^RangeError: logged\n +at .*index\.js/) as string],
        ['\u0001v\u0002["forged"]', 1],
        undefined,
        ['after', 'await'],
      ])
      expect(instance.lines.map(({ requestId }) => requestId)).toEqual(Array.from({ length: 9 }, () => 'r1'))
      expect(instance.lines[0]?.message).toBe("1 of { deep: [ true, null, 'x' ] } undefined NaN")
    }))

  test('are the same lines without the values, where nobody tails it or a request cannot be followed', () =>
    withRunningGuest(LOGGING, async (instance) => {
      await instance.get('/', { 'x-request-id': 'r1' })
      await instance.line(({ message }) => message === 'after await')
      expect(instance.lines).toHaveLength(9)
      expect(instance.lines.filter(({ values }) => values !== undefined)).toEqual([])
    }))

  test('of a function that forbids AsyncLocalStorage are lines without values', () =>
    withRunningGuest(
      { modules: { 'index.js': LOGGING }, compatibilityFlags: ['no_nodejs_als'] },
      async (instance) => {
        await instance.get('/', { 'x-request-id': 'r1', 'isola-tail': 'lines' })
        await instance.line(({ message }) => message === 'after await')
        expect(instance.lines.filter(({ values }) => values !== undefined)).toEqual([])
      },
    ))
})

function deliver(
  instance: GuestInstance,
  body: string,
  tail = 'events',
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        socketPath: instance.socketPath,
        method: 'POST',
        headers: { host: 'tail', 'content-length': body.length, 'x-request-id': 'd1', 'isola-tail': tail },
      },
      (answer) => {
        let text = ''
        answer.on('data', (chunk: Buffer) => (text += chunk.toString()))
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }))
      },
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

const EVENTS = JSON.stringify([
  { scriptName: 'shop', event: { request: { url: 'http://x/' } } },
  { scriptName: 'shop', event: null },
])

describe('a tail handler', () => {
  const OBJECT = `export default {
    seen: [],
    tail(events, env, ctx) { ctx.waitUntil(Promise.resolve()); this.seen.push(events.length, events[0].event.request.getUnredacted().url, typeof env) },
    fetch() { return new Response(this.seen.join()) } }`
  const CLASS = `import { WorkerEntrypoint } from 'cloudflare:workers'
    const seen = []
    export default class extends WorkerEntrypoint {
      tail(events) { this.ctx.waitUntil(Promise.resolve()); seen.push(events.length, events[0].event.request.getUnredacted().url, typeof this.env) }
      fetch() { return new Response(seen.join()) } }`

  test.each([
    ['an object', OBJECT],
    ['a class', CLASS],
  ])('of %s is given the events; requests before and after go to fetch', (_, source) =>
    withRunningGuest(source, async (instance) => {
      expect((await instance.get('/')).body).toBe('')
      expect((await deliver(instance, EVENTS)).status).toBe(204)
      expect((await deliver(instance, EVENTS, 'events, lines')).status).toBe(204)
      expect((await instance.get('/')).body).toBe('2,http://x/,object,2,http://x/,object')
    }),
  )

  test('alone is a function, too; a request then says that there is no fetch handler', () =>
    withRunningGuest(
      `export default { tail(events) { console.log('got', events.length) } }`,
      async (instance) => {
        expect((await instance.control()).handlers).toEqual(['tail'])
        expect((await deliver(instance, EVENTS)).status).toBe(204)
        await instance.line(({ message }) => message === 'got 2')
        expect(await instance.get('/')).toMatchObject({
          status: 500,
          headers: { 'isola-error': 'function_threw' },
        })
        expect((await instance.line(({ source }) => source === 'exception')).message).toMatch(
          /no fetch handler/,
        )
      },
    ))

  test.each([
    ['that throws', `{ async tail() { throw new Error('no thanks') } }`, EVENTS, /no thanks/],
    ['that is given no JSON', `{ tail() {} }`, '[', /JSON/],
    ['that is not there', `{ fetch() { return new Response('') } }`, EVENTS, /no tail handler/],
  ])('%s fails as a request does', (_, source, body, message) =>
    withRunningGuest(`export default ${source}`, async (instance) => {
      expect((await deliver(instance, body)).status).toBe(500)
      expect((await instance.line(({ source }) => source === 'exception')).message).toMatch(message)
    }),
  )
})
