/**
 * Every error that isola can give, in one table. Clients match on `code`; `status` is what HTTP answers carry.
 * `fault` says whose it is: `user` (the request, the function, the configuration) or `system` (this node).
 * `retryAfterS` is sent as `Retry-After` where trying again later can help.
 */
interface ErrorKind {
  readonly status: number
  readonly fault: 'user' | 'system'
  readonly retryAfterS?: number
}

export const ERRORS = {
  // Router: the request itself.
  bad_request: { status: 400, fault: 'user' },
  route_not_found: { status: 404, fault: 'user' },
  version_not_found: { status: 404, fault: 'user' },
  request_timeout: { status: 408, fault: 'user' },
  body_too_large: { status: 413, fault: 'user' },
  uri_too_long: { status: 414, fault: 'user' },
  expectation_failed: { status: 417, fault: 'user' },
  headers_too_large: { status: 431, fault: 'user' },
  method_not_allowed: { status: 405, fault: 'user' },
  upgrade_refused: { status: 400, fault: 'user' },
  // Router: no place for it.
  rate_limited: { status: 429, fault: 'user', retryAfterS: 1 },
  quota_exceeded: { status: 429, fault: 'user', retryAfterS: 1 },
  queue_full: { status: 429, fault: 'user', retryAfterS: 1 },
  queue_timeout: { status: 503, fault: 'system', retryAfterS: 1 },
  start_failed: { status: 503, fault: 'user', retryAfterS: 5 },
  crash_loop: { status: 503, fault: 'user', retryAfterS: 10 },
  node_full: { status: 503, fault: 'system', retryAfterS: 2 },
  no_deployment: { status: 503, fault: 'user' },
  draining: { status: 503, fault: 'system', retryAfterS: 1 },
  /** A static file that is not on this node yet, or is damaged. */
  asset_unavailable: { status: 503, fault: 'system', retryAfterS: 1 },
  too_many_connections: { status: 503, fault: 'system', retryAfterS: 1 },
  // Router: the function ran, or may have.
  function_threw: { status: 500, fault: 'user' },
  cpu_limit_exceeded: { status: 503, fault: 'user' },
  memory_limit_exceeded: { status: 503, fault: 'user' },
  /** A function of protocol `lambda` answered with an error, or with what is no response. */
  function_failed: { status: 502, fault: 'user' },
  function_timeout: { status: 504, fault: 'user' },
  instance_crashed: { status: 502, fault: 'user' },
  invalid_response: { status: 502, fault: 'user' },
  response_timeout: { status: 504, fault: 'user' },
  wall_limit_exceeded: { status: 504, fault: 'user' },
  response_too_large: { status: 502, fault: 'user' },
  /** Of a log line: what a function wrote beyond its limit is dropped. */
  log_limit_exceeded: { status: 429, fault: 'user' },
  // Egress: what a function's own fetch or connect was answered.
  subrequest_limit_exceeded: { status: 429, fault: 'user' },
  egress_refused: { status: 403, fault: 'user' },
  egress_failed: { status: 502, fault: 'user' },
  /** Functions that call each other in a circle. */
  loop_detected: { status: 508, fault: 'user' },
  // Bundler and configuration.
  config_not_found: { status: 400, fault: 'user' },
  config_invalid: { status: 400, fault: 'user' },
  config_unsupported: { status: 400, fault: 'user' },
  build_failed: { status: 400, fault: 'user' },
  bundle_too_large: { status: 413, fault: 'user' },
  // Control API.
  invalid_argument: { status: 400, fault: 'user' },
  unauthorized: { status: 401, fault: 'user' },
  not_found: { status: 404, fault: 'user' },
  function_not_found: { status: 404, fault: 'user' },
  route_taken: { status: 409, fault: 'user' },
  conflict: { status: 409, fault: 'user' },
  digest_mismatch: { status: 400, fault: 'user' },
  blob_missing: { status: 409, fault: 'user' },
  version_refused: { status: 422, fault: 'user' },
  // Containers.
  engine_unavailable: { status: 503, fault: 'system', retryAfterS: 5 },
  image_not_found: { status: 404, fault: 'user' },
  image_unusable: { status: 400, fault: 'user' },
  // Command line.
  usage: { status: 400, fault: 'user' },
  // Node.
  node_unreachable: { status: 503, fault: 'system' },
  already_running: { status: 409, fault: 'user' },
  address_in_use: { status: 409, fault: 'user' },
  data_unusable: { status: 500, fault: 'system' },
  storage_full: { status: 507, fault: 'system' },
  unsupported_machine: { status: 500, fault: 'system' },
  internal: { status: 500, fault: 'system' },
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERRORS

/** The one error type that crosses module borders. Match on `code`, never on `instanceof`. */
export class IsolaError extends Error {
  readonly code: ErrorCode
  /** Extra values a client can read, e.g. the build's diagnostics. JSON only. */
  readonly details: Readonly<Record<string, unknown>> | undefined

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; details?: Readonly<Record<string, unknown>> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'IsolaError'
    this.code = code
    this.details = options.details
  }

  get status(): number {
    return ERRORS[this.code].status
  }
}

/** True for anything that carries one of our codes, also across process and realm borders. */
export function isIsolaError(error: unknown): error is IsolaError {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    Object.hasOwn(ERRORS, error.code)
  )
}

/** The JSON body of every error that isola itself answers with, at the router and at the control API. */
export interface ErrorBody {
  readonly error: {
    readonly code: ErrorCode
    readonly message: string
    readonly requestId: string
    readonly details?: Readonly<Record<string, unknown>>
  }
}
