/** An HTTP request as the event of a Function URL (payload format 2.0). */
import { isUtf8 } from 'node:buffer'

export interface UrlRequest {
  readonly method: string
  /** As it was received. */
  readonly target: string
  /** Names and values in turn. */
  readonly rawHeaders: readonly string[]
  readonly body: Buffer
  readonly functionName: string
  readonly requestId: string
  readonly traceId: string
  readonly nowMs: number
}

export function functionUrlEvent(request: UrlRequest): Buffer {
  const { method, target, body, functionName, requestId, nowMs } = request
  const queryStart = target.indexOf('?')
  const rawPath = queryStart === -1 ? target : target.slice(0, queryStart)
  const rawQueryString = queryStart === -1 ? '' : target.slice(queryStart + 1)
  const { headers, cookies } = readHeaders(request.rawHeaders)
  addForwarded(headers, request.traceId)
  const domainName = withoutPort(headers.host ?? '')
  const isText = body.length > 0 && isTextType(headers['content-type']) && isUtf8(body)
  const event = {
    version: '2.0',
    routeKey: '$default',
    rawPath,
    rawQueryString,
    ...(cookies.length > 0 ? { cookies } : {}),
    headers,
    ...(rawQueryString === '' ? {} : { queryStringParameters: queryParameters(rawQueryString) }),
    requestContext: {
      accountId: 'anonymous',
      apiId: functionName,
      authentication: null,
      domainName,
      domainPrefix: domainName.split('.', 1)[0],
      http: {
        method,
        path: rawPath,
        protocol: 'HTTP/1.1',
        sourceIp: headers['x-real-ip'] ?? headers['x-forwarded-for']?.split(',', 1)[0]?.trim() ?? '127.0.0.1',
        userAgent: headers['user-agent'] ?? '',
      },
      requestId,
      routeKey: '$default',
      stage: '$default',
      time: clfTime(nowMs),
      timeEpoch: nowMs,
    },
    ...(body.length > 0 ? { body: body.toString(isText ? 'utf8' : 'base64') } : {}),
    isBase64Encoded: body.length > 0 && !isText,
  }
  return Buffer.from(JSON.stringify(event))
}

type Headers = Record<string, string>

function readHeaders(raw: readonly string[]): { headers: Headers; cookies: string[] } {
  // No prototype: a header may have any name.
  const headers = Object.create(null) as Headers
  const cookies: string[] = []
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index]!.toLowerCase()
    const value = raw[index + 1]!
    if (name === 'cookie') {
      for (const pair of value.split(';')) if (pair.trim() !== '') cookies.push(pair.trim())
    } else if (!NOT_SHOWN.has(name) && !name.startsWith('isola-')) {
      const before = headers[name]
      headers[name] = before === undefined ? value : `${before},${value}`
    }
  }
  return { headers, cookies }
}

/** Of the connection between router and door, and what AWS has under another name. */
const NOT_SHOWN = new Set([
  'connection',
  'expect',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
  'x-request-id',
  'cf-connecting-ip',
])

function addForwarded(headers: Headers, traceId: string): void {
  headers['x-amzn-trace-id'] = traceId
  const proto = (headers['x-forwarded-proto'] ??= 'http')
  const port = /:(\d+)$/.exec(headers.host ?? '')?.[1]
  headers['x-forwarded-port'] ??= port ?? (proto === 'https' ? '443' : '80')
}

function withoutPort(host: string): string {
  return host.replace(/:\d*$/, '')
}

function isTextType(contentType: string | undefined): boolean {
  if (contentType === undefined) return false
  const type = contentType.split(';', 1)[0]!.trim().toLowerCase()
  return (
    type.startsWith('text/') ||
    type === 'application/json' ||
    type === 'application/xml' ||
    type === 'application/javascript' ||
    type.endsWith('+json') ||
    type.endsWith('+xml')
  )
}

function queryParameters(query: string): Record<string, string> {
  const parameters = Object.create(null) as Record<string, string>
  for (const pair of query.split('&')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    const name = decode(equals === -1 ? pair : pair.slice(0, equals))
    const value = equals === -1 ? '' : decode(pair.slice(equals + 1))
    const before = parameters[name]
    parameters[name] = before === undefined ? value : `${before},${value}`
  }
  return parameters
}

/** What is not percent-encoded as it should be stays as it is. */
function decode(text: string): string {
  const spaced = text.replaceAll('+', ' ')
  try {
    return decodeURIComponent(spaced)
  } catch {
    return spaced
  }
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** `07/Sep/2021:22:50:22 +0000`: the common log format's. */
function clfTime(nowMs: number): string {
  const iso = new Date(nowMs).toISOString()
  const month = MONTHS[Number(iso.slice(5, 7)) - 1]
  return `${iso.slice(8, 10)}/${month}/${iso.slice(0, 4)}:${iso.slice(11, 19)} +0000`
}
