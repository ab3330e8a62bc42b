/**
 * How many instances a function has, and how its requests wait for them: the same for every kind. A policy is a
 * resource of its own: what is set for a function lies over what is set for the fleet, which lies over
 * `DEFAULT_POLICY`. It changes without a deploy.
 */
import { IsolaError } from './errors.ts'

export interface Policy {
  /** Instances kept even when idle. @default 0 */
  readonly min: number
  /** Most instances of one version on a node; 0 means as many as the machine has cores (at least 2). @default 0 */
  readonly max: number
  /** Requests one instance works on at a time. @default 50 */
  readonly concurrency: number
  /**
   * Requests that may wait for a slot; the next one gets 429 `queue_full`. While a function has no instance, those
   * whom its first will take (`concurrency`) may wait for it besides. @default 1000
   */
  readonly queue: number
  /** Longest wait in that queue before 503 `queue_timeout`. @default 10000 */
  readonly queueTimeoutMs: number
  /**
   * An instance with nothing to do for this long is stopped; `auto`: as long as the history of the function's own
   * arrivals says it pays. @default 60000
   */
  readonly idleMs: number | 'auto'
  /** An instance with nothing to do for this long is frozen until its next request; 0: never. @default 0 */
  readonly pauseMs: number
  /** Requests per second, sustained, also below one; the next one gets 429 `rate_limited`. 0: no limit. @default 0 */
  readonly ratePerS: number
  /** Requests that may come at once on top of the rate; 0: as many as it lets through in a second, at least 1. @default 0 */
  readonly burst: number
  /** Requests of the function in flight or waiting on a node; the next one gets 429 `quota_exceeded`. 0: no limit. @default 0 */
  readonly quota: number
  /** Share of a full node relative to other functions. @default 1 */
  readonly weight: number
  /** Times at which a minimum is kept. @default [] */
  readonly prewarm: readonly Prewarm[]
}

/** From each time that `schedule` names, at least `min` instances for `forMs`. */
export interface Prewarm {
  /** Cron expression of five fields, in UTC: `0 8 * * mon-fri`. */
  readonly schedule: string
  readonly min: number
  readonly forMs: number
}

/** What is set; the rest comes from the layer below. */
export type PolicyPatch = Partial<Policy>

/** A change of it: fields to set, and `null` for those that shall come from the layer below again. */
export type PolicyChange = { readonly [Field in keyof Policy]?: Policy[Field] | null }

export const DEFAULT_POLICY: Policy = {
  min: 0,
  max: 0,
  concurrency: 50,
  queue: 1_000,
  queueTimeoutMs: 10_000,
  idleMs: 60_000,
  pauseMs: 0,
  ratePerS: 0,
  burst: 0,
  quota: 0,
  weight: 1,
  prewarm: [],
}

const POLICY_FIELDS = Object.keys(DEFAULT_POLICY) as readonly (keyof Policy)[]

type NumberField = Exclude<keyof Policy, 'prewarm'>

export const POLICY_BOUNDS: Readonly<Record<NumberField, readonly [number, number]>> = {
  min: [0, 1_000],
  max: [0, 1_000],
  concurrency: [1, 10_000],
  queue: [0, 100_000],
  queueTimeoutMs: [10, 600_000],
  idleMs: [100, 7 * 24 * 3_600_000],
  pauseMs: [0, 7 * 24 * 3_600_000],
  ratePerS: [0, 1_000_000],
  burst: [0, 1_000_000],
  quota: [0, 1_000_000],
  weight: [1, 1_000],
}

const PREWARMS_MAX = 20
const PREWARM_MS_MAX = 7 * 24 * 3_600_000

/** The policy in force: each layer over the one before it. */
export function mergePolicy(...layers: readonly (PolicyPatch | undefined)[]): Policy {
  return Object.assign({}, DEFAULT_POLICY, ...layers) as Policy
}

/**
 * A patch as a client sends it: fields to set, and `null` for those that shall come from the layer below again.
 * Throws `invalid_argument` with the values. Whether the fields fit together `checkPolicy` says, once merged.
 */
export function parsePolicyPatch(patch: Readonly<Record<string, unknown>>): {
  readonly set: PolicyPatch
  readonly unset: readonly (keyof Policy)[]
} {
  const set: Record<string, unknown> = {}
  const unset: (keyof Policy)[] = []
  for (const [field, value] of Object.entries(patch)) {
    if (!isPolicyField(field)) {
      throw new IsolaError(
        'invalid_argument',
        `policy has no field ${shown(field)}: the fields are ${POLICY_FIELDS.join(', ')}`,
      )
    }
    if (value === null) unset.push(field)
    else if (field === 'prewarm') set[field] = parsePrewarms(value)
    else set[field] = parseNumber(field, value)
  }
  return { set, unset }
}

