import { createHash, randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ErrorBody } from '../../sdk/model/errors.ts'
import { BUNDLE_LIMITS, CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import {
  bundleOf,
  DEPLOY_OPTIONS,
  openControlPlace,
  TOKEN,
  type ControlPlace,
} from '../harness/control-place.ts'

let place: ControlPlace
beforeEach(async () => {
  place = await openControlPlace()
})
afterEach(() => place.close())

async function errorOf(response: Response): Promise<ErrorBody['error']> {
  const { error } = (await response.json()) as ErrorBody
  expect(response.headers.get('x-request-id')).toBe(error.requestId)
  return error
}
const sha256 = (body: Uint8Array): string => createHash('sha256').update(body).digest('hex')

describe('access', () => {
  test.each([
    ['no token', {}],
    ['another token', { authorization: 'Bearer other' }],
    ['the token without its scheme', { authorization: TOKEN }],
    ['more than the token', { authorization: `Bearer ${TOKEN}x` }],
  ])('%s is refused everywhere, also on paths that are not there', async (_what, headers) => {
    for (const path of [
      '/v1/status',
      '/v1/nothing',
      '/',
      '/metrics',
      '/v1/usage',
      '/v1/functions/a/deploy',
    ]) {
      const response = await fetch(`${place.url}${path}`, { headers: headers as Record<string, string> })
      expect(response.status).toBe(401)
      expect(response.headers.get('www-authenticate')).toBe('Bearer')
      expect((await errorOf(response)).code).toBe('unauthorized')
    }
  })

  test('the right token is let in', async () => {
    expect(await (await place.call('GET', '/v1/status')).json()).toMatchObject({ generation: 0 })
  })
})

describe('paths and methods', () => {
  test('an unknown path is 404', async () => {
    for (const path of ['/', '/v1', '/v2/status', '/v1/functions/a/b/c', '/v1/status/']) {
      const response = await place.call('GET', path)
      expect(response.status).toBe(404)
      expect((await errorOf(response)).message).toContain(path)
    }
  })

  test('a known path with another method is 405 and says which it has', async () => {
    const response = await place.call('PATCH', '/v1/functions/shop/routes')
    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe('PUT, DELETE')
    expect((await errorOf(response)).code).toBe('method_not_allowed')
    expect((await place.call('GET', '/v1/blobs/missing')).status).toBe(405)
  })

  test('a function that is not there is 404 on each of its paths', async () => {
    for (const [method, path, body] of [
      ['GET', '', undefined],
      ['DELETE', '', undefined],
      ['GET', '/versions', undefined],
      ['POST', '/traffic', { shares: [] }],
      ['POST', '/rollback', undefined],
      ['PUT', '/routes', { pattern: 'a.example' }],
      ['DELETE', '/routes', { pattern: 'a.example' }],
      ['GET', '/policy', undefined],
      ['PUT', '/policy', {}],
      ['GET', '/limits', undefined],
      ['PUT', '/limits', {}],
      ['GET', '/logs', undefined],
    ] as const) {
      for (const name of ['shop', 'constructor', '__proto__', '%2e%2e%2fhead', '%']) {
        const response = await place.call(method, `/v1/functions/${name}${path}`, body)
        expect([name, path, response.status]).toEqual([name, path, 404])
        expect((await errorOf(response)).code).toBe('function_not_found')
      }
    }
  })
})

describe('bodies', () => {
  test.each([
    ['{"shares": [}', /not JSON: ValueExpected at line 1, column 13/],
    ['{\n "shares": [', /not JSON: CloseBracketExpected at line 2, column 13/],
    ['', /shares: .*expected array/],
    ['// {}', /not JSON: InvalidCommentToken at line 1, column 1/],
    ['[]', /expected object/],
    ['"text"', /expected object/],
    ['{}', /shares: .*expected array/],
    ['{"shares":[{"versionId":"x","percent":"50"}]}', /shares\.0\.percent: .*expected number/],
    ['{"shares":[],"colour":1}', /Unrecognized key: "colour"/],
    ['{"shares":[],"message":7}', /message: /],
  ])('%s is refused with where it is wrong', async (body, message) => {
    const response = await place.call('POST', '/v1/functions/shop/traffic', body)
    expect(response.status).toBe(400)
    expect(await errorOf(response)).toMatchObject({
      code: 'invalid_argument',
      message: expect.stringMatching(message) as string,
    })
  })

  test.each([
    ['well-formed', ']'],
    ['broken', ''],
  ])(
    'a body nested beyond the bound is refused, %s or not, whatever stands in its strings',
    async (_, close) => {
      const nested = (levels: number): string =>
        `{"message":"[[[\\"[[[","shares":${'['.repeat(levels)}${close.repeat(levels)}}`
      const post = async (body: string): Promise<unknown> =>
        errorOf(await place.call('POST', '/v1/functions/shop/traffic', body))
      const { jsonDepthMax } = CONTROL_LIMITS
      const refusal = {
        code: 'invalid_argument',
        message: expect.stringContaining(`deeper than ${jsonDepthMax}`),
      }
      for (const levels of [jsonDepthMax, 1_000_000])
        expect(await post(nested(levels))).toMatchObject(refusal)
      expect(await post(nested(jsonDepthMax - 1))).not.toMatchObject(refusal)
    },
  )

  test('bytes that are no UTF-8 are refused', async () => {
    const response = await fetch(`${place.url}/v1/functions/shop/traffic`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}` },
      body: new Uint8Array([0x7b, 0xff, 0x7d]),
    })
    expect((await errorOf(response)).message).toMatch(/not JSON/)
  })

  test('many faults are told up to five', async () => {
    const shares = Array.from({ length: 9 }, () => ({}))
    const response = await place.call('POST', '/v1/functions/shop/traffic', { shares })
    const error = await errorOf(response)
    expect(error.message).toMatch(/; and 13 more$/)
    expect(error.details?.['issues']).toHaveLength(18)
  })

  test('a JSON body beyond the bound is 413, whether its length is declared or not', async () => {
    const body = JSON.stringify({ digests: ['x'.repeat(CONTROL_LIMITS.jsonBytesMax)] })
    const declared = await place.call('POST', '/v1/blobs/missing', body)
    expect(declared.status).toBe(413)
    expect((await errorOf(declared)).code).toBe('body_too_large')
    let sent = 0
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += 65_536
        controller.enqueue(new Uint8Array(65_536).fill(32))
      },
    })
    const streamed = await fetch(`${place.url}/v1/blobs/missing`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}` },
      body: endless,
      duplex: 'half',
    })
    expect(streamed.status).toBe(413)
    expect(sent).toBeGreaterThan(CONTROL_LIMITS.jsonBytesMax)
  })

  test('a client that goes away in the middle of its body is no fault of the node', async () => {
    const socket = connect(Number(new URL(place.url).port), '127.0.0.1')
    socket.write(
      `PUT /v1/blobs/${'0'.repeat(64)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${TOKEN}\r\ncontent-length: 100\r\n\r\nhalf`,
    )
    await new Promise<void>((resolve) => socket.once('connect', () => setImmediate(resolve)))
    socket.destroy()
    expect((await place.call('GET', '/v1/status')).status).toBe(200)
    expect(place.faults).toEqual([])
    expect([...place.store.keys()]).toEqual(['head.json'])
  })
})

