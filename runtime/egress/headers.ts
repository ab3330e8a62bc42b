import { SERVICE_HEADERS } from '../pool/inner-door.ts'

/** Hop-by-hop fields (RFC 9110 section 7.6.1) and those that only a proxy or a framing layer may write. */
const NOT_FORWARDED = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** Between an instance and this proxy only. */
const OWN = [SERVICE_HEADERS.service, SERVICE_HEADERS.depth]

/**
 * Fields of a request as they go out, names and values in turn. `Host` is always the target's: a function that passes
 * on the request it got would otherwise carry its own host to every other.
 */
export function requestHeaders(raw: readonly string[], authority: string): string[] {
  return ['Host', authority, ...kept(raw, ['host', 'expect', ...OWN])]
}

/** The same of a call of another function: without what only processes of the node say to each other, in any spelling. */
export function serviceRequestHeaders(raw: readonly string[], authority: string): string[] {
  return ['Host', authority, ...withoutOwn(kept(raw, ['host', 'expect']))]
}

export function serviceResponseHeaders(raw: readonly string[]): string[] {
  return withoutOwn(kept(raw, []))
}

function withoutOwn(raw: readonly string[]): string[] {
  const headers: string[] = []
  for (let index = 0; index + 1 < raw.length; index += 2) {
    if (!/^isola[-_]/i.test(raw[index] ?? '')) headers.push(raw[index] ?? '', raw[index + 1] ?? '')
  }
  return headers
}

/** Fields of a response as they go to the function. A body's length stays; how it was framed does not. */
export function responseHeaders(raw: readonly string[]): string[] {
  return kept(raw, [])
}

function kept(raw: readonly string[], dropped: readonly string[]): string[] {
  const named = new Set(dropped)
  for (let index = 0; index < raw.length; index += 2) {
    if (raw[index]?.toLowerCase() !== 'connection') continue
    for (const token of raw[index + 1]?.split(',') ?? []) named.add(token.trim().toLowerCase())
  }
  // A field that frames the message cannot be dropped by naming it in `Connection`.
  named.delete('content-length')
  const headers: string[] = []
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] ?? ''
    const lowerName = name.toLowerCase()
    if (!NOT_FORWARDED.has(lowerName) && !named.has(lowerName)) headers.push(name, raw[index + 1] ?? '')
  }
  return headers
}
