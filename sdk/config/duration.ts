export const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** `500ms`, `1.5s`, `5m`, `1h`, `7d`. A bare number is refused (`undefined`): nobody knows its unit. */
export function parseDurationMs(text: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)$/.exec(text)
  if (match === null) return undefined
  return Math.round(Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 0))
}
