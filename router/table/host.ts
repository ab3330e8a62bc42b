import { ROUTER_LIMITS } from '../../sdk/model/limits.ts'

/**
 * The host a request names, in the one spelling that the table knows: lower case, no port, no trailing dot.
 * `undefined` where it is no host name: empty, too long, an IPv6 literal, an empty label, a character that no name
 * has, a port that is not a number. Functions live on names only, so such a request is not ours to guess about.
 * The common case returns its argument: nothing is allocated.
 */
export function parseHost(header: string): string | undefined {
  let end = header.length
  let upper = false
  let labelStart = 0
  let last = 0
  for (let index = 0; index < end; index++) {
    const code = header.charCodeAt(index)
    if ((code >= 97 && code <= 122) || (code >= 48 && code <= 57) || code === DASH || code === UNDERSCORE) {
      last = code
      continue
    }
    if (code >= 65 && code <= 90) upper = true
    else if (code === DOT) {
      if (index === labelStart) return undefined
      labelStart = index + 1
    } else if (code === COLON) {
      if (!isPort(header, index + 1)) return undefined
      end = index
      break
    } else return undefined
    last = code
  }
  if (last === DOT) end--
  if (end === 0 || end > ROUTER_LIMITS.hostCharsMax) return undefined
  const host = end === header.length ? header : header.slice(0, end)
  return upper ? host.toLowerCase() : host
}

const DASH = 45
const DOT = 46
const COLON = 58
const UNDERSCORE = 95

/** An empty port is a port (RFC 3986 §3.2.3). */
function isPort(header: string, start: number): boolean {
  if (header.length - start > 5) return false
  for (let index = start; index < header.length; index++) {
    const code = header.charCodeAt(index)
    if (code < 48 || code > 57) return false
  }
  return true
}
