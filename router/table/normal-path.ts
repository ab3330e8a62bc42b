/**
 * Paths as routes compare them. The function always receives the bytes of the client; only the comparison sees a path
 * in its normal form. Without one, a function on `example/admin/*` that checks who comes in could be walked around,
 * through a function on `example/*`, as `/%61dmin/`, `//admin/`, `/./admin/`, `/x/../admin/` or `/\admin/`: the
 * URL parser in the function, and the site behind it, take all of these for `/admin/`.
 *
 * The normal form is Cloudflare's default for the URLs that Workers routes see: unreserved characters are decoded
 * (RFC 3986 §6.2.2.2), `\` is `/`, dot segments are removed, runs of `/` are one. `%2F`, `%5C` and `%25` stay as they
 * are: a slash that was encoded separates nothing. Dot segments go before runs of slashes are merged, as the WHATWG
 * parser counts empty segments: `/a//../b` is `/a/b` to the function, so it is `/a/b` here.
 */

const SLASH = 47
const DOT = 46
const PERCENT = 37
const BACKSLASH = 92
const QUESTION = 63
const HASH = 35

/** Where the path of a request target ends (before `?` or `#`), or -1 if the path is not in its normal form. */
export function normalPathEnd(target: string): number {
  let previous = 0
  for (let index = 0; index < target.length; index++) {
    const code = target.charCodeAt(index)
    if (code === QUESTION || code === HASH) return index
    if (code === PERCENT || code === BACKSLASH || code <= 32 || code > 126) return -1
    // "/.well-known" takes the slow way too; it is rare enough.
    if (previous === SLASH && (code === SLASH || code === DOT)) return -1
    previous = code
  }
  return target.length
}

/** The normal form of a target's path, without query and fragment. Allocates: for targets that are not normal. */
export function normalPath(target: string): string {
  return mergeSlashes(removeDotSegments(decodeUnreserved(target)))
}

/** The normal form of a pattern's path; the last piece of a prefix is the start of a segment, not a segment. */
export function normalPatternPath(pattern: { readonly path: string; readonly prefixPath: boolean }): string {
  // A person writes "/café"; on the wire it is UTF-8, escaped.
  const wire = pattern.path.toWellFormed().replaceAll(/[^\p{ASCII}]+/gu, encodeURIComponent)
  if (!pattern.prefixPath) return normalPath(wire)
  const decoded = decodeUnreserved(wire)
  const start = decoded.lastIndexOf('/') + 1
  return mergeSlashes(removeDotSegments(decoded.slice(0, start)) + decoded.slice(start))
}

const UNRESERVED = /[A-Za-z0-9\-._~]/

/** Reads up to `?` or `#`. A character is a byte of the wire (latin1), as `node:http` gives them. */
function decodeUnreserved(target: string): string {
  let path = ''
  for (let index = 0; index < target.length; index++) {
    const code = target.charCodeAt(index)
    if (code === QUESTION || code === HASH) break
    if (code === PERCENT) {
      const byte = hexByte(target, index + 1)
      if (byte === undefined) {
        path += '%'
        continue
      }
      const character = String.fromCharCode(byte)
      path += UNRESERVED.test(character) ? character : escapeByte(byte)
      index += 2
    } else if (code === BACKSLASH) path += '/'
    else if (code <= 32 || code > 126) path += escapeByte(code)
    else path += target[index]
  }
  return path
}

function removeDotSegments(path: string): string {
  if (!path.includes('/.')) return path
  const kept: string[] = []
  const segments = path.split('/')
  const last = segments.length - 1
  for (const [index, segment] of segments.entries()) {
    if (segment === '.' || segment === '..') {
      if (segment === '..' && kept.length > 1) kept.pop()
      if (index === last) kept.push('')
    } else kept.push(segment)
  }
  return kept.join('/')
}

function mergeSlashes(path: string): string {
  return path.includes('//') ? path.replaceAll(/\/{2,}/g, '/') : path
}

function hexByte(text: string, index: number): number | undefined {
  const high = hexDigit(text.charCodeAt(index))
  const low = hexDigit(text.charCodeAt(index + 1))
  return high === -1 || low === -1 ? undefined : high * 16 + low
}

/** -1 for anything else, also for the NaN beyond the end. */
function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48
  const lower = code | 32
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}

function escapeByte(byte: number): string {
  return `%${byte < 16 ? '0' : ''}${byte.toString(16).toUpperCase()}`
}
