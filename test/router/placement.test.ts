import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { TrafficShare } from '../../sdk/model/function.ts'
import { compileFunction, type FunctionEntry } from '../../router/table/function-entry.ts'
import { chooseVersion } from '../../router/placement/placement.ts'
import { aFunction } from '../harness/snapshots.ts'

const KEYS = Array.from({ length: 20_000 }, (_, index) => `203.0.113.${index}`)

function entryOf(percents: Readonly<Record<string, number>>): FunctionEntry {
  const shares: TrafficShare[] = Object.entries(percents).map(([versionId, percent]) => ({
    versionId,
    percent,
  }))
  return compileFunction(aFunction('shop', { shares }))
}

function sticky(entry: FunctionEntry, stickyKey: string): string {
  return chooseVersion(entry, { random: 0, stickyKey })
}

/** Percent of all keys that each version has. */
function distribution(entry: FunctionEntry, keys: readonly string[] = KEYS): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const key of keys) {
    const versionId = sticky(entry, key)
    counts[versionId] = (counts[versionId] ?? 0) + 100 / keys.length
  }
  return counts
}

describe('without a sticky key', () => {
  test('the draw falls on the version whose part of the line it hits', () => {
    const entry = entryOf({ old: 90, next: 10 })
    const at = (random: number): string => chooseVersion(entry, { random, stickyKey: undefined })
    expect([at(0), at(0.8999), at(0.9), at(0.9999999)]).toEqual(['old', 'old', 'next', 'next'])
  })
  test('percents that sum up inexactly leave no gap at the end', () => {
    const entry = entryOf({ a: 33.3, b: 33.3, c: 33.3 })
    expect(chooseVersion(entry, { random: 1 - Number.EPSILON, stickyKey: undefined })).toBe('c')
  })
  test('a version with no share is never drawn', () => {
    const entry = entryOf({ a: 0, b: 100 })
    expect(chooseVersion(entry, { random: 0, stickyKey: undefined })).toBe('b')
    expect(sticky(entry, 'x')).toBe('b')
  })
  test('a function with no version to choose is an error with a name', () => {
    expect(() => chooseVersion(entryOf({}), { random: 0, stickyKey: undefined })).toThrow(
      expect.objectContaining({ code: 'no_deployment' }),
    )
  })
})

describe('with a sticky key', () => {
  test('versions receive their percent of the keys', () => {
    const counts = distribution(entryOf({ old: 85, next: 10, third: 5 }))
    expect(Math.abs(counts.old! - 85)).toBeLessThan(1)
    expect(Math.abs(counts.next! - 10)).toBeLessThan(1)
    expect(Math.abs(counts.third! - 5)).toBeLessThan(1)
  })
  test('keys that differ in their last digit spread as well as any', () => {
    const keys = Array.from({ length: 2_000 }, (_, index) => `${index}`)
    expect(Math.abs(distribution(entryOf({ a: 50, b: 50 }), keys).a! - 50)).toBeLessThan(4)
  })
  test('a key keeps its version whatever the draw and the order of the shares', () => {
    const entry = entryOf({ old: 70, next: 30 })
    const reversed = entryOf({ next: 30, old: 70 })
    for (const key of KEYS.slice(0, 500)) {
      const first = chooseVersion(entry, { random: 0, stickyKey: key })
      expect(chooseVersion(entry, { random: 0.999, stickyKey: key })).toBe(first)
      expect(sticky(reversed, key)).toBe(first)
    }
  })
  test('a canary that grows from 10 to 50 percent keeps each key it had, and takes only what it needs', () => {
    const before = entryOf({ old: 90, next: 10 })
    const after = entryOf({ old: 50, next: 50 })
    const had = KEYS.filter((key) => sticky(before, key) === 'next')
    expect(had.length).toBeGreaterThan(1_000)
    expect(had.filter((key) => sticky(after, key) !== 'next')).toEqual([])
    const moved = KEYS.filter((key) => sticky(before, key) !== sticky(after, key))
    expect(Math.abs(moved.length / KEYS.length - 0.4)).toBeLessThan(0.02)
  })
  test('whatever shrinks or stays, keys of a version that grows stay with it', () => {
    const share = fc.integer({ min: 1, max: 100 })
    fc.assert(
      fc.property(fc.array(share, { minLength: 2, maxLength: 6 }), share, (percents, growth) => {
        const before: Record<string, number> = {}
        const after: Record<string, number> = {}
        percents.forEach((percent, index) => {
          before[`v${index}`] = percent
          after[`v${index}`] = index === 0 ? percent + growth : Math.max(1, percent - (growth % 7))
        })
        const [from, to] = [entryOf(before), entryOf(after)]
        for (const key of KEYS.slice(0, 300)) {
          if (sticky(from, key) === 'v0') expect(sticky(to, key)).toBe('v0')
        }
      }),
    )
  })
  test('an empty key is a key', () => {
    const entry = entryOf({ a: 50, b: 50 })
    expect(['a', 'b']).toContain(sticky(entry, ''))
    expect(sticky(entry, '')).toBe(sticky(entry, ''))
  })
})
