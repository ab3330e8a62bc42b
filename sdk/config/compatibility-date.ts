import { COMPATIBILITY_DATE_MAX } from '../model/limits.ts'
import type { ConfigDocument } from './document.ts'
import { howToGive } from './problem.ts'

/** What is wrong with a compatibility date and what to write; `undefined` for a good one. */
export function checkCompatibilityDate(
  date: string | undefined,
  document: ConfigDocument | undefined,
  field: 'compatibility_date' | 'compatibilityDate',
): string | undefined {
  const newest = `the newest that this isola supports is "${COMPATIBILITY_DATE_MAX}"`
  if (date === undefined) {
    // wrangler would take the day of the deploy: another day, another behaviour from the same source.
    const how = howToGive(field, COMPATIBILITY_DATE_MAX, document)
    return `"${field}" is missing: ${how}, or an older date`
  }
  if (!isCalendarDate(date)) {
    return `"${field}" is ${JSON.stringify(date)}, which is not a date: write it as YYYY-MM-DD; ${newest}`
  }
  if (date > COMPATIBILITY_DATE_MAX) return `"${field}" is "${date}", which is too new: ${newest}`
  return undefined
}

function isCalendarDate(text: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text)) return false
  const time = Date.parse(`${text}T00:00:00Z`)
  // "2026-02-30" parses in some engines, as another day.
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text)
}
