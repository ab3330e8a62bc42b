import type { UsageQuery } from '../../sdk/model/control.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import { parseFunctionName } from '../../sdk/model/function.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'

const ISO = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2}))?$/
/** Seconds of this many digits are in the year 5138; milliseconds of one more began in 1973. */
const SECONDS_DIGITS_MAX = 11

/** Throws `invalid_argument` with the value, also for a parameter that is not known: a misspelt one would ask for more. */
export function parseUsageQuery(
  query: Readonly<Record<string, string>>,
  nowMs: number,
): UsageQuery & { readonly sinceMs: number } {
  const { since, function: functionName, ...rest } = query
  const [unknown] = Object.keys(rest)
  if (unknown !== undefined) {
    throw new IsolaError(
      'invalid_argument',
      `usage has no parameter ${JSON.stringify(unknown.slice(0, 60))}: it has since and function`,
    )
  }
  return {
    sinceMs: since === undefined ? nowMs - CONTROL_LIMITS.usageSinceMsDefault : parseSince(since),
    ...(functionName !== undefined && { functionName: parseFunctionName(functionName) }),
  }
}

function parseSince(text: string): number {
  if (/^\d{1,15}$/.test(text)) return text.length <= SECONDS_DIGITS_MAX ? Number(text) * 1_000 : Number(text)
  const sinceMs = ISO.test(text) ? Date.parse(text) : Number.NaN
  if (!Number.isNaN(sinceMs) && isOnCalendar(text)) return sinceMs
  throw new IsolaError(
    'invalid_argument',
    `since is ${JSON.stringify(text.slice(0, 60))}: give a time as 2026-11-21T14:00:00Z, a day as 2026-11-21, or seconds or milliseconds since 1970`,
  )
}

/** `Date.parse` takes 31 February for 3 March. */
function isOnCalendar(text: string): boolean {
  const day = text.slice(0, 10)
  return new Date(`${day}T00:00:00Z`).toISOString().startsWith(day)
}
