/**
 * Errors as AWS's clients expect them: the name in a header, both spellings of the message in the body, because some
 * exceptions of the SDK read the one and some the other. Names that AWS has are used wherever one fits.
 */
import { ERRORS, isIsolaError, type ErrorCode } from '../../sdk/model/errors.ts'

const STATUS_BY_NAME = {
  AccessDeniedException: 403,
  CodeStorageExceededException: 400,
  IncompleteSignatureException: 403,
  InvalidParameterValueException: 400,
  InvalidRequestContentException: 400,
  InvalidSignatureException: 403,
  MissingAuthenticationTokenException: 403,
  PreconditionFailedException: 412,
  ProvisionedConcurrencyConfigNotFoundException: 404,
  RequestEntityTooLargeException: 413,
  RequestTooLargeException: 413,
  ResourceConflictException: 409,
  ResourceNotFoundException: 404,
  SerializationException: 400,
  ServiceException: 500,
  TooManyRequestsException: 429,
  UnknownOperationException: 404,
  UnrecognizedClientException: 403,
  /** Not AWS's: what AWS has and isola has not. */
  UnsupportedOperationException: 400,
  ValidationException: 400,
} as const

export type ApiErrorName = keyof typeof STATUS_BY_NAME

export interface ApiErrorOptions {
  readonly cause?: unknown
  /** Of `TooManyRequestsException`. */
  readonly reason?: string
  readonly retryAfterS?: number
}

export class ApiError extends Error {
  readonly reason: string | undefined
  readonly retryAfterS: number | undefined

  constructor(name: ApiErrorName, message: string, options: ApiErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = name
    this.reason = options.reason
    this.retryAfterS = options.retryAfterS
  }

  get status(): number {
    return STATUS_BY_NAME[this.name as ApiErrorName]
  }
}

/** What operations of the control API refuse with, by AWS's names. */
const NAME_BY_CODE: Partial<Record<ErrorCode, ApiErrorName>> = {
  invalid_argument: 'InvalidParameterValueException',
  config_invalid: 'InvalidParameterValueException',
  config_unsupported: 'InvalidParameterValueException',
  version_refused: 'InvalidParameterValueException',
  bundle_too_large: 'InvalidParameterValueException',
  image_not_found: 'InvalidParameterValueException',
  image_unusable: 'InvalidParameterValueException',
  bad_request: 'InvalidRequestContentException',
  conflict: 'ResourceConflictException',
  route_taken: 'ResourceConflictException',
  function_not_found: 'ResourceNotFoundException',
  version_not_found: 'ResourceNotFoundException',
  no_deployment: 'ResourceNotFoundException',
  body_too_large: 'RequestEntityTooLargeException',
  storage_full: 'CodeStorageExceededException',
}

/** `undefined` for what is a fault of the node and not to be shown. */
export function knownApiError(error: unknown): ApiError | undefined {
  if (error instanceof ApiError) return error
  if (!isIsolaError(error) || error.code === 'internal') return undefined
  const name = NAME_BY_CODE[error.code]
  if (name !== undefined) return new ApiError(name, error.message, { cause: error })
  const kind: { readonly status: number; readonly retryAfterS?: number } = ERRORS[error.code]
  return new ApiError('ServiceException', `${error.message} (${error.code})`, {
    cause: error,
    ...(kind.retryAfterS !== undefined && { retryAfterS: kind.retryAfterS }),
  })
}

export function apiErrorResponse(error: unknown, requestId: string): Response {
  const known =
    knownApiError(error) ??
    new ApiError(
      'ServiceException',
      `something failed inside the node: look for request ${requestId} in its log`,
    )
  const { name, message, status, reason, retryAfterS } = known
  const body = {
    Type: status >= 500 ? 'Service' : 'User',
    Message: message,
    message,
    ...(reason !== undefined && { Reason: reason }),
  }
  return new Response(JSON.stringify(body), {
    status,
    headers: {
      'content-type': 'application/json',
      'x-amzn-errortype': name,
      ...(retryAfterS !== undefined && { 'retry-after': String(retryAfterS) }),
    },
  })
}
