import { describe, expect, test } from 'vitest'
import { makeScenario } from './make-scenario.ts'
import { describeViolation, runScenario } from './run-scenario.ts'

const SEEDS = 10_000
const SEEDS_PER_TEST = 1_000
/** Of a violation: what happened before it. */
const LINES_MAX = 40
/** A machine under load is several times slower than one that is not. */
const TIMEOUT_MS = 300_000

/** Ten thousand seeds hold all properties: the even ones in one file, the odd ones in another, so that two run at once. */
export function testSeeds(half: 'even' | 'odd'): void {
  describe(`${half} seeds`, () => {
    for (let first = 1; first <= SEEDS; first += SEEDS_PER_TEST) {
      const last = first + SEEDS_PER_TEST - 1
      test(`from ${first} to ${last} hold all properties`, { timeout: TIMEOUT_MS, retry: 0 }, () => {
        const violations: string[] = []
        for (let seed = first; seed <= last; seed++) {
          if (seed % 2 !== (half === 'odd' ? 1 : 0)) continue
          const scenario = makeScenario(seed)
          const violation = runScenario(scenario)
          if (violation !== undefined)
            violations.push(describeViolation(scenario, violation, { linesMax: LINES_MAX }))
        }
        expect(violations.slice(0, 3).join('\n\n'), `${violations.length} seeds`).toBe('')
      })
    }
  })
}