describe('blobs', () => {
  test('only the missing are asked for, each once', async () => {
    const there = randomBytes(10)
    await place.registry.putBlob(sha256(there), there)
    const absent = sha256(randomBytes(10))
    const response = await place.call('POST', '/v1/blobs/missing', {
      digests: [sha256(there), absent, absent],
    })
    expect(await response.json()).toEqual({ missing: [absent] })
  })

  test('are stored under their digest and no other', async () => {
    const body = randomBytes(100_000)
    const put = (digest: string): Promise<Response> =>
      fetch(`${place.url}/v1/blobs/${digest}`, {
        method: 'PUT',
        headers: { authorization: `Bearer ${TOKEN}` },
        body,
      })
    expect((await put(sha256(body))).status).toBe(204)
    expect((await put(sha256(body))).status).toBe(204)
    expect(Buffer.compare(await place.registry.getBlob(sha256(body)), body)).toBe(0)
    expect((await errorOf(await put('0'.repeat(64)))).code).toBe('digest_mismatch')
    for (const name of ['short', sha256(body).toUpperCase(), '..%2fhead.json']) {
      expect((await errorOf(await put(name))).code).toBe('invalid_argument')
    }
  })

  test('beyond the bound are refused', async () => {
    const response = await fetch(`${place.url}/v1/blobs/${'0'.repeat(64)}`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${TOKEN}` },
      body: new Uint8Array(BUNDLE_LIMITS.modulesBytesMax + 1),
    })
    expect(response.status).toBe(413)
  })

  test('asking for more digests than a version may have modules is refused', async () => {
    const digests = Array.from({ length: BUNDLE_LIMITS.modulesCountMax + 1 }, () => '0'.repeat(64))
    expect((await place.call('POST', '/v1/blobs/missing', { digests })).status).toBe(400)
  })
})

describe('faults', () => {
  test('a fault of the node is reported once and hidden behind its request id', async () => {
    place.node.trialStart = async () => {
      throw new TypeError('secret detail')
    }
    await place.client.deployBundle('shop', bundleOf('one'), DEPLOY_OPTIONS).then(
      () => expect.fail('the deploy must fail'),
      (error: { code: string; message: string; details: { requestId: string } }) => {
        expect(error.code).toBe('internal')
        expect(error.message).not.toContain('secret')
        expect(error.message).toContain(error.details.requestId)
      },
    )
    expect(place.faults).toEqual([new TypeError('secret detail')])
  })

  test('what a client did wrong is not reported', async () => {
    await place.call('POST', '/v1/functions/shop/traffic', '{')
    expect(place.faults).toEqual([])
  })
})

describe('defaults', () => {
  test('a deploy needs only what has no sensible default', async () => {
    const body = new TextEncoder().encode('export default {}')
    await place.registry.putBlob(sha256(body), body)
    const response = await place.call('POST', '/v1/functions/shop/deploy', {
      kind: 'worker',
      mainModule: 'index.js',
      modules: [{ name: 'index.js', kind: 'esm', sha256: sha256(body), sizeBytes: body.byteLength }],
      compatibilityDate: '2026-11-01',
    })
    expect(response.status).toBe(200)
    expect(await place.client.getFunction('shop')).toMatchObject({ baseDomainHost: true, previewHosts: true })
    expect(place.started[0]?.content.limits).toEqual({})
  })
})
