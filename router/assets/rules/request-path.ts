/**
 * The path of a request as static files are found by. `raw` is what the URL parser of a browser makes of it (dot segments
 * gone, `\` a slash), which rules are compared with; `decoded` is what the manifest is asked for; `canonical` is the one
 * spelling that a file is served at, and any other is sent there. No path leads out of the manifest, as it is a map.
 */
export interface RequestPath {
  readonly raw: string
  readonly decoded: string
  readonly canonical: string
  /** With its `?`, or empty. */
  readonly search: string
}

/** Nearly all paths are in all three forms at once: no URL is parsed and nothing is decoded. */
export function readRequestPath(target: string): RequestPath {
  const end = plainPathEnd(target)
  if (end !== -1) {
    const raw = end === target.length ? target : target.slice(0, end)
    return { raw, decoded: raw, canonical: raw, search: end === target.length ? '' : target.slice(end) }
  }
  const { pathname, search } = new URL(`http://host${target}`)
  const decoded = decodePath(pathname)
  return { raw: pathname, decoded, canonical: encodePath(decoded), search }
}

export function encodePath(path: string): string {
  return path
    .split('/')
    .map((segment) => encodeURIComponent(segment.toWellFormed()))
    .join('/')
}

function decodePath(path: string): string {
  return path.split('/').map(decodeSegment).join('/').replaceAll(/\/+/g, '/')
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    // No UTF-8: it names no file, but a rule may still speak of it.
    return segment
  }
}

/** Characters that `encodeURIComponent` leaves alone. */
const PLAIN = new Uint8Array(128)
for (const character of "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()/")
  PLAIN[character.charCodeAt(0)] = 1
const SLASH = 47
const DOT = 46
const QUESTION = 63

/** Where the path ends, or -1 where it has to be parsed. */
function plainPathEnd(target: string): number {
  let previous = 0
  for (let index = 0; index < target.length; index++) {
    const code = target.charCodeAt(index)
    // A lone `?` is no search to the parser.
    if (code === QUESTION) return index + 1 === target.length ? -1 : index
    if (code > 126 || PLAIN[code] === 0) return -1
    if (previous === SLASH && (code === SLASH || code === DOT)) return -1
    previous = code
  }
  return target.length
}
