import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ERRORS, IsolaError, isIsolaError, type ErrorCode } from '../../sdk/model/errors.ts'
import { parseFunctionName, previewLabel } from '../../sdk/model/function.ts'
import {
  DEFAULT_FUNCTION_LIMITS,
  FUNCTION_LIMIT_BOUNDS,
  mergeFunctionLimits,
  parseCeilingPatch,
  parseFunctionLimitsPatch,
} from '../../sdk/model/function-limits.ts'
import {
  DEFAULT_POLICY,
  mergePolicy,
  parsePolicy,
  parsePolicyPatch,
  POLICY_BOUNDS,
} from '../../sdk/model/policy.ts'
import { formatRoutePattern, parseOrigin, parseRoutePattern } from '../../sdk/model/route.ts'
import { refused } from '../harness/control-place.ts'

const bad = (message: RegExp): Error => refused('invalid_argument', message)

describe('route patterns', () => {
  test.each([
    [
      'shop.example',
      'shop.example/*',
      { host: 'shop.example', wildcardHost: false, path: '/', prefixPath: true },
    ],
    ['Shop.EXAMPLE/Api/*', 'shop.example/Api/*', { path: '/Api/', prefixPath: true }],
    [
      '*.shop.example/x',
      '*.shop.example/x',
      { host: 'shop.example', wildcardHost: true, path: '/x', prefixPath: false },
    ],
    ['localhost/', 'localhost/', { path: '/', prefixPath: false }],
    ['a/b*', 'a/b*', { path: '/b', prefixPath: true }],
    ['_dmarc.a_b.example/*', '_dmarc.a_b.example/*', {}],
    ['127.0.0.1/*', '127.0.0.1/*', {}],
  ])('%s is read as %s', (text, spelling, parts) => {
    const pattern = parseRoutePattern(text)
    expect(pattern).toMatchObject(parts)
    expect(formatRoutePattern(pattern)).toBe(spelling)
  })

  test.each([
    ['', /no usable host/],
    ['/path', /no usable host/],
    ['*', /not a host name/],
    ['*.', /no usable host/],
    ['http://a.example/', /has a scheme/],
    ['a.example:8080/*', /has a port/],
    ['a.*.example/*', /not a host name/],
    ['*a.example/*', /not a host name/],
    ['a..example', /not a host name/],
    ['-a.example', /not a host name/],
    ['a.example/*/b', /"\*" inside its path/],
    ['a.example/**', /"\*" inside its path/],
    ['a.example/?q=1', /query/],
    ['a.example/a b', /space/],
    ['bücher.example', /not a host name/],
    [`${'a'.repeat(64)}.example`, /not a host name/],
    [`${'a.'.repeat(127)}example`, /no usable host/],
    [`a.example/${'x'.repeat(1_024)}`, /longer than 1024/],
  ])('%j is refused with what is wrong', (text, message) => {
    expect(() => parseRoutePattern(text)).toThrow(bad(message))
  })

  test('the spelling of a pattern reads back as the same pattern', () => {
    const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?$/)
    const path = fc.stringMatching(/^(\/[A-Za-z0-9._~%-]{0,5}){1,3}\*?$/)
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.array(label, { minLength: 1, maxLength: 4 }),
        fc.option(path),
        (wild, labels, path) => {
          const pattern = parseRoutePattern(`${wild ? '*.' : ''}${labels.join('.')}${path ?? ''}`)
          expect(parseRoutePattern(formatRoutePattern(pattern))).toEqual(pattern)
        },
      ),
    )
  })
})

