/**
 * Errors as Cloudflare's clients expect them: wrangler acts on the code of the first error and prints its message, and the
 * SDK inside it goes by the HTTP status, which therefore is never 2xx. Codes that Cloudflare has are used wherever one
 * fits; wrangler does not know the others, and prints them.
 */
import { ERRORS, isIsolaError, type ErrorCode } from '../../sdk/model/errors.ts'

/** Number and status of each, by what it says. */
export const CLOUDFLARE_ERRORS = {
  authentication: { code: 10000, status: 401 },
  /** Of calls that ask who one is: wrangler makes them after every `authentication`, and would go round in a circle. */
  unknownToken: { code: 9109, status: 401 },
  /** Another account than the node's. */
  forbidden: { code: 10000, status: 403 },
  malformed: { code: 10001, status: 400 },
  scriptNotFound: { code: 10007, status: 404 },
  fault: { code: 10013, status: 500 },
  routeTaken: { code: 10020, status: 409 },
  /** wrangler maps the frames in its message back to the sources. */
  invalidScript: { code: 10021, status: 400 },
  tooLarge: { code: 10027, status: 413 },
  conflict: { code: 10035, status: 409 },
  invalidInherit: { code: 10057, status: 400 },
  serviceNotFound: { code: 10090, status: 404 },
  scriptNotInNamespace: { code: 10092, status: 404 },
  /** "The latest version is not the deployed one": a change of a secret would put it into service. */
  latestNotDeployed: { code: 10214, status: 409 },
  /** Going back would also take back secrets. wrangler asks, and sends it again with `force`. */
  secretsChanged: { code: 10220, status: 409 },
  noVersions: { code: 10222, status: 404 },
  versionNotFound: { code: 100146, status: 404 },
  noRoute: { code: 7003, status: 404 },
  noMethod: { code: 7001, status: 405 },
} as const

export type CloudflareErrorKind = keyof typeof CLOUDFLARE_ERRORS

export interface CloudflareErrorOptions {
  readonly cause?: unknown
  /** Of the first error, where wrangler reads one. JSON only. */
  readonly meta?: unknown
  readonly retryAfterS?: number
  /** @default that of the kind */
  readonly status?: number
  /** A number of Cloudflare's that only one endpoint answers with. @default that of the kind */
  readonly code?: number
}

/** What an endpoint throws to answer with an error; the first argument names it in `CLOUDFLARE_ERRORS`. */
export class CloudflareError extends Error {
  readonly code: number
  readonly status: number
  readonly meta: unknown
  readonly retryAfterS: number | undefined

  constructor(kind: CloudflareErrorKind, message: string, options: CloudflareErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'CloudflareError'
    this.code = options.code ?? CLOUDFLARE_ERRORS[kind].code
    this.status = options.status ?? CLOUDFLARE_ERRORS[kind].status
    this.meta = options.meta
    this.retryAfterS = options.retryAfterS
  }
}

/** What operations of the control API refuse with. */
const KIND_BY_CODE: Partial<Record<ErrorCode, CloudflareErrorKind>> = {
  unauthorized: 'authentication',
  bad_request: 'malformed',
  invalid_argument: 'invalidScript',
  config_invalid: 'invalidScript',
  config_unsupported: 'invalidScript',
  version_refused: 'invalidScript',
  build_failed: 'invalidScript',
  blob_missing: 'invalidScript',
  digest_mismatch: 'invalidScript',
  bundle_too_large: 'tooLarge',
  body_too_large: 'tooLarge',
  function_not_found: 'scriptNotFound',
  not_found: 'scriptNotFound',
  version_not_found: 'versionNotFound',
  route_taken: 'routeTaken',
  conflict: 'conflict',
}

/** `undefined` for what is a fault of the node and not to be shown. */
export function knownError(error: unknown): CloudflareError | undefined {
  if (error instanceof CloudflareError) return error
  if (!isIsolaError(error) || error.code === 'internal') return undefined
  const kind = KIND_BY_CODE[error.code]
  if (kind !== undefined) return new CloudflareError(kind, error.message, { cause: error })
  const { status, retryAfterS }: { readonly status: number; readonly retryAfterS?: number } =
    ERRORS[error.code]
  return new CloudflareError('fault', `${error.message} (${error.code})`, {
    cause: error,
    status,
    ...(retryAfterS !== undefined && { retryAfterS }),
  })
}
