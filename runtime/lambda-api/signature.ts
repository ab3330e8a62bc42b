/**
 * Whether a request was signed with a key of the operator's, as AWS checks it, with AWS's own words where it is not: the
 * clients print them, and people look them up. The signature's form and its key are looked at before the body is read, so
 * that who has no key cannot make the node hold a large one.
 */
import { timingSafeEqual } from 'node:crypto'
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { ApiError } from './api-error.ts'
import { ALGORITHM, sha256Hex, signatureOf, type SigningScope } from './canonical-request.ts'

export interface SignedRequest {
  readonly method: string
  readonly url: URL
  readonly headers: Headers
}

/** What a request says of its signature. */
export interface Signature {
  readonly accessKeyId: string
  readonly scope: SigningScope
  readonly amzDate: string
  readonly signedHeaders: readonly string[]
  readonly signature: string
  /** Of a presigned URL. */
  readonly expiresS?: number
}

/** From the header `authorization` or the query. Throws by AWS's names; all are 403. */
export function readSignature({ url, headers }: SignedRequest): Signature {
  const authorization = headers.get('authorization')
  if (authorization === null) {
    if (url.searchParams.has('X-Amz-Signature') || url.searchParams.has('X-Amz-Credential')) {
      return readPresigned(url.searchParams, headers)
    }
    throw new ApiError('MissingAuthenticationTokenException', 'Missing Authentication Token')
  }
  if (!authorization.startsWith(`${ALGORITHM} `)) {
    throw new ApiError(
      'IncompleteSignatureException',
      `Authorization must be of "${ALGORITHM}": sign requests with a key that "isola keys create" made.`,
    )
  }
  const fields = new Map(
    authorization
      .slice(ALGORITHM.length + 1)
      .split(',')
      .map((field) => {
        const equals = field.indexOf('=')
        return [field.slice(0, equals).trim(), field.slice(equals + 1).trim()] as const
      }),
  )
  const amzDate = headers.get('x-amz-date') ?? basicDate(headers.get('date'))
  const missing = ['Credential', 'Signature', 'SignedHeaders']
    .filter((name) => !fields.get(name))
    .map((name) => `Authorization header requires '${name}' parameter.`)
  if (amzDate === undefined) {
    missing.push("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
  }
  if (missing.length > 0) throw new ApiError('IncompleteSignatureException', missing.join(' '))
  return checkForm({
    ...readCredential(fields.get('Credential') ?? ''),
    amzDate: amzDate ?? '',
    signedHeaders: (fields.get('SignedHeaders') ?? '').toLowerCase().split(';'),
    signature: fields.get('Signature') ?? '',
    sessionToken: headers.get('x-amz-security-token'),
  })
}

/** Throws by AWS's names. */
export function checkSignature(options: {
  readonly request: SignedRequest
  readonly signature: Signature
  readonly body: Uint8Array
  readonly secretAccessKey: string
  readonly nowMs: number
}): void {
  const { request, signature, body, secretAccessKey, nowMs } = options
  checkTime(signature, nowMs)
  const bodyHash = sha256Hex(body)
  const claimedHash = request.headers.get('x-amz-content-sha256')
  if (claimedHash !== null && claimedHash !== bodyHash) {
    throw invalid(
      'The x-amz-content-sha256 of the request is not the SHA-256 of its body: sign the body, and send it as it was signed.',
    )
  }
  const wanted = signatureOf({
    parts: {
      method: request.method,
      path: request.url.pathname,
      query: request.url.search.slice(1),
      headers: request.headers,
      signedHeaders: signature.signedHeaders,
      bodyHash,
    },
    scope: signature.scope,
    amzDate: signature.amzDate,
    secretAccessKey,
  })
  if (timingSafeEqual(Buffer.from(wanted), Buffer.from(signature.signature))) return
  throw invalid(
    'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
  )
}

function readPresigned(query: URLSearchParams, headers: Headers): Signature {
  const names = ['Algorithm', 'Credential', 'Signature', 'SignedHeaders', 'Date', 'Expires']
  const missing = names.filter((name) => !query.get(`X-Amz-${name}`))
  if (missing.length > 0) {
    throw new ApiError(
      'IncompleteSignatureException',
      missing.map((name) => `AWS query-string parameters must include 'X-Amz-${name}'.`).join(' '),
    )
  }
  if (query.get('X-Amz-Algorithm') !== ALGORITHM) {
    throw new ApiError('IncompleteSignatureException', `X-Amz-Algorithm must be "${ALGORITHM}".`)
  }
  const expiresS = Number(query.get('X-Amz-Expires'))
  if (!Number.isInteger(expiresS) || expiresS < 1 || expiresS > LAMBDA_API_LIMITS.presignedSMax) {
    throw new ApiError(
      'IncompleteSignatureException',
      `X-Amz-Expires must be a whole number of seconds from 1 to ${LAMBDA_API_LIMITS.presignedSMax}.`,
    )
  }
  const signature = checkForm({
    ...readCredential(query.get('X-Amz-Credential') ?? ''),
    amzDate: query.get('X-Amz-Date') ?? '',
    signedHeaders: (query.get('X-Amz-SignedHeaders') ?? '').toLowerCase().split(';'),
    signature: query.get('X-Amz-Signature') ?? '',
    sessionToken: query.get('X-Amz-Security-Token') ?? headers.get('x-amz-security-token'),
  })
  return { ...signature, expiresS }
}

function readCredential(text: string): Pick<Signature, 'accessKeyId' | 'scope'> {
  const elements = text.split('/')
  const [accessKeyId = '', date = '', region = '', service = '', term = ''] = elements
  if (elements.length !== 5) {
    throw new ApiError(
      'IncompleteSignatureException',
      `Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '${text.slice(0, 200)}'`,
    )
  }
  const wrong = [
    ...(service === 'lambda' ? [] : ["Credential should be scoped to correct service: 'lambda'."]),
    ...(term === 'aws4_request'
      ? []
      : ["Credential should be scoped with a valid terminator: 'aws4_request'."]),
    ...(/^[a-z0-9-]{1,64}$/.test(region) ? [] : ['Credential should be scoped to a valid region.']),
  ]
  if (wrong.length > 0) throw invalid(wrong.join(' '))
  return { accessKeyId, scope: { date, region, service } }
}

function checkForm(read: Signature & { readonly sessionToken: string | null }): Signature {
  const { sessionToken, ...signature } = read
  const { amzDate, scope, signedHeaders } = signature
  if (!/^\d{8}T\d{6}Z$/.test(amzDate)) {
    throw new ApiError(
      'IncompleteSignatureException',
      `Date must be in ISO-8601 'basic format'. Got '${amzDate.slice(0, 40)}'. See http://en.wikipedia.org/wiki/ISO_8601`,
    )
  }
  if (!amzDate.startsWith(scope.date) || scope.date.length !== 8) {
    throw invalid(
      `Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '${scope.date.slice(0, 20)}' != '${amzDate.slice(0, 8)}', from ${amzDate}.`,
    )
  }
  if (!signedHeaders.includes('host')) {
    throw invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
  }
  // Keys here have no sessions: what carries a token was meant for AWS itself.
  if (sessionToken !== null) throw unrecognizedClient()
  if (!/^[0-9a-f]{64}$/.test(signature.signature)) {
    throw invalid(
      'The request signature we calculated does not match the signature you provided: it is no SHA-256 in lower-case hex digits.',
    )
  }
  return signature
}

export function unrecognizedClient(): ApiError {
  return new ApiError('UnrecognizedClientException', 'The security token included in the request is invalid.')
}

function checkTime({ amzDate, expiresS }: Signature, nowMs: number): void {
  const signedMs = Date.parse(
    amzDate.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'),
  )
  const { clockSkewMsMax } = LAMBDA_API_LIMITS
  const now = basicDate(new Date(nowMs).toISOString())
  if (!(signedMs <= nowMs + clockSkewMsMax)) {
    const latest = basicDate(new Date(nowMs + clockSkewMsMax).toISOString())
    throw invalid(`Signature not yet current: ${amzDate} is still later than ${latest} (${now} + 15 min.)`)
  }
  const lastingMs = expiresS === undefined ? clockSkewMsMax : expiresS * 1_000
  if (signedMs + lastingMs >= nowMs) return
  const earliest = basicDate(new Date(nowMs - lastingMs).toISOString())
  const lasting = expiresS === undefined ? '15 min.' : `${expiresS} s`
  throw invalid(`Signature expired: ${amzDate} is now earlier than ${earliest} (${now} - ${lasting})`)
}

/** `YYYYMMDDTHHMMSSZ`. */
export function basicDate(text: string | null): string | undefined {
  if (text === null) return undefined
  const ms = Date.parse(text)
  if (Number.isNaN(ms)) return text
  return new Date(ms).toISOString().replaceAll(/[-:]|\.\d{3}/g, '')
}

function invalid(message: string): ApiError {
  return new ApiError('InvalidSignatureException', message)
}
