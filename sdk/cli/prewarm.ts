import type { Prewarm } from '../model/policy.ts'
import { parseDurationMs } from '../config/duration.ts'
import { formatDuration } from './duration.ts'

/** `0 8 * * mon-fri → 3 for 2h`, with `→`, `->` or `=`. `undefined` for what is none; the node checks the schedule. */
export function parsePrewarm(text: string): Prewarm | undefined {
  const match = /^\s*(\S.*?)\s*(?:→|->|=)\s*(\d{1,6})\s+for\s+(\S+)\s*$/.exec(text)
  const [, schedule, min, time] = match ?? []
  const forMs = time === undefined ? undefined : parseDurationMs(time)
  if (schedule === undefined || forMs === undefined) return undefined
  return { schedule, min: Number(min), forMs }
}

/** As `parsePrewarm` reads it. */
export function formatPrewarm({ schedule, min, forMs }: Prewarm): string {
  return `${schedule} → ${min} for ${formatDuration(forMs)}`
}
