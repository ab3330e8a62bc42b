import { describe, expect, test } from 'vitest'
import type { Binding } from '../../sdk/model/function.ts'
import { withRunningGuest, type GuestSource } from '../harness/guest-instance.ts'

const RATE_LIMIT: Binding = { type: 'rate-limit', name: 'LIMIT', namespaceId: '10 01', limit: 2, periodS: 60 }

/** What a function sees of its bindings, as JSON. */
function showing(
  expression: string,
  bindings: readonly Binding[],
  more: Partial<GuestSource> = {},
): GuestSource {
  const main = `export default { async fetch(request, env) { return Response.json(await (${expression})) } }`
  return { modules: { 'index.js': main }, bindings, ...more }
}

describe('bindings of an instance', () => {
  test('a secret is text in env, opened for its function and name', async () => {
    const asked: unknown[] = []
    const source = showing('env.KEY', [{ type: 'secret', name: 'KEY', sealed: 'closed' }], {
      openSecret(secret) {
        asked.push(secret)
        return 'open sesame'
      },
    })
    await withRunningGuest(source, async (instance) => {
      expect((await instance.get('/')).body).toBe('"open sesame"')
    })
    expect(asked).toEqual([{ functionName: 'shop', name: 'KEY', sealed: 'closed' }])
  })

  test('version metadata has the id as a UUID, the tag and the time it was made', async () => {
    const bindings: Binding[] = [{ type: 'version-metadata', name: 'META' }]
    await withRunningGuest(showing('env.META', bindings, { tag: 'spring' }), async (instance) => {
      expect(JSON.parse((await instance.get('/')).body)).toEqual({
        id: '01234567-89ab-cdef-0123-456789abcdef',
        tag: 'spring',
        timestamp: '2026-11-01T00:00:00.000Z',
      })
    })
    await withRunningGuest(showing('env.META.tag', bindings), async (instance) => {
      expect((await instance.get('/')).body).toBe('""')
    })
  })

  test('a rate limit asks on the way out with its own limit, and says what it was answered', async () => {
    const source = showing(`env.LIMIT.limit({ key: new URL(request.url).searchParams.get('key') })`, [
      RATE_LIMIT,
    ])
    await withRunningGuest(source, async (instance) => {
      const heads: string[] = []
      await instance.listenEgress((socket) => {
        socket.on('data', (chunk) => {
          heads.push(chunk.toString())
          const status = heads.length > 1 ? '429 Too Many Requests' : '204 No Content'
          socket.write(`HTTP/1.1 ${status}\r\n${heads.length > 1 ? 'content-length: 0\r\n' : ''}\r\n`)
        })
      })
      expect((await instance.get(`/?key=${encodeURIComponent('a b/ü?')}`)).body).toBe('{"success":true}')
      expect((await instance.get('/?key=x')).body).toBe('{"success":false}')
      expect(heads[0]).toMatch(/^GET http:\/\/isola\/a%20b%2F%C3%BC%3F HTTP/)
      expect(heads[0]).toMatch(/^isola-rate-limit: 10%2001 2 60\r$/im)
    })
  })

  test('a rate limit that nobody counts is no limit, and one without a usable key is an error', async () => {
    const source = showing(
      `Promise.all([{ key: 'x' }, {}, undefined, { key: 5 }, { key: 'x'.repeat(1025) }].map((options) => env.LIMIT.limit(options).catch(String)))`,
      [RATE_LIMIT],
    )
    await withRunningGuest(source, async (instance) => {
      const [uncounted, ...wrong] = JSON.parse((await instance.get('/')).body)
      expect(uncounted).toEqual({ success: true })
      for (const message of wrong.slice(0, 3)) expect(message).toMatch(/^TypeError: limit\(\) needs a key/)
      expect(wrong[3]).toMatch(/1025 characters, and 1024 are the most/)
    })
  })

  test('a function cannot write the headers that a rate limit and static files ask with, whichever way it sends', async () => {
    const bindings: Binding[] = [
      RATE_LIMIT,
      { type: 'assets', name: 'ASSETS' },
      { type: 'service', name: 'CART', functionName: 'cart' },
    ]
    const ways = `[fetch, (...values) => env.ASSETS.fetch(...values), (...values) => env.CART.fetch(...values)]`
    const headers = `{ 'isola-rate-limit': 'theirs 1 60', 'isola-assets-of': 'another', other: 'kept' }`
    const source = showing(
      `Promise.all(${ways}.map((send) => send('http://elsewhere.example/', { headers: ${headers} }).then(({ status }) => status)))`,
      bindings,
    )
    await withRunningGuest(source, async (instance) => {
      const heads: string[] = []
      await instance.listenEgress((socket) => {
        socket.on('data', (chunk) => {
          heads.push(chunk.toString())
          socket.write('HTTP/1.1 204 No Content\r\n\r\n')
        })
      })
      expect((await instance.get('/')).body).toBe('[204,204,204]')
      expect(heads).toHaveLength(3)
      for (const head of heads) {
        expect(head).toMatch(/^other: kept\r$/im)
        expect(head).not.toMatch(/isola-assets-of: another/i)
        if (!/^isola-service: cart\r$/im.test(head)) expect(head).not.toMatch(/isola-rate-limit/i)
      }
      expect(heads.filter((head) => /isola-rate-limit/i.test(head)).length).toBeLessThan(2)
    })
  })
})
