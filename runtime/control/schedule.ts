import { Cron } from 'croner'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { Prewarm } from '../../sdk/model/policy.ts'

/**
 * When a schedule holds. Cron expressions are read in UTC on every node, so that a fleet agrees on the time and no
 * hour comes twice or never; five fields, with names (`mon-fri`, `jan`), steps, and `L` for the last day of a month.
 */
const CRONS_KEPT_MAX = 1_000
const cronByText = new Map<string, Cron>()

/** Throws `invalid_argument` for what is no schedule, and for one that never comes (30 February). */
export function checkSchedule(text: string): void {
  // From a fixed day on: leap years, month ends and weekdays all come within what is searched.
  if (readSchedule(text).nextRun(new Date(0)) === null) throw notASchedule(text, 'no such time ever comes')
}

/** The largest minimum asked for now: each entry holds from its scheduled times on for `forMs`. 0 where none does. */
export function scheduledMin(prewarm: readonly Prewarm[], nowMs: number): number {
  let largest = 0
  for (const { schedule, min, forMs } of prewarm) {
    if (min > largest && isWithin(schedule, forMs, nowMs)) largest = min
  }
  return largest
}

/** Whether a scheduled time lies in (now - forMs, now]. */
function isWithin(schedule: string, forMs: number, nowMs: number): boolean {
  const first = readSchedule(schedule).nextRun(new Date(nowMs - forMs))
  return first !== null && first.getTime() <= nowMs
}

function readSchedule(text: string): Cron {
  const known = cronByText.get(text)
  if (known !== undefined) return known
  // `?` would be the time at which it is read, and names such as `@daily` have no five fields.
  if (text.trim().split(/\s+/).length !== 5) throw notASchedule(text, 'it has not five fields')
  if (text.includes('?')) throw notASchedule(text, '"?" names no time')
  let cron: Cron
  try {
    cron = new Cron(text, { timezone: 'UTC', mode: '5-part' })
  } catch (error) {
    throw notASchedule(text, (error as Error).message.replace(/^CronPattern: /, ''), error)
  }
  // Read again on each look otherwise; those of policies that are long gone make room all at once.
  if (cronByText.size >= CRONS_KEPT_MAX) cronByText.clear()
  cronByText.set(text, cron)
  return cron
}

function notASchedule(text: string, reason: string, cause?: unknown): IsolaError {
  return new IsolaError(
    'invalid_argument',
    `schedule ${JSON.stringify(text)} is no cron expression: ${reason}. Give minute, hour, day, month and weekday in UTC, e.g. "0 8 * * mon-fri"`,
    { cause },
  )
}
