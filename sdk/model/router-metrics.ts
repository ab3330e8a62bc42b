/**
 * What a router counts, as it tells the agent once a second: sums since the router started, never differences, so that
 * a message that is lost or heard twice does no harm. `epoch` names that start: another epoch counts from zero.
 */
import type { ErrorCode } from './errors.ts'

/** Upper bounds of the histograms' buckets, seconds; one more bucket is for what is above them all. */
export const LATENCY_BUCKETS_S = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
] as const

export interface Histogram {
  /** One more than `LATENCY_BUCKETS_S`; not cumulative. */
  readonly counts: readonly number[]
  readonly sumS: number
}

export interface RouterMetrics {
  readonly epoch: string
  /** Those that changed since the last message on this connection; all, in the first. */
  readonly versions: readonly VersionMetrics[]
  /** Refused before there was a function: no route, malformed … */
  readonly unrouted: readonly { readonly code: ErrorCode; readonly count: number }[]
  readonly connections: number
}

export interface VersionMetrics {
  readonly functionName: string
  readonly versionId: string
  /** Answered requests, refusals included. */
  readonly requests: readonly { readonly status: number; readonly cold: boolean; readonly count: number }[]
  /** Of requests that no instance was given. */
  readonly refusals: readonly { readonly code: ErrorCode; readonly count: number }[]
  /** Of requests that an instance had been given: answered by isola in its place, or broken off. */
  readonly errors?: readonly { readonly code: ErrorCode; readonly count: number }[]
  /** From the head of the request to the end of its response. */
  readonly total: Histogram
  /** Waiting for a slot, also in vain; cold starts left out. */
  readonly queue: Histogram
  /** Waiting for a slot, of requests that an instance was started for. */
  readonly coldStart: Histogram
  /** From slot to the end of the response. */
  readonly function: Histogram
  readonly coldStarts: number
  readonly requestBytes: number
  readonly responseBytes: number
}
