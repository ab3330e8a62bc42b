/** Schedules are read in UTC, whatever the machine's own time zone is. */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { checkSchedule, scheduledMin } from '../../runtime/control/schedule.ts'

const HOUR_MS = 3_600_000
const at = (time: string): number => Date.parse(`${time}Z`)
const minAt = (schedule: string, forMs: number, time: string): number =>
  scheduledMin([{ schedule, min: 3, forMs }], at(time))

describe('a schedule', () => {
  test.each([
    '0 8 * * mon-fri',
    '*/15 * * * *',
    '0 0 L * *',
    '0 0 1 jan,jul *',
    '30 6-9/2 * * 1',
    '0 0 29 2 *',
  ])('"%s" is taken', (text) => expect(() => checkSchedule(text)).not.toThrow())

  test.each([
    '',
    'x',
    '@daily',
    '0 8 * *',
    '0 0 8 * * *',
    '61 * * * *',
    '* 24 * * *',
    '0 8 * * someday',
    '? 8 * * *',
    '5/10 * * * *',
    '0 0 30 2 *',
  ])('"%s" is refused with its text and an example', (text) => {
    let error: unknown
    try {
      checkSchedule(text)
    } catch (thrown) {
      error = thrown
    }
    expect(error).toMatchObject({ code: 'invalid_argument' })
    expect((error as Error).message).toContain(`schedule ${JSON.stringify(text)}`)
    expect((error as Error).message).toContain('"0 8 * * mon-fri"')
  })
})

describe('the scheduled minimum', () => {
  test('holds from the scheduled time on, to the millisecond, for as long as it says', () => {
    const schedule = '0 8 * * mon-fri'
    // 20 November 2026 is a Friday.
    expect(minAt(schedule, HOUR_MS, '2026-11-20T07:59:59.999')).toBe(0)
    expect(minAt(schedule, HOUR_MS, '2026-11-20T08:00:00.000')).toBe(3)
    expect(minAt(schedule, HOUR_MS, '2026-11-20T08:59:59.999')).toBe(3)
    expect(minAt(schedule, HOUR_MS, '2026-11-20T09:00:00.000')).toBe(0)
    expect(minAt(schedule, HOUR_MS, '2026-11-21T08:30:00')).toBe(0)
  })

  test('of windows that overlap or last longer than their period is the largest', () => {
    const prewarm = [
      { schedule: '0 8 * * *', min: 2, forMs: 4 * HOUR_MS },
      { schedule: '0 9 * * *', min: 5, forMs: HOUR_MS },
    ]
    expect(scheduledMin(prewarm, at('2026-11-20T08:30'))).toBe(2)
    expect(scheduledMin(prewarm, at('2026-11-20T09:30'))).toBe(5)
    expect(scheduledMin(prewarm, at('2026-11-20T10:00'))).toBe(2)
    expect(scheduledMin([], at('2026-11-20T09:30'))).toBe(0)
    expect(minAt('*/5 * * * *', 7 * 24 * HOUR_MS, '2026-11-20T09:33:12')).toBe(3)
  })

  test('knows the ends of months, short ones and February of a leap year', () => {
    expect(minAt('0 23 L * *', 2 * HOUR_MS, '2026-12-01T00:30')).toBe(3)
    expect(minAt('0 23 L * *', 2 * HOUR_MS, '2026-11-30T00:30')).toBe(0)
    expect(minAt('0 0 31 * *', HOUR_MS, '2026-12-01T00:30')).toBe(0)
    expect(minAt('0 0 31 * *', HOUR_MS, '2026-12-31T00:30')).toBe(3)
    expect(minAt('0 0 29 2 *', HOUR_MS, '2028-02-29T00:30')).toBe(3)
    expect(minAt('0 0 29 2 *', HOUR_MS, '2027-03-01T00:30')).toBe(0)
  })

  test('knows steps, ranges and names', () => {
    expect(minAt('*/20 * * * *', 60_000, '2026-11-20T09:40:30')).toBe(3)
    expect(minAt('*/20 * * * *', 60_000, '2026-11-20T09:41:30')).toBe(0)
    expect(minAt('0 6-10/2 * nov fri', 60_000, '2026-11-20T08:00:30')).toBe(3)
    expect(minAt('0 6-10/2 * nov fri', 60_000, '2026-11-20T09:00:30')).toBe(0)
    expect(minAt('0 6-10/2 * dec fri', 60_000, '2026-11-20T08:00:30')).toBe(0)
  })

  test('does not know summer time: neither the hour that a zone leaves out nor the one it has twice', () => {
    const module = fileURLToPath(new URL('../../runtime/control/schedule.ts', import.meta.url))
    // In New York 02:30 did not come on 8 March 2026, and 01:30 came twice on 1 November.
    const script = `
      const { scheduledMin } = await import(${JSON.stringify(module)})
      const min = (schedule, time) => scheduledMin([{ schedule, min: 1, forMs: 60_000 }], Date.parse(time))
      console.log([
        min('30 2 * * *', '2026-03-08T02:30:01Z'), min('30 2 * * *', '2026-03-08T07:30:01Z'),
        min('30 1 * * *', '2026-11-01T01:30:01Z'), min('30 1 * * *', '2026-11-01T05:30:01Z'),
        min('30 1 * * *', '2026-11-01T06:30:01Z'), new Date('2026-07-01T00:00Z').getTimezoneOffset(),
      ].join())`
    const said = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, TZ: 'America/New_York' },
      encoding: 'utf8',
    })
    expect(said.trim()).toBe('1,0,1,0,0,240')
  })
})
