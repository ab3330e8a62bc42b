import { IsolaError } from './errors.ts'

/** How many instances a function has and how requests wait for them; the same for every kind. */
export interface Policy {
  /** Instances kept even when idle. @default 0 */
  readonly min: number
  /** Most instances on a node; 0 means as many as the machine has cores (at least 2). @default 0 */
  readonly max: number
  /** Requests one instance works on at a time. @default 50 */
  readonly concurrency: number
  /** Requests that may wait for a slot; the next one gets 429 `queue_full`. @default 1000 */
  readonly queue: number
  /** Longest wait in that queue before 503 `queue_timeout`. @default 10000 */
  readonly queueTimeoutMs: number
  /** An instance with nothing to do for this long is stopped. @default 60000 */
  readonly idleMs: number
}

export const DEFAULT_POLICY: Policy = {
  min: 0,
  max: 0,
  concurrency: 50,
  queue: 1_000,
  queueTimeoutMs: 10_000,
  idleMs: 60_000,
}

const BOUNDS: Readonly<Record<keyof Policy, readonly [number, number]>> = {
  min: [0, 1_000],
  max: [0, 1_000],
  concurrency: [1, 10_000],
  queue: [0, 100_000],
  queueTimeoutMs: [10, 600_000],
  idleMs: [100, 7 * 24 * 3_600_000],
}

/** `base` with the changes of `patch`. Throws `invalid_argument` with the values for an impossible policy. */
export function parsePolicy(patch: Readonly<Record<string, unknown>>, base: Policy = DEFAULT_POLICY): Policy {
  const policy: Record<string, number> = { ...base }
  for (const [field, value] of Object.entries(patch)) {
    if (!Object.hasOwn(BOUNDS, field)) {
      throw new IsolaError(
        'invalid_argument',
        `policy has no field "${field}": the fields are ${Object.keys(BOUNDS).join(', ')}`,
      )
    }
    const [low, high] = BOUNDS[field as keyof Policy]
    if (typeof value !== 'number' || !Number.isInteger(value) || value < low || value > high) {
      throw new IsolaError(
        'invalid_argument',
        `policy ${field} is ${JSON.stringify(value)}: give a whole number from ${low} to ${high}`,
      )
    }
    policy[field] = value
  }
  const parsed = policy as unknown as Policy
  if (parsed.max !== 0 && parsed.min > parsed.max) {
    throw new IsolaError(
      'invalid_argument',
      `policy min ${parsed.min} is above max ${parsed.max}: lower min or raise max`,
    )
  }
  return parsed
}
