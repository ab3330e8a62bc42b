/**
 * The head of a request: refused, or made ready to be sent on. node:http has parsed it strictly (bare line feeds,
 * folded lines, length with transfer coding, twice a length: all refused there); what it lets through and another
 * parser might read differently is refused here. Nothing of the client's framing or addressing is passed on as it
 * came: host, length, transfer coding and what is said about the client are written anew.
 */
import type { IncomingMessage } from 'node:http'
import type { ErrorCode } from '../sdk/model/errors.ts'
import type { RouterLimits } from '../sdk/model/limits.ts'
import { INSTANCE_HEADERS } from '../runtime/pool/driver.ts'
import { INNER_DOOR_HEADERS, RPC_HOST } from '../runtime/pool/inner-door.ts'
import type { Refusal } from '../runtime/pool/pool.ts'
import type { Client } from './client.ts'
import { forwardedLines, type ForwardedHeaders } from './forwarded.ts'
import { isCopiedWithin, requestRole, ROLE } from './header-role.ts'
import { isRequestId, isTraceparent, makeRequestId, makeTraceparent } from './request-id.ts'
import { parseHost } from './table/host.ts'

export interface RequestHead {
  readonly method: string
  /** Origin form. */
  readonly target: string
  /** As the table knows it; undefined where the request names no host that could be a function's. */
  readonly host: string | undefined
  readonly hostHeader: string
  /** Request line and headers for the instance, without those of the framing and the empty line. */
  readonly text: string
  /** `undefined`: none was given. */
  readonly contentLength: number | undefined
  readonly chunked: boolean
  readonly requestId: string
  readonly stickyKey: string | undefined
  readonly expectsContinue: boolean
  readonly upgrade: boolean
  /** By the inner door: a connection for calls of the function's methods. */
  readonly rpc: boolean
  /** As node:http has them: names and values in turn. */
  readonly rawHeaders: readonly string[]
  /** By the inner door: what it names instead of a host. */
  readonly inner: InnerTarget | undefined
}

export interface InnerTarget {
  readonly functionName: string
  /** `undefined`: whatever the deployment says. */
  readonly versionId: string | undefined
  /** A function asks for its own static files; of this version. */
  readonly assetsOf?: string | undefined
}

