import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { IsolaError } from '../../sdk/model/errors.ts'
import { TAIL_LIMITS } from '../../sdk/model/limits.ts'
import type { TailFilter, TailPort, WranglerApiPorts } from '../../wrangler-compat/api/ports.ts'
import {
  openWranglerPlace,
  SCRIPTS,
  uploadForm,
  WORKERS,
  type Answer,
  type WranglerPlace,
} from '../harness/wrangler-place.ts'

const EXPIRES = '2026-11-21T16:00:00.000Z'
let place: WranglerPlace
let opened: { functionName: string; filter: TailFilter }[]
let closed: string[]
beforeEach(async () => {
  place = await openWranglerPlace()
  opened = []
  closed = []
  setTails({
    open(functionName, filter) {
      opened.push({ functionName, filter })
      return { id: 'tail-1', expiresAt: EXPIRES, path: '/client/v4/tails/unguessable' }
    },
    list: () => [{ id: 'tail-1', expiresAt: EXPIRES }],
    close: (functionName, id) => id === 'tail-1' && closed.push(`${functionName} ${id}`) > 0,
  })
  await place.call('PUT', `${SCRIPTS}/shop`, uploadForm({}))
})
afterEach(() => place.close())

function setTails(tails: TailPort | undefined): void {
  Object.assign(place.wranglerPorts as { tails: WranglerApiPorts['tails'] }, { tails })
}

const open = (filters: unknown, init?: RequestInit): Promise<Answer> =>
  place.call('POST', `${SCRIPTS}/shop/tails`, JSON.stringify({ filters }), init)

