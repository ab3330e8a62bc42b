import type { TrafficShare } from '../model/function.ts'

/** How much of a version id people are shown; long enough to be typed back. */
const SHORT_ID_LENGTH = 8

export function shortId(versionId: string): string {
  return versionId.slice(0, SHORT_ID_LENGTH)
}

/** `1a2b3c4d 90%, 5e6f7a8b 10%` */
export function formatShares(shares: readonly TrafficShare[]): string {
  return shares.map((share) => `${shortId(share.versionId)} ${share.percent}%`).join(', ')
}
