const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `500ms`, `1.5s`, `5m`, `1h`, `7d`. A bare number is refused (`undefined`): nobody knows its unit. */
export function parseDurationMs(text: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)$/.exec(text)
  if (match === null) return undefined
  return Math.round(Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 0))
}

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
