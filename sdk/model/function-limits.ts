/**
 * What a function may use while it runs. Like a policy in layers: what the operator sets for a function lies over what
 * the version asks for (wrangler's `limits`), which lies over the fleet's defaults and `DEFAULT_FUNCTION_LIMITS`.
 * Nothing may be above the operator's ceiling. Each limit is enforced from outside the isolate.
 */
import { IsolaError } from './errors.ts'
import type { FunctionKind } from './function.ts'

export interface FunctionLimits {
  /** CPU milliseconds an instance may burn without answering; beyond it 503 `cpu_limit_exceeded`. @default 10000 */
  readonly cpuMs: number
  /** From the request's head to the end of its response, WebSockets aside; 504 `wall_limit_exceeded`. @default 3600000 */
  readonly wallMs: number
  /** Memory of one instance, MiB; 503 `memory_limit_exceeded`. @default 128 */
  readonly memoryMib: number
  /**
   * Outgoing requests and connections that one request may cause; the next is answered 429 `subrequest_limit_exceeded`.
   * Requests that run on an instance at the same time share their budgets. @default 1000
   */
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

/** A change of them: fields to set, and `null` for those that shall come from the layer below again. */
export type FunctionLimitsChange = { readonly [Field in keyof FunctionLimits]?: FunctionLimits[Field] | null }

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

/** Where a kind has other defaults: containers are for long work, and their runtimes are larger. */
export const LIMITS_BY_KIND: Readonly<Record<FunctionKind, FunctionLimitsPatch>> = {
  worker: {},
  container: { cpuMs: 3_600_000, memoryMib: 256 },
}

const FUNCTION_LIMIT_FIELDS = Object.keys(DEFAULT_FUNCTION_LIMITS) as readonly (keyof FunctionLimits)[]

type NumberField = Exclude<keyof FunctionLimits, 'egress'>

/** What a limit may be set to at all. */
export const FUNCTION_LIMIT_BOUNDS: Readonly<Record<NumberField, readonly [number, number]>> = {
  cpuMs: [10, 3_600_000],
  wallMs: [100, 24 * 3_600_000],
  memoryMib: [32, 16_384],
  subrequests: [0, 100_000],
  requestBytes: [0, 100 * 1024 * 1024],
  responseBytes: [1, 64 * 1024 * 1024 * 1024],
  logBytesPerMin: [1_024, 1024 * 1024 * 1024],
}

/** Above which no function of the fleet may be; absent fields: the bounds. */
export type FunctionLimitsCeiling = Partial<Omit<FunctionLimits, 'egress'>>

export type FunctionLimitsCeilingChange = Omit<FunctionLimitsChange, 'egress'>

const HOST_LABELS = /^[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*$/
const EGRESS_HOSTS_MAX = 100
const HOST_CHARS_MAX = 253

/** The limits in force, each layer over the one before it and none above the ceiling. */
export function mergeFunctionLimits(
  ceiling: FunctionLimitsCeiling | undefined,
  ...layers: readonly (FunctionLimitsPatch | undefined)[]
): FunctionLimits {
  const merged = Object.assign({}, DEFAULT_FUNCTION_LIMITS, ...layers) as Record<string, unknown>
  for (const [field, most] of Object.entries(ceiling ?? {})) {
    // A newer release may have ceilings of what this one does not know.
    if (Object.hasOwn(FUNCTION_LIMIT_BOUNDS, field)) merged[field] = Math.min(merged[field] as number, most)
  }
  return merged as unknown as FunctionLimits
}

/**
 * Fields to set, and `null` for those that shall come from the layer below again. Throws `invalid_argument` for what no
 * function may have, and for what is above the ceiling.
 */
export function parseFunctionLimitsPatch(
  patch: Readonly<Record<string, unknown>>,
  ceiling: FunctionLimitsCeiling = {},
): { readonly set: FunctionLimitsPatch; readonly unset: readonly (keyof FunctionLimits)[] } {
  const set: Record<string, unknown> = {}
  const unset: (keyof FunctionLimits)[] = []
  for (const [field, value] of Object.entries(patch)) {
    if (!isField(field)) refuse(`limits have no field ${shown(field)}: the fields are ${fieldList()}`)
    if (value === null) unset.push(field)
    else if (field === 'egress') set[field] = parseEgress(value)
    else set[field] = checkCeiling(field, parseNumber(field, value), ceiling)
  }
  return { set, unset }
}

/** The same of a ceiling. Throws `invalid_argument`. */
export function parseCeilingPatch(patch: Readonly<Record<string, unknown>>): {
  readonly set: FunctionLimitsCeiling
  readonly unset: readonly (keyof FunctionLimitsCeiling)[]
} {
  if (Object.hasOwn(patch, 'egress')) {
    refuse('a ceiling is a number, and egress has none: set it as a limit of the fleet or of a function')
  }
  const { set, unset } = parseFunctionLimitsPatch(patch)
  return { set, unset: unset as readonly NumberField[] }
}

function isField(field: string): field is keyof FunctionLimits {
  return Object.hasOwn(DEFAULT_FUNCTION_LIMITS, field)
}

function fieldList(): string {
  return FUNCTION_LIMIT_FIELDS.join(', ')
}

function refuse(message: string): never {
  throw new IsolaError('invalid_argument', message)
}

/** What a client sent may be anything, and of any length. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 100 ? `${text.slice(0, 100)}…` : text
}

function parseNumber(field: NumberField, value: unknown): number {
  const [low, high] = FUNCTION_LIMIT_BOUNDS[field]
  if (typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high) return value
  return refuse(`limit ${field} is ${shown(value)}: give a whole number from ${low} to ${high}`)
}

/** Throws `invalid_argument` with both values. */
export function checkCeiling(field: NumberField, value: number, ceiling: FunctionLimitsCeiling): number {
  const most = ceiling[field]
  if (most === undefined || value <= most) return value
  return refuse(
    `limit ${field} is ${value} and the fleet's ceiling is ${most}: ask for at most ${most}, or raise the ceiling (isola limits --ceiling)`,
  )
}

function parseEgress(value: unknown): EgressLimit {
  if (value === 'public' || value === 'none') return value
  const hosts: unknown[] = Array.isArray(value) ? value : [value]
  if (hosts.length > EGRESS_HOSTS_MAX) {
    refuse(`limit egress names ${hosts.length} hosts: give at most ${EGRESS_HOSTS_MAX}`)
  }
  if (hosts.length === 0) return 'none'
  return [
    ...new Set(
      hosts.map((host) => {
        const name = typeof host === 'string' ? parseEgressHost(host) : undefined
        if (name !== undefined) return name
        return refuse(
          `limit egress has ${shown(host)}: give "public", "none", or a list of hosts such as "api.example.com" and "*.example.org", without scheme, port or path`,
        )
      }),
    ),
  ]
}

/** As requests spell it: lower case, punycode, addresses in their one form. `undefined` for what is no host. */
function parseEgressHost(text: string): string | undefined {
  const wildcard = text.startsWith('*.')
  const host = wildcard ? text.slice(2) : text
  if (host === '' || host.length > HOST_CHARS_MAX || /[/?#@\\\s%]/.test(host)) return undefined
  const bare = host.replace(/^\[(.*)\]$/, '$1')
  const isAddress = bare.includes(':')
  const url = `http://${isAddress ? `[${bare}]` : bare}/`
  if (!URL.canParse(url)) return undefined
  const { hostname } = new URL(url)
  if (isAddress) return wildcard ? undefined : hostname.slice(1, -1)
  const isWord = hostname === 'public' || hostname === 'none'
  return HOST_LABELS.test(hostname) && !isWord ? `${wildcard ? '*.' : ''}${hostname}` : undefined
}
