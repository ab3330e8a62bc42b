import { formatNumber } from './report.ts'

/** `share` in [0, 1]; NaN of nothing. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length % 2 === 1) return sorted[middle]!
  return (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** The median, and how far the repetitions lie apart: `26.2 (25.9–27.0)`. */
export function formatMedian(values: readonly number[]): string {
  const [low, high] = [Math.min(...values), Math.max(...values)]
  if (values.length < 2) return formatNumber(median(values))
  return `${formatNumber(median(values))} (${formatNumber(low)}–${formatNumber(high)})`
}
