/**
 * AWS Signature Version 4: what is signed, and how. Both ends compute the same text from a request; what they do not
 * agree on makes every signature wrong, so it is written from the specification ("Create a signed AWS API request"):
 * paths are encoded once more than they are sent, query parameters are sorted by their encoded names, values of headers
 * lose outer spaces and double ones.
 */
import { createHash, createHmac } from 'node:crypto'

export const ALGORITHM = 'AWS4-HMAC-SHA256'

export interface SigningScope {
  /** `YYYYMMDD`. */
  readonly date: string
  readonly region: string
  readonly service: string
}

export interface CanonicalParts {
  readonly method: string
  /** As it is sent. */
  readonly path: string
  /** As it is sent, without `?`. */
  readonly query: string
  readonly headers: Headers
  /** In lower case. */
  readonly signedHeaders: readonly string[]
  readonly bodyHash: string
}

/** Hex. */
export function signatureOf(options: {
  readonly parts: CanonicalParts
  readonly scope: SigningScope
  /** `YYYYMMDDTHHMMSSZ`. */
  readonly amzDate: string
  readonly secretAccessKey: string
}): string {
  const { parts, scope, amzDate, secretAccessKey } = options
  const text = [ALGORITHM, amzDate, scopeText(scope), sha256Hex(canonicalRequest(parts))].join('\n')
  const key = [scope.date, scope.region, scope.service, 'aws4_request'].reduce<Buffer | string>(
    (key, part) => createHmac('sha256', key).update(part).digest(),
    `AWS4${secretAccessKey}`,
  )
  return createHmac('sha256', key).update(text).digest('hex')
}

export function scopeText({ date, region, service }: SigningScope): string {
  return `${date}/${region}/${service}/aws4_request`
}

export function sha256Hex(body: Uint8Array | string): string {
  return createHash('sha256').update(body).digest('hex')
}

function canonicalRequest(parts: CanonicalParts): string {
  const names = parts.signedHeaders.toSorted()
  const headers = names.map((name) => `${name}:${canonicalValue(parts.headers.get(name) ?? '')}\n`)
  return [
    parts.method,
    canonicalPath(parts.path),
    canonicalQuery(parts.query),
    headers.join(''),
    names.join(';'),
    parts.bodyHash,
  ].join('\n')
}

function canonicalPath(path: string): string {
  return path.split('/').map(encodeStrictly).join('/')
}

function canonicalQuery(query: string): string {
  return query
    .split('&')
    .filter((pair) => pair !== '')
    .map((pair) => {
      const equals = pair.indexOf('=')
      const [name, value] = equals < 0 ? [pair, ''] : [pair.slice(0, equals), pair.slice(equals + 1)]
      return [encodeStrictly(decoded(name)), encodeStrictly(decoded(value))] as const
    })
    .filter(([name]) => name !== 'X-Amz-Signature')
    .sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : x > y ? 1 : 0))
    .map(([name, value]) => `${name}=${value}`)
    .join('&')
}

function canonicalValue(value: string): string {
  return value.trim().replaceAll(/ +/g, ' ')
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    // What is not encoded right is signed as it stands, or not at all.
    return text
  }
}

/** RFC 3986: all but letters, digits and `-._~`. */
export function encodeStrictly(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}
