/**
 * What a function may use while it runs. Like a policy in layers: what the operator sets for a function lies over what
 * the version asks for (wrangler's `limits`), which lies over the fleet's defaults and `DEFAULT_FUNCTION_LIMITS`.
 * Nothing may be above the operator's ceiling. Each limit is enforced from outside the isolate.
 */
import { IsolaError } from './errors.ts'

export interface FunctionLimits {
  /** CPU milliseconds an instance may burn without answering; beyond it 503 `cpu_limit_exceeded`. @default 10000 */
  readonly cpuMs: number
  /** From the request's head to the end of its response, WebSockets aside; 504 `wall_limit_exceeded`. @default 3600000 */
  readonly wallMs: number
  /** Memory of one instance, MiB; 503 `memory_limit_exceeded`. @default 128 */
  readonly memoryMib: number
  /** Outgoing requests and connections that one request may cause; the next is answered 429 `subrequest_limit_exceeded`. @default 1000 */
  readonly subrequests: number
  /** Of a request's body; 413 `body_too_large`. @default 104857600 */
  readonly requestBytes: number
  /** Of a response's body; 502 `response_too_large`, or a response cut off where it has begun. @default 1073741824 */
  readonly responseBytes: number
  /** Of what the function writes to its log in a minute; the rest is dropped and counted. @default 16777216 */
  readonly logBytesPerMin: number
  /** Where the function's own requests may go. @default 'public' */
  readonly egress: EgressLimit
}

/**
 * `public`: every public address. `none`: nowhere. A list: only these hosts, exact or `*.example.com`; an address in it
 * may not be private either unless the operator allows it for the node.
 */
export type EgressLimit = 'public' | 'none' | readonly string[]

export type FunctionLimitsPatch = Partial<FunctionLimits>

export const DEFAULT_FUNCTION_LIMITS: FunctionLimits = {
  cpuMs: 10_000,
  wallMs: 3_600_000,
  memoryMib: 128,
  subrequests: 1_000,
  requestBytes: 100 * 1024 * 1024,
  responseBytes: 1024 * 1024 * 1024,
  logBytesPerMin: 16 * 1024 * 1024,
  egress: 'public',
}

export const FUNCTION_LIMIT_FIELDS = Object.keys(DEFAULT_FUNCTION_LIMITS) as readonly (keyof FunctionLimits)[]

type NumberField = Exclude<keyof FunctionLimits, 'egress'>

/** What a limit may be set to at all. */
export const FUNCTION_LIMIT_BOUNDS: Readonly<Record<NumberField, readonly [number, number]>> = {
  cpuMs: [10, 300_000],
  wallMs: [100, 24 * 3_600_000],
  memoryMib: [32, 16_384],
  subrequests: [0, 100_000],
  requestBytes: [0, 100 * 1024 * 1024],
  responseBytes: [1, 64 * 1024 * 1024 * 1024],
  logBytesPerMin: [1_024, 1024 * 1024 * 1024],
}

/** Above which no function of the fleet may be; absent fields: the bounds. */
export type FunctionLimitsCeiling = Partial<Omit<FunctionLimits, 'egress'>>

const HOST_PATTERN = /^(?:\*\.)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$|^\[?[0-9a-f:.]+\]?$/
const EGRESS_HOSTS_MAX = 100

/** The limits in force, each layer over the one before it and none above the ceiling. */
export function mergeFunctionLimits(
  ceiling: FunctionLimitsCeiling | undefined,
  ...layers: readonly (FunctionLimitsPatch | undefined)[]
): FunctionLimits {
  const merged = Object.assign({}, DEFAULT_FUNCTION_LIMITS, ...layers) as Record<string, unknown>
  for (const [field, most] of Object.entries(ceiling ?? {}))
    merged[field] = Math.min(merged[field] as number, most)
  return merged as unknown as FunctionLimits
}

/** Fields to set, and `null` for those that shall come from the layer below again. Throws `invalid_argument`. */
export function parseFunctionLimitsPatch(
  patch: Readonly<Record<string, unknown>>,
  ceiling: FunctionLimitsCeiling = {},
): { readonly set: FunctionLimitsPatch; readonly unset: readonly (keyof FunctionLimits)[] } {
  const set: Record<string, unknown> = {}
  const unset: (keyof FunctionLimits)[] = []
  for (const [field, value] of Object.entries(patch)) {
    if (!Object.hasOwn(DEFAULT_FUNCTION_LIMITS, field)) {
      throw new IsolaError(
        'invalid_argument',
        `limits have no field "${field}": the fields are ${FUNCTION_LIMIT_FIELDS.join(', ')}`,
      )
    }
    if (value === null) unset.push(field as keyof FunctionLimits)
    else if (field === 'egress') set[field] = parseEgress(value)
    else set[field] = parseNumber(field as NumberField, value, ceiling)
  }
  return { set, unset }
}

function parseNumber(field: NumberField, value: unknown, ceiling: FunctionLimitsCeiling): number {
  const [low, high] = FUNCTION_LIMIT_BOUNDS[field]
  if (typeof value !== 'number' || !Number.isInteger(value) || value < low || value > high) {
    throw new IsolaError(
      'invalid_argument',
      `limit ${field} is ${JSON.stringify(value)}: give a whole number from ${low} to ${high}`,
    )
  }
  const most = ceiling[field]
  if (most !== undefined && value > most) {
    throw new IsolaError(
      'invalid_argument',
      `limit ${field} is ${value} and the fleet's ceiling is ${most}: give at most ${most}, or raise the ceiling`,
    )
  }
  return value
}

function parseEgress(value: unknown): EgressLimit {
  if (value === 'public' || value === 'none') return value
  const hosts: unknown[] = Array.isArray(value) ? value : [value]
  if (hosts.length > EGRESS_HOSTS_MAX) {
    throw new IsolaError(
      'invalid_argument',
      `limit egress names ${hosts.length} hosts: give at most ${EGRESS_HOSTS_MAX}`,
    )
  }
  return hosts.map((host) => {
    if (typeof host === 'string' && host.length <= 253 && HOST_PATTERN.test(host.toLowerCase()))
      return host.toLowerCase()
    throw new IsolaError(
      'invalid_argument',
      `limit egress is ${JSON.stringify(value)}: give "public", "none", or a list of hosts such as "api.example.com" and "*.example.org"`,
    )
  })
}
