import type { ScalingStatus } from '../model/node-status.ts'

/** For one cell of a table: a function's own error may have lines, and escapes for a terminal. */
export function formatReason({ reason, obstacle }: ScalingStatus): string {
  if (obstacle === undefined) return reason
  return `${reason}; ${obstacle.replaceAll(/\s+/g, ' ').replaceAll(/\p{Cc}/gu, '')}`
}
