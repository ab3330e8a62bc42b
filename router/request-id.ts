/**
 * Ids of requests and of traces. Unique, not secret: a random head made once a process and a counter, because a
 * random number a request costs more than routing does.
 */
import { randomBytes, randomInt } from 'node:crypto'

const ID_CHARS_MAX = 128

const idHead = `${randomBytes(6).toString('hex')}-`
const traceHead = randomBytes(8).toString('hex')
let counter = 0
let count8 = ''
let random8 = ''

export function makeRequestId(): string {
  step()
  return idHead + count8
}

/** What a client may call its request: 1 to 128 of `A-Z a-z 0-9 . _ -`. */
export function isRequestId(text: string): boolean {
  if (text.length === 0 || text.length > ID_CHARS_MAX) return false
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    const isLetter = (code | 32) >= 97 && (code | 32) <= 122
    const isDigitDotDash = (code >= 48 && code <= 57) || code === 45 || code === 46
    if (!isLetter && !isDigitDotDash && code !== 95) return false
  }
  return true
}

/** W3C trace context, sampled: the router's own log line is the first record of the trace. */
export function makeTraceparent(): string {
  step()
  return `00-${traceHead}${random8}${count8}-${count8}${random8}-01`
}

/** To hexadecimal is the dear part, so the random one serves 4,096 times. */
function step(): void {
  counter = (counter + 1) >>> 0
  if ((counter & 4_095) === 1) random8 = hex8(randomInt(TWO_TO_32))
  count8 = hex8(counter)
}

const TWO_TO_32 = 0x1_0000_0000

function hex8(number: number): string {
  return HEX[number >>> 24]! + HEX[(number >>> 16) & 255]! + HEX[(number >>> 8) & 255]! + HEX[number & 255]!
}

const HEX = Array.from({ length: 256 }, (_, byte) => (256 + byte).toString(16).slice(1))

/** Version 00 exactly, and of a later version what version 00 says about it (W3C trace context §3.2, §4). */
export function isTraceparent(text: string): boolean {
  return TRACEPARENT.test(text) && (text.length === 55 || !text.startsWith('00'))
}

const TRACEPARENT =
  /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,200})?$/
