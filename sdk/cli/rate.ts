const UNIT_S: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600 }

/** `500/s`, `30000/m`, `1/h`; a plain number is per second, and `none` is 0. `undefined` for what is no rate. */
export function parseRatePerS(text: string): number | undefined {
  if (text === 'none') return 0
  const match = /^(\d{1,9}(?:\.\d{1,6})?)(?:\/(s|m|h))?$/.exec(text)
  if (match === null) return undefined
  return Number(match[1]) / (UNIT_S[match[2] ?? 's'] ?? 1)
}

/** By the largest unit of time needed to say it in short: `500/s`, `0.5/s`, `1/m`. */
export function formatRate(ratePerS: number): string {
  for (const [unit, unitS] of Object.entries(UNIT_S)) {
    const shown = Number((ratePerS * unitS).toFixed(3))
    if (Math.abs(shown / unitS - ratePerS) < 1e-9) return `${shown}/${unit}`
  }
  return `${Number(ratePerS.toPrecision(6))}/s`
}