/** `upgrade`: node:http has taken it for a WebSocket handshake, see `isWebSocketHandshake`. */
export function readRequestHead(
  request: IncomingMessage,
  client: Client,
  options: { readonly limits: RouterLimits; readonly upgrade: boolean },
): RequestHead | (Refusal & { readonly requestId: string }) {
  const raw = request.rawHeaders
  const is11 = request.httpVersionMinor === 1 && request.httpVersionMajor === 1
  let lines = ''
  let bytes = 0
  let hosts = 0
  let hostHeader = ''
  let named: string[] | undefined
  let contentLength: number | undefined
  let transferEncoding: string | undefined
  let expect: string | undefined
  let upgrade: string | undefined
  let requestId: string | undefined
  let traceparent: string | undefined
  let tracestate: string | undefined
  let stickyKey: string | undefined
  let forwarded: ForwardedHeaders | undefined
  let innerFunction: string | undefined
  let innerVersion: string | undefined
  let assetsOf: string | undefined

  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index]!
    const value = raw[index + 1]!
    bytes += name.length + value.length + 4
    const role = requestRole(name)
    switch (role) {
      case ROLE.copy:
        lines += `${name}: ${value}\r\n`
        break
      case ROLE.host:
        hosts++
        hostHeader = value
        break
      case ROLE.connection:
        named = namedByConnection(value, named)
        break
      case ROLE.contentLength:
        contentLength = name.includes('_') ? contentLength : parseLength(value)
        break
      case ROLE.transferEncoding:
        if (!name.includes('_'))
          transferEncoding = transferEncoding === undefined ? value : `${transferEncoding}, ${value}`
        break
      case ROLE.expect:
        expect = value
        break
      case ROLE.upgrade:
        upgrade = value
        break
      case ROLE.requestId:
        if (isRequestId(value)) requestId ??= value
        break
      case ROLE.traceparent:
        traceparent = traceparent === undefined && isTraceparent(value) ? value : ''
        break
      case ROLE.tracestate:
        tracestate = tracestate === undefined ? value : `${tracestate},${value}`
        break
      case ROLE.stickyKey:
        stickyKey = value
        break
      case ROLE.forwardedFor:
      case ROLE.forwardedHost:
      case ROLE.forwardedProto:
      case ROLE.proxyOnly:
        if (client.inner) lines += `${name}: ${value}\r\n`
        // Whoever is not our own proxy could say anything about where it comes from.
        else if (client.trusted) forwarded = collectForwarded(forwarded, role, name, value)
        break
      case ROLE.drop: {
        if (!client.inner) break
        const lower = name.toLowerCase()
        if (lower === INNER_DOOR_HEADERS.functionName) innerFunction = joined(innerFunction, value)
        else if (lower === INNER_DOOR_HEADERS.versionId) innerVersion = joined(innerVersion, value)
        else if (lower === INNER_DOOR_HEADERS.assetsOf) assetsOf = joined(assetsOf, value)
        else if (isCopiedWithin(role, name)) lines += `${name}: ${value}\r\n`
      }
    }
  }
  requestId ??= makeRequestId()
  const refuse = (code: ErrorCode, message: string): Refusal & { requestId: string } => ({
    code,
    message,
    requestId,
  })

  const { limits } = options
  if (raw.length > limits.headersCountMax * 2) {
    return refuse('headers_too_large', `the request has more than ${limits.headersCountMax} headers`)
  }
  if (bytes > limits.headerBytesMax) {
    return refuse('headers_too_large', `the request's headers have more than ${limits.headerBytesMax} bytes`)
  }
  const { method } = request
  const url = request.url!
  if (url.length > limits.urlBytesMax) {
    return refuse('uri_too_long', `the request's URL has more than ${limits.urlBytesMax} bytes`)
  }
  if (!is11 && (request.httpVersionMajor !== 1 || request.httpVersionMinor !== 0)) {
    return refuse('bad_request', `HTTP/${request.httpVersion} is not spoken here: use HTTP/1.1`)
  }
  const rpc = client.inner && method === 'CONNECT' && url === RPC_HOST
  if ((method === 'CONNECT' && !rpc) || method === 'TRACE') {
    return refuse('method_not_allowed', `the method ${method} is not served`)
  }
  if (hosts > 1) return refuse('bad_request', `the request has ${hosts} Host headers: send one`)
  if (hosts === 0 && is11) return refuse('bad_request', 'the request has no Host header')
  if (transferEncoding !== undefined) {
    if (!is11) return refuse('bad_request', 'Transfer-Encoding needs HTTP/1.1')
    if (contentLength !== undefined)
      return refuse('bad_request', 'the request has both a length and a transfer coding')
    if (transferEncoding.toLowerCase() !== 'chunked') {
      return refuse(
        'bad_request',
        `Transfer-Encoding ${JSON.stringify(transferEncoding)} is not served: only "chunked" is`,
      )
    }
  }
  if (contentLength === -1) return refuse('bad_request', 'Content-Length is not a number of bytes')
  if (is11 && expect !== undefined && expect.toLowerCase() !== '100-continue') {
    return refuse(
      'expectation_failed',
      `Expect ${JSON.stringify(expect)} cannot be met: only "100-continue" can`,
    )
  }
  if (upgrade !== undefined && is11 && !options.upgrade && wantsWebSocket(upgrade, named)) {
    return refuse('upgrade_refused', 'a WebSocket handshake is a GET with Sec-WebSocket-Key and no body')
  }
  const target = rpc ? '/' : originForm(url, hostHeader)
  if (target === undefined) {
    return refuse(
      'bad_request',
      'the request target is not a path with an optional query, or names another host than Host',
    )
  }
  if (client.inner) {
    if (innerFunction === undefined) {
      return refuse(
        'bad_request',
        `a request by the inner door names its function in the header ${INNER_DOOR_HEADERS.functionName}`,
      )
    }
  } else if (hosts > 0 && hostHeader !== client.hostHeader) {
    const host = parseHost(hostHeader)
    if (host === undefined && !IPV6_HOST.test(hostHeader)) {
      return refuse(
        'bad_request',
        `the Host header ${JSON.stringify(hostHeader)} is not a host name with an optional port`,
      )
    }
    client.hostHeader = hostHeader
    client.host = host
  }

  if (named !== undefined) lines = linesWithout(raw, named, client.inner)
  let text = `${method} ${rpc ? RPC_HOST : target} HTTP/1.1\r\nhost: ${hostHeader}\r\n${lines}`
  text += `${INSTANCE_HEADERS.requestId}: ${requestId}\r\n`
  if (traceparent === undefined || traceparent === '') text += `traceparent: ${makeTraceparent()}\r\n`
  else {
    text += `traceparent: ${traceparent}\r\n`
    if (tracestate !== undefined) text += `tracestate: ${tracestate}\r\n`
  }
  if (innerFunction === undefined) text += forwardedLines(client, hostHeader, forwarded)
  return {
    method: method!,
    target,
    host: hosts > 0 && innerFunction === undefined ? client.host : undefined,
    hostHeader,
    text,
    contentLength,
    chunked: transferEncoding !== undefined,
    requestId,
    stickyKey,
    expectsContinue: is11 && expect !== undefined,
    upgrade: options.upgrade,
    rpc,
    rawHeaders: raw,
    inner:
      innerFunction === undefined
        ? undefined
        : { functionName: innerFunction, versionId: innerVersion, assetsOf },
  }
}