/** Throws `invalid_argument` for a policy that cannot be kept, with the values. */
export function checkPolicy(policy: Policy): Policy {
  const { min, max, ratePerS, burst, pauseMs, idleMs, quota, prewarm } = policy
  const impossible = (message: string): never => {
    throw new IsolaError('invalid_argument', message)
  }
  if (max !== 0 && min > max) impossible(`policy min ${min} is above max ${max}: lower min or raise max`)
  for (const scheduled of prewarm) {
    if (max !== 0 && scheduled.min > max) {
      impossible(
        `prewarm "${scheduled.schedule}" wants ${scheduled.min} instances and max is ${max}: lower the one or raise the other`,
      )
    }
  }
  if (burst > 0 && ratePerS === 0) {
    impossible(`policy burst ${burst} has no rate to be above: set a rate as well, or leave burst out`)
  }
  if (burst > 0 && burst < ratePerS) {
    impossible(
      `policy burst ${burst} is below the rate of ${ratePerS} a second: raise burst, or leave it out`,
    )
  }
  if (pauseMs > 0 && idleMs !== 'auto' && pauseMs >= idleMs) {
    impossible(
      `policy pause ${pauseMs} ms is not below idle ${idleMs} ms, so no instance would ever be paused: lower pause or raise idle`,
    )
  }
  if (quota > 0 && quota < min) {
    impossible(`policy quota ${quota} is below min ${min}: raise quota or lower min`)
  }
  return policy
}

/** A whole policy over the default. Throws `invalid_argument`. */
export function parsePolicy(patch: Readonly<Record<string, unknown>>, base: Policy = DEFAULT_POLICY): Policy {
  return checkPolicy({ ...base, ...parsePolicyPatch(patch).set })
}

function isPolicyField(field: string): field is keyof Policy {
  return Object.hasOwn(DEFAULT_POLICY, field)
}

function parseNumber(field: NumberField, value: unknown): number | 'auto' {
  const [low, high] = POLICY_BOUNDS[field]
  if (field === 'idleMs' && value === 'auto') return value
  const fits = field === 'ratePerS' ? Number.isFinite(value) : Number.isInteger(value)
  if (typeof value === 'number' && fits && value >= low && value <= high) return value
  const kind = field === 'ratePerS' ? 'number' : 'whole number'
  throw new IsolaError(
    'invalid_argument',
    `policy ${field} is ${shown(value)}: give a ${kind} from ${low} to ${high}${field === 'idleMs' ? ', or "auto"' : ''}`,
  )
}

/** What a client sent may be anything, and of any length. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 100 ? `${text.slice(0, 100)}…` : text
}

function parsePrewarms(value: unknown): readonly Prewarm[] {
  const wrong = (message: string): never => {
    throw new IsolaError('invalid_argument', `policy prewarm: ${message}`)
  }
  if (!Array.isArray(value) || value.length > PREWARMS_MAX)
    return wrong(`give a list of at most ${PREWARMS_MAX} of {schedule, min, forMs}`)
  return value.map((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null)
      return wrong(`${shown(entry)} is none of {schedule, min, forMs}`)
    const { schedule, min, forMs, ...rest } = entry as Record<string, unknown>
    const unknown = Object.keys(rest)
    if (unknown.length > 0) return wrong(`no field "${unknown[0]}": the fields are schedule, min, forMs`)
    if (typeof schedule !== 'string' || schedule.trim().split(/\s+/).length !== 5 || schedule.length > 200) {
      return wrong(
        `schedule ${shown(schedule)} is no cron expression of five fields, e.g. "0 8 * * mon-fri" (UTC)`,
      )
    }
    if (typeof min !== 'number' || !Number.isInteger(min) || min < 1 || min > POLICY_BOUNDS.min[1])
      return wrong(`min is ${shown(min)}: give a whole number from 1 to ${POLICY_BOUNDS.min[1]}`)
    if (typeof forMs !== 'number' || !Number.isInteger(forMs) || forMs < 1_000 || forMs > PREWARM_MS_MAX) {
      return wrong(`forMs is ${shown(forMs)}: give a whole number from 1000 to ${PREWARM_MS_MAX}`)
    }
    return { schedule: schedule.trim(), min, forMs }
  })
}
