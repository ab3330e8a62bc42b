/** What a function used in one hour on this node. All numbers are sums over the hour. */
export interface UsageHour {
  readonly functionName: string
  /** Begin of the hour: ISO 8601, UTC, e.g. `2026-11-21T14:00:00.000Z`. */
  readonly hour: string
  /** That were answered, by the function or by isola in its name: neither refusals nor clients that left before. */
  readonly requests: number
  /** Requests that were refused for the function's own limits or the node's. */
  readonly refused: number
  readonly coldStarts: number
  /** User and system time of its instances. */
  readonly cpuMs: number
  /** Memory in use × time, GiB-seconds; a paused instance counts too. */
  readonly gbS: number
  /** Sent to clients, bodies only. */
  readonly responseBytes: number
  /** Sent out through the egress proxy. */
  readonly egressBytes: number
}

/** What the operator charges. A field that is absent costs nothing. */
export interface PriceTable {
  readonly currency: string
  readonly perMillionRequests?: number
  readonly perMillionCpuMs?: number
  readonly perGbS?: number
  readonly perEgressGb?: number
  readonly perThousandColdStarts?: number
}

export interface UsageReport {
  readonly hours: readonly UsageHour[]
  /** At most so many seconds before now are not counted yet, and would be lost with the node. */
  readonly lagS: number
}