describe('origins', () => {
  test.each([
    ['http://10.0.0.1:8080', 'http://10.0.0.1:8080'],
    ['https://Origin.Example:443/', 'https://origin.example'],
    ['http://[::1]:80', 'http://[::1]'],
  ])('%s is read as %s', (text, origin) => {
    expect(parseOrigin(text)).toBe(origin)
  })

  test.each([
    '',
    'origin.example',
    'ftp://a.example',
    'file:///etc/passwd',
    'http://a.example/path',
    'http://a.example/?q',
    'http://a.example/#x',
    'http://user@a.example',
    'http://:secret@a.example',
    'http://a.example:99999',
  ])('%j is refused', (text) => {
    expect(() => parseOrigin(text)).toThrow(bad(/origin .* is not usable/))
  })
})

describe('policies', () => {
  test('take their other fields from the base', () => {
    expect(parsePolicy({})).toEqual(DEFAULT_POLICY)
    const base = parsePolicy({ min: 2, max: 4 })
    expect(parsePolicy({ queue: 0 }, base)).toEqual({ ...DEFAULT_POLICY, min: 2, max: 4, queue: 0 })
  })

  test.each([
    [{ min: -1 }, /min is -1: give a whole number from 0 to 1000/],
    [{ concurrency: 0 }, /concurrency is 0/],
    [{ idleMs: 1.5 }, /idleMs is 1.5/],
    [{ queueTimeoutMs: '10' }, /queueTimeoutMs is "10"/],
    [{ ratePerS: Number.POSITIVE_INFINITY }, /ratePerS is null: give a number from 0/],
    [{ burst: 0.5 }, /burst is 0.5: give a whole number/],
    [{ min: 'x'.repeat(5_000) }, /min is "x{99}…: give/],
    [{ max: Number.NaN }, /max is null/],
    [{ size: 1 }, /no field "size": the fields are min, max/],
    [{ constructor: 1 }, /no field "constructor"/],
    [{ min: 3, max: 2 }, /min 3 is above max 2/],
  ])('%j is refused', (patch, message) => {
    expect(() => parsePolicy(patch)).toThrow(bad(message))
  })

  test('a minimum without a maximum is fine: 0 means as many as the machine has cores', () => {
    expect(parsePolicy({ min: 5, max: 0 })).toMatchObject({ min: 5, max: 0 })
  })

  test('each bound can be set, and one beyond it cannot', () => {
    for (const [field, [low, high]] of Object.entries(POLICY_BOUNDS)) {
      for (const value of [low, high]) {
        expect(parsePolicyPatch({ [field]: value }).set).toEqual({ [field]: value })
      }
      for (const value of [low - 1, high + 1]) {
        expect(() => parsePolicyPatch({ [field]: value })).toThrow(bad(new RegExp(`policy ${field} is`)))
      }
    }
    const prewarm = { schedule: '0 8 * * *', min: 1, forMs: 1_000 }
    expect(parsePolicyPatch({ prewarm: Array.from({ length: 20 }, () => prewarm) }).set.prewarm).toHaveLength(
      20,
    )
    for (const wrong of [
      Array.from({ length: 21 }, () => prewarm),
      [{ ...prewarm, min: 0 }],
      [{ ...prewarm, forMs: 999 }],
      [{ ...prewarm, schedule: '@daily' }],
      'none',
    ]) {
      expect(() => parsePolicyPatch({ prewarm: wrong })).toThrow(bad(/policy prewarm: /))
    }
  })

  test('a rate may be below one request a second', () => {
    expect(parsePolicy({ ratePerS: 0.5, burst: 1 })).toMatchObject({ ratePerS: 0.5, burst: 1 })
  })

  test('null unsets a field, so that the layer below shows through', () => {
    expect(parsePolicyPatch({ min: null, max: 3 })).toEqual({ set: { max: 3 }, unset: ['min'] })
    expect(mergePolicy({ min: 1, max: 2 }, undefined, { max: 3 })).toEqual({
      ...DEFAULT_POLICY,
      min: 1,
      max: 3,
    })
  })

  test('the base is not changed', () => {
    parsePolicy({ min: 7 })
    expect(DEFAULT_POLICY.min).toBe(0)
  })
})

describe('limits of functions', () => {
  test.each([
    ['public', 'public'],
    ['none', 'none'],
    [[], 'none'],
    ['API.Example.com', ['api.example.com']],
    [
      ['*.Example.org', '*.example.org', 'a_b.example'],
      ['*.example.org', 'a_b.example'],
    ],
    [
      ['bücher.example', '127.1', '[::0001]', '2001:DB8::1'],
      ['xn--bcher-kva.example', '127.0.0.1', '::1', '2001:db8::1'],
    ],
  ])('egress %j is read as %j', (egress, read) => {
    expect(parseFunctionLimitsPatch({ egress }).set).toEqual({ egress: read })
  })

  test.each([
    '',
    '*',
    '*.',
    'a..b',
    '-a.example',
    'a b',
    'a.example/x',
    'user@a.example',
    'a:443',
    '*.::1',
    'a%2eexample',
    'x'.repeat(300),
    'NONE',
    null,
    {},
  ])('egress to %j is refused', (host) => {
    expect(() => parseFunctionLimitsPatch({ egress: [host] })).toThrow(bad(/limit egress has/))
  })

  test('no layer is above the ceiling, and a ceiling of a newer release spoils nothing', () => {
    const ceiling = { cpuMs: 1_000, colours: 3 }
    expect(mergeFunctionLimits(ceiling, { cpuMs: 500 }, undefined, { memoryMib: 64 })).toEqual({
      ...DEFAULT_FUNCTION_LIMITS,
      cpuMs: 500,
      memoryMib: 64,
    })
    expect(mergeFunctionLimits(ceiling, {}).cpuMs).toBe(1_000)
  })

  test('each bound can be set, and one beyond it cannot', () => {
    for (const [field, [low, high]] of Object.entries(FUNCTION_LIMIT_BOUNDS)) {
      expect(parseFunctionLimitsPatch({ [field]: low }).set).toEqual({ [field]: low })
      expect(parseCeilingPatch({ [field]: high }).set).toEqual({ [field]: high })
      for (const value of [low - 1, high + 1, low + 0.5, Number.NaN]) {
        expect(() => parseFunctionLimitsPatch({ [field]: value })).toThrow(
          bad(new RegExp(`limit ${field} is`)),
        )
      }
    }
  })
})

describe('names', () => {
  test.each(['a', 'a-b', '0', 'x'.repeat(63), 'constructor'])('%s is a function name', (name) => {
    expect(parseFunctionName(name)).toBe(name)
  })

  test.each(['', '-a', 'a-', 'A', 'a_b', 'a.b', 'a b', 'x'.repeat(64), '../a', 'ä', 'a\n'])(
    '%j is none',
    (name) => {
      expect(() => parseFunctionName(name)).toThrow(bad(/function name .* is not usable/))
    },
  )

  test('a preview label is 8 digits of the version and the function', () => {
    expect(previewLabel('0123456789abcdef0123456789abcdef', 'shop')).toBe('01234567-shop')
  })
})

describe('errors', () => {
  test('each code has a status that HTTP knows, and says whose fault it is', () => {
    for (const code of Object.keys(ERRORS) as ErrorCode[]) {
      const error = new IsolaError(code, 'x')
      expect(error.status).toBeGreaterThanOrEqual(400)
      expect(error.status).toBeLessThan(600)
      expect(['user', 'system']).toContain(ERRORS[code].fault)
    }
  })

  test('are known by their code, not by their class', () => {
    expect(isIsolaError(new IsolaError('conflict', 'x'))).toBe(true)
    expect(isIsolaError(Object.assign(new Error('x'), { code: 'conflict' }))).toBe(true)
    for (const other of [
      new Error('x'),
      Object.assign(new Error('x'), { code: 'ENOENT' }),
      Object.assign(new Error('x'), { code: 'constructor' }),
      { code: 'conflict' },
      undefined,
    ]) {
      expect(isIsolaError(other)).toBe(false)
    }
  })
})
