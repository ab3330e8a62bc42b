/**
 * The ways in which AWS's clients name a function: `name`, `name:qualifier`, `account:function:name[:qualifier]`, and
 * whole ARNs. Account and region of an ARN are not looked at: there is one of each here, and clients make them up.
 */
import { ApiError } from './api-error.ts'
import type { Call } from './call.ts'

const ACCOUNT_ID = '000000000000'
export const LATEST = '$LATEST'

export interface FunctionReference {
  readonly name: string
  /** A number, the name of an alias, or `$LATEST`. */
  readonly qualifier?: string
}

const REFERENCE =
  /^(?:arn:aws[a-z-]*:lambda:[a-z0-9-]*:\d{12}:function:|(?:\d{12}:)?(?:function:)?)([A-Za-z0-9_-]{1,64})(?::(\$LATEST|[A-Za-z0-9_-]{1,128}))?$/
const QUALIFIER = /^(?:\$LATEST|[A-Za-z0-9_-]{1,128})$/

/** Throws `ValidationException`. */
export function parseFunctionReference(text: string): FunctionReference {
  const [, name, qualifier] = REFERENCE.exec(text) ?? []
  if (name === undefined) {
    throw new ApiError(
      'ValidationException',
      `1 validation error detected: Value '${text.slice(0, 140)}' at 'functionName' failed to satisfy constraint: give a name, name:qualifier, or an ARN such as arn:aws:lambda:us-east-1:${ACCOUNT_ID}:function:name`,
    )
  }
  return { name, ...(qualifier !== undefined && { qualifier }) }
}

/** Of a call's path and its `Qualifier`. Throws `ValidationException` and `InvalidParameterValueException`. */
export function referenceOf(call: Call): FunctionReference {
  const reference = parseFunctionReference(call.parameters['FunctionName'] ?? '')
  const asked = call.url.searchParams.get('Qualifier')
  if (asked === null || asked === '') return reference
  if (!QUALIFIER.test(asked)) {
    throw new ApiError(
      'ValidationException',
      `1 validation error detected: Value '${asked.slice(0, 140)}' at 'qualifier' failed to satisfy constraint: give a version's number, the name of an alias, or ${LATEST}`,
    )
  }
  if (reference.qualifier !== undefined && reference.qualifier !== asked) {
    throw new ApiError(
      'InvalidParameterValueException',
      `The derived qualifier from the function name does not match the specified qualifier: "${reference.qualifier}" and "${asked}".`,
    )
  }
  return { name: reference.name, qualifier: asked }
}

/** Of a call that changes the function itself. Throws `InvalidParameterValueException`. */
export function unqualifiedName(call: Call): string {
  const { name, qualifier } = referenceOf(call)
  if (qualifier === undefined || qualifier === LATEST) return name
  throw new ApiError(
    'InvalidParameterValueException',
    `This operation is not permitted on a version or an alias ("${qualifier}"): leave out the qualifier.`,
  )
}

export function functionArn(call: Pick<Call, 'region'>, name: string, qualifier?: string): string {
  const suffix = qualifier === undefined ? '' : `:${qualifier}`
  return `arn:aws:lambda:${call.region}:${ACCOUNT_ID}:function:${name}${suffix}`
}

export function functionNotFound(call: Pick<Call, 'region'>, name: string, qualifier?: string): ApiError {
  return new ApiError(
    'ResourceNotFoundException',
    `Function not found: ${functionArn(call, name, qualifier)}`,
  )
}
