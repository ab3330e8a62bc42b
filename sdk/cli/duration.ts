import { UNIT_MS } from '../config/duration.ts'

/** The shortest exact spelling that `parseDurationMs` reads back. */
export function formatDuration(durationMs: number): string {
  for (const unit of ['d', 'h', 'm', 's']) {
    const unitMs = UNIT_MS[unit] ?? 1
    if (durationMs >= unitMs && durationMs % unitMs === 0) return `${durationMs / unitMs}${unit}`
  }
  return `${durationMs}ms`
}

/** `3s ago`, `5m ago`, `2d ago`: one unit, rounded down. */
export function formatAge(fromIso: string, nowMs: number): string {
  const ageMs = Math.max(0, nowMs - Date.parse(fromIso))
  for (const unit of ['d', 'h', 'm', 's']) {
    const unitMs = UNIT_MS[unit] ?? 1
    if (ageMs >= unitMs) return `${Math.floor(ageMs / unitMs)}${unit} ago`
  }
  return 'now'
}