/** Of a header given twice: what names nothing. */
function joined(before: string | undefined, value: string): string {
  return before === undefined ? value : `${before}, ${value}`
}

/**
 * Whether node:http shall hand over the connection. Anything else that asks for an upgrade (h2c, say) is served as
 * the plain request it also is: a tunnel that the instance has not agreed to would carry requests past the router.
 */
export function isWebSocketHandshake(request: IncomingMessage): boolean {
  const { headers } = request
  return (
    request.method === 'GET' &&
    request.httpVersionMajor === 1 &&
    request.httpVersionMinor === 1 &&
    headers.upgrade?.toLowerCase() === 'websocket' &&
    headers['sec-websocket-key'] !== undefined &&
    headers['transfer-encoding'] === undefined &&
    (headers['content-length'] === undefined || headers['content-length'] === '0')
  )
}

const IPV6_HOST = /^\[[0-9a-fA-F:.]{2,45}\](?::\d{0,5})?$/

function wantsWebSocket(upgrade: string, named: readonly string[] | undefined): boolean {
  return upgrade.toLowerCase() === 'websocket' && named !== undefined && named.includes('upgrade')
}

/** -1 for anything but 1 to 15 digits. */
export function parseLength(text: string): number {
  if (text.length === 0 || text.length > 15) return -1
  let length = 0
  for (let index = 0; index < text.length; index++) {
    const digit = text.charCodeAt(index) - 48
    if (digit < 0 || digit > 9) return -1
    length = length * 10 + digit
  }
  return length
}

/** The headers that a Connection header declares hop-by-hop, lower case. The usual values name none. */
function namedByConnection(value: string, before: string[] | undefined): string[] | undefined {
  if (value === 'keep-alive' || value === 'close' || value === 'Keep-Alive' || value === 'Close')
    return before
  const named = before ?? []
  for (const token of value.split(',')) {
    const name = token.trim().toLowerCase()
    if (name !== '' && name !== 'keep-alive' && name !== 'close') named.push(name)
  }
  return named.length === 0 ? undefined : named
}

/** The copied lines once more, without the named headers. */
function linesWithout(raw: readonly string[], named: readonly string[], inner: boolean): string {
  let lines = ''
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index]!
    const role = requestRole(name)
    const isCopied = inner ? isCopiedWithin(role, name) : role === ROLE.copy
    if (isCopied && !named.includes(name.toLowerCase())) lines += `${name}: ${raw[index + 1]!}\r\n`
  }
  return lines
}

/**
 * The target as a path and query; `undefined` for what is neither that nor an absolute URL of the Host header's host.
 * Only visible ASCII, no fragment: node:http refuses most others, but not all.
 */
function originForm(url: string, hostHeader: string): string | undefined {
  for (let index = 0; index < url.length; index++) {
    const code = url.charCodeAt(index)
    if (code <= 32 || code >= 127 || code === HASH) return undefined
  }
  if (url.charCodeAt(0) === SLASH) return url
  const start = url.startsWith('http://') ? 7 : url.startsWith('https://') ? 8 : -1
  if (start === -1) return undefined
  let end = start
  while (end < url.length && url.charCodeAt(end) !== SLASH && url.charCodeAt(end) !== QUESTION) end++
  const authority = url.slice(start, end)
  if (authority === '' || authority.toLowerCase() !== hostHeader.toLowerCase()) return undefined
  const rest = url.slice(end)
  return rest.charCodeAt(0) === SLASH ? rest : `/${rest}`
}

const HASH = 35
const SLASH = 47
const QUESTION = 63

function collectForwarded(
  before: ForwardedHeaders | undefined,
  role: number,
  name: string,
  value: string,
): ForwardedHeaders {
  const headers = before ?? { for: undefined, host: undefined, proto: undefined, others: '' }
  if (role === ROLE.forwardedFor) headers.for = headers.for === undefined ? value : `${headers.for}, ${value}`
  else if (role === ROLE.forwardedHost) headers.host = value
  else if (role === ROLE.forwardedProto) headers.proto = value
  else headers.others += `${name}: ${value}\r\n`
  return headers
}