describe('beginning a tail', () => {
  test('gives an id, an address where the client already is, and its end', async () => {
    expect((await open([])).result).toEqual({
      id: 'tail-1',
      url: `${place.url.replace('http', 'ws')}/tails/unguessable`,
      expires_at: EXPIRES,
    })
    expect(opened).toEqual([{ functionName: 'shop', filter: {} }])
  })

  test('behind a proxy that speaks TLS gives an address with TLS', async () => {
    const { result } = await open([], { headers: { 'x-forwarded-proto': 'https' } })
    expect(result.url).toMatch(/^wss:\/\//)
  })

  test('takes the filters as wrangler sends them, whatever they are called there', async () => {
    const version = '01234567-89ab-cdef-0123-456789abcdef'
    const { success } = await open([
      { sampling_rate: 0.5 },
      { outcome: ['ok', 'canceled'] },
      { method: ['get', 'POST'] },
      { header: { key: 'X-Tag', query: 'blue' } },
      { header: { key: 'X-Other' } },
      { client_ip: ['self', '192.0.2.1'] },
      { query: 'needle' },
      { scriptVersion: version },
    ])
    expect(success).toBe(true)
    expect(opened[0]?.filter).toEqual({
      samplingRate: 0.5,
      outcomes: ['ok', 'canceled'],
      methods: ['GET', 'POST'],
      headers: [{ name: 'x-tag', text: 'blue' }, { name: 'x-other' }],
      clientIps: ['self', '192.0.2.1'],
      text: 'needle',
      versionId: version.replaceAll('-', ''),
    })
  })

  test('needs no body', async () => {
    expect((await place.call('POST', `${SCRIPTS}/shop/tails`, '')).success).toBe(true)
    expect(
      (await place.call('POST', `${WORKERS}/services/shop/environments/production/tails`, '{}')).success,
    ).toBe(true)
    expect(opened.map(({ filter }) => filter)).toEqual([{}, {}])
  })

  test.each([
    [[{ sampling_rate: 0 }], /filters\.0\.sampling_rate/],
    [[{ sampling_rate: 1.1 }], /filters\.0\.sampling_rate/],
    [[{ colour: 'blue' }], /filters\.0.*colour/],
    [[{ header: { query: 'x' } }], /filters\.0\.header\.key/],
    [[{ outcome: [] }], /filters\.0\.outcome/],
    [[{ query: 'x'.repeat(TAIL_LIMITS.filterTextCharsMax + 1) }], /filters\.0\.query/],
    [Array.from({ length: TAIL_LIMITS.filtersMax + 1 }, () => ({})), /filters/],
    ['all', /filters/],
  ])('with the filters %j is refused, by the name of what is wrong', async (filters, message) => {
    const { status, errors } = await open(filters)
    expect([status, errors[0]?.code]).toEqual([400, 10001])
    expect(errors[0]?.message).toMatch(message)
    expect(opened).toEqual([])
  })

  test('of a version that cannot be, of no script, or with a body that is no JSON is refused', async () => {
    expect((await open([{ scriptVersion: 'newest' }])).errors[0]?.code).toBe(100146)
    expect((await place.call('POST', `${SCRIPTS}/absent/tails`, '{}')).errors[0]?.code).toBe(10007)
    expect((await place.call('POST', `${SCRIPTS}/shop/tails`, '{')).status).toBe(400)
    expect(opened).toEqual([])
  })

  test('beyond what may be open is refused with what to do', async () => {
    setTails({
      open: () => {
        throw new IsolaError('conflict', 'End another first')
      },
      list: () => [],
      close: () => false,
    })
    expect(await open([])).toMatchObject({
      status: 409,
      success: false,
      errors: [{ message: 'End another first' }],
    })
  })

  test('at a node without tails is refused by name', async () => {
    setTails(undefined)
    expect((await open([])).errors[0]?.message).toMatch(/isola logs/)
    expect((await place.call('DELETE', `${SCRIPTS}/shop/tails/tail-1`)).status).toBe(404)
  })
})

describe('tails that are open', () => {
  test('are listed without their addresses', async () => {
    expect((await place.call('GET', `${SCRIPTS}/shop/tails`)).result).toEqual([
      { id: 'tail-1', expires_at: EXPIRES },
    ])
  })

  test('are ended by their id, once', async () => {
    expect(await place.call('DELETE', `${SCRIPTS}/shop/tails/tail-1`)).toMatchObject({ success: true })
    expect(closed).toEqual(['shop tail-1'])
    const { status, errors } = await place.call('DELETE', `${SCRIPTS}/shop/tails/undefined`)
    expect([status, errors[0]?.message]).toEqual([404, expect.stringContaining('"undefined"')])
  })
})

describe('tail consumers', () => {
  const settings = `${SCRIPTS}/shop/script-settings`

  test('are kept and shown, also before they are deployed', async () => {
    const tail_consumers = [{ service: 'later', environment: 'production' }]
    expect((await place.call('PATCH', settings, { tail_consumers })).result.tail_consumers).toEqual(
      tail_consumers,
    )
  })

  test('that stream, are too many, or name no service are refused before anything is changed', async () => {
    const before = place.registry.head.generation
    const many = Array.from({ length: TAIL_LIMITS.consumersPerFunctionMax + 1 }, (_, index) => ({
      service: `s${index}`,
    }))
    for (const patch of [
      { streaming_tail_consumers: [{ service: 'sink' }] },
      { tail_consumers: many },
      { tail_consumers: [{ namespace: 'x' }] },
    ]) {
      expect((await place.call('PATCH', settings, patch)).status).toBe(400)
      expect((await place.call('PUT', `${SCRIPTS}/other`, uploadForm(patch))).status).toBe(400)
    }
    const streaming = await place.call('PATCH', settings, { streaming_tail_consumers: [{ service: 'sink' }] })
    expect(streaming.errors[0]?.message).toMatch(/streaming tail consumers are not there.*"tail_consumers"/)
    expect(place.registry.head.generation).toBe(before)
    expect(Object.keys(place.registry.head.functions)).toEqual(['shop'])
    expect((await place.call('PATCH', settings, { streaming_tail_consumers: [] })).success).toBe(true)
  })
})
