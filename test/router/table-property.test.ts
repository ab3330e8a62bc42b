import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatRoutePattern, parseRoutePattern } from '../../sdk/model/route.ts'
import type { Snapshot } from '../../sdk/model/snapshot.ts'
import { compileTable } from '../../router/table/table.ts'
import { aFunction, aSnapshot } from '../harness/snapshots.ts'

/** Few letters, so that patterns and requests meet often and nest deep. */
const host = fc
  .array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 4 })
  .map((labels) => labels.join('.'))
const path = fc
  .array(fc.constantFrom('/', 'a', 'b', '/a', 'ab', '/b/'), { maxLength: 5 })
  .map((pieces) => slashed(pieces.join('')))
const pattern = fc
  .record({ wildcardHost: fc.boolean(), host, path, prefixPath: fc.boolean() })
  .map((parts) => formatRoutePattern(parts))
const patterns = fc.uniqueArray(pattern, { minLength: 1, maxLength: 40 })

function slashed(text: string): string {
  return `/${text}`.replaceAll(/\/{2,}/g, '/')
}

function snapshotOf(list: readonly string[]): Snapshot {
  return aSnapshot(list.map((text, index) => aFunction(`f${index}`, { patterns: [text] })))
}

/** The rules as one would say them: of all patterns that fit, the most specific. */
function reference(list: readonly string[], requestHost: string, requestPath: string): string | undefined {
  const fitting = list
    .map((text, index) => ({ name: `f${index}`, ...parseRoutePattern(text) }))
    .filter(
      (route) =>
        (route.wildcardHost ? requestHost.endsWith(`.${route.host}`) : requestHost === route.host) &&
        (route.prefixPath ? requestPath.startsWith(route.path) : requestPath === route.path),
    )
    .sort(
      (a, b) =>
        Number(a.wildcardHost) - Number(b.wildcardHost) ||
        b.host.length - a.host.length ||
        b.path.length - a.path.length ||
        Number(a.prefixPath) - Number(b.prefixPath),
    )
  return fitting[0]?.name
}

test('the table answers as the rules do, for any routes and any request', () => {
  let hits = 0
  fc.assert(
    fc.property(
      patterns,
      fc.array(fc.tuple(host, path, fc.constantFrom('', '?', '?a/b')), { minLength: 20 }),
      (list, requests) => {
        const table = compileTable(snapshotOf(list))
        for (const [requestHost, requestPath, query] of requests) {
          const expected = reference(list, requestHost, requestPath)
          if (expected !== undefined) hits++
          expect(table.match(requestHost, requestPath + query)?.entry.name).toBe(expected)
        }
      },
    ),
    { numRuns: 300 },
  )
  expect(hits).toBeGreaterThan(100)
})

test('the order of the routes makes no difference', () => {
  fc.assert(
    fc.property(patterns, host, path, (list, requestHost, requestPath) => {
      const functions = snapshotOf(list).functions
      const forward = compileTable(aSnapshot(functions)).match(requestHost, requestPath)
      const backward = compileTable(aSnapshot([...functions].reverse())).match(requestHost, requestPath)
      expect(backward?.entry.name).toBe(forward?.entry.name)
    }),
  )
})

test('any spelling that a URL parser reads as a path goes where that path goes', () => {
  const guarded = compileTable(
    aSnapshot([aFunction('site', { patterns: ['a/*'] }), aFunction('guard', { patterns: ['a/ab/*'] })]),
  )
  const piece = fc.constantFrom('/', 'a', 'b', '.', '..', '%2e', '%2E', '\\', '/ab/', '/./', '/../', '//')
  let guards = 0
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const target = `/${pieces.join('')}`
      const seen = new URL(`http://a${target}`).pathname.replaceAll(/\/{2,}/g, '/')
      const expected = seen.startsWith('/ab/') ? 'guard' : 'site'
      if (expected === 'guard') guards++
      // A target that begins with two slashes is a host to `new URL(target, base)`, not to us: we give it whole.
      expect(guarded.match('a', target)?.entry.name).toBe(expected)
    }),
    { numRuns: 2_000 },
  )
  expect(guards).toBeGreaterThan(50)
})

test('no host and no target makes it throw', () => {
  const table = compileTable(snapshotOf(['a.b/*', '*.b/x*', '*.c/*']))
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 300 }),
      fc.string({ unit: 'binary', maxLength: 300 }),
      (anyHost, anyTarget) => {
        table.match(anyHost, anyTarget)
        table.match('a.b', `/${anyTarget}`)
      },
    ),
  )
})
