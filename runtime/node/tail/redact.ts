/**
 * What of a request is not shown to who tails it: secrets that clients send, as Cloudflare leaves them out. Values of
 * headers whose names say so, and parts of URLs that look like ids or tokens.
 */
const REDACTED = 'REDACTED'
const SECRET_NAME = /auth|key|secret|token|jwt|^cookie$|^set-cookie$/i

export function redactHeader(name: string, value: string): string {
  return SECRET_NAME.test(name) ? REDACTED : value
}

/** Words of a URL: what is between its delimiters. */
const WORD = /[A-Za-z0-9_-]{21,}/g
const HEX_DIGITS_MIN = 32

export function redactUrl(url: string): string {
  return url.replace(WORD, (word) => (isHexId(word) || isBase64Id(word) ? REDACTED : word))
}

function isHexId(word: string): boolean {
  const digits = word.replace(/[-_]/g, '')
  return digits.length >= HEX_DIGITS_MIN && /^[0-9a-fA-F]+$/.test(digits)
}

/** Words of a language rarely have two each of capitals, small letters and digits. */
function isBase64Id(word: string): boolean {
  const letters = word.replace(/[-_]/g, '')
  const has = (pattern: RegExp): boolean => (letters.match(pattern)?.length ?? 0) >= 2
  return letters.length >= 21 && has(/[A-Z]/g) && has(/[a-z]/g) && has(/\d/g)
}
