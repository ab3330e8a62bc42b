import { OWN_PREFIX, responseRole, ROLE } from '../header-role.ts'
import { parseLength } from '../request-head.ts'
import { INSTANCE_HEADERS } from '../../runtime/pool/driver.ts'

/** The head of an instance's response, parsed once into what `writeHead` takes. */
export interface ResponseHead {
  readonly status: number
  readonly reason: string
  /** Names and values in turn, hop-by-hop and framing headers left out. To be added to. */
  readonly headers: string[]
  readonly contentLength: number | undefined
  readonly chunked: boolean
  /** The instance will take another request on this connection. */
  readonly keepAlive: boolean
  /** What the instance's own runtime says went wrong. */
  readonly error: string | undefined
  readonly upgrade: string | undefined
}

/**
 * `text` up to `end`, which is where the empty line begins. Returns what is wrong with it as a string. Characters of
 * names and values are left to `writeHead`, which checks them anyway. `isInner`: what is said between processes of this
 * node is kept.
 */
export function parseResponseHead(
  text: string,
  end: number,
  options: { readonly isInner: boolean },
): ResponseHead | string {
  const lineEnd = indexOrEnd(text.indexOf('\r\n'), end)
  const minor = text.charCodeAt(7) - 48
  if (!text.startsWith('HTTP/1.') || (minor !== 1 && minor !== 0) || text.charCodeAt(8) !== SPACE) {
    return 'its first line is not one of HTTP/1.1'
  }
  const status = parseLength(text.slice(9, 12))
  const after = lineEnd > 12 ? text.charCodeAt(12) : SPACE
  if (status < 100 || status > 599 || after !== SPACE || lineEnd < 12)
    return 'its status is not a number from 100 to 599'

  const headers: string[] = []
  let contentLength: number | undefined
  let chunked = false
  let keepAlive = minor === 1
  let error: string | undefined
  let upgrade: string | undefined
  let named: string[] | undefined
  for (let start = lineEnd + 2; start < end;) {
    const stop = indexOrEnd(text.indexOf('\r\n', start), end)
    const colon = text.indexOf(':', start)
    if (colon === -1 || colon >= stop) return 'a header line has no colon'
    const name = text.slice(start, colon)
    let from = colon + 1
    let to = stop
    while (from < to && isBlank(text.charCodeAt(from))) from++
    while (to > from && isBlank(text.charCodeAt(to - 1))) to--
    const value = text.slice(from, to)
    start = stop + 2
    switch (responseRole(name)) {
      case ROLE.copy:
        headers.push(name, value)
        break
      case ROLE.contentLength:
        if (contentLength !== undefined) return 'it has two lengths'
        contentLength = parseLength(value)
        if (contentLength === -1) return 'its length is not a number of bytes'
        break
      case ROLE.transferEncoding:
        if (chunked || value.toLowerCase() !== 'chunked') return 'its transfer coding is not "chunked"'
        chunked = true
        break
      case ROLE.connection:
        for (const token of value.toLowerCase().split(',')) {
          const option = token.trim()
          if (option === 'close') keepAlive = false
          else if (option !== 'keep-alive' && option !== 'upgrade') named = [...(named ?? []), option]
        }
        break
      case ROLE.upgrade:
        upgrade = value
        break
      case ROLE.drop: {
        const lower = name.toLowerCase()
        if (lower === INSTANCE_HEADERS.error) error = value
        if (options.isInner && lower.startsWith(OWN_PREFIX)) headers.push(name, value)
        break
      }
      default:
    }
  }
  if (chunked && contentLength !== undefined) return 'it has both a length and a transfer coding'
  if (chunked && minor === 0) return 'it has a transfer coding in HTTP/1.0'
  return {
    status,
    reason: lineEnd > 13 ? text.slice(13, lineEnd) : '',
    headers: named === undefined ? headers : without(headers, named),
    contentLength,
    chunked,
    keepAlive,
    error,
    upgrade,
  }
}

const SPACE = 32
const TAB = 9

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB
}

function indexOrEnd(index: number, end: number): number {
  return index === -1 || index > end ? end : index
}

function without(headers: readonly string[], named: readonly string[]): string[] {
  const kept: string[] = []
  for (let index = 0; index < headers.length; index += 2) {
    if (!named.includes(headers[index]!.toLowerCase())) kept.push(headers[index]!, headers[index + 1]!)
  }
  return kept
}
