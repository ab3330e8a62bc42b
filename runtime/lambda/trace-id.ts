import { randomBytes } from 'node:crypto'

/** X-Ray's form of the request's trace, so that the spans of a function join those of its caller. */
export function traceIdOf(headers: {
  readonly amazon: string | undefined
  readonly traceparent: string | undefined
}): string {
  if (headers.amazon !== undefined && AMAZON.test(headers.amazon)) return headers.amazon
  const match = headers.traceparent === undefined ? null : W3C.exec(headers.traceparent)
  if (match !== null) {
    const [, trace = '', parent = '', flags = '0'] = match
    const sampled = Number.parseInt(flags, 16) & 1
    return `Root=1-${trace.slice(0, 8)}-${trace.slice(8)};Parent=${parent};Sampled=${sampled}`
  }
  const random = randomBytes(20).toString('hex')
  const seconds = Math.floor(Date.now() / 1000).toString(16)
  return `Root=1-${seconds}-${random.slice(0, 24)};Parent=${random.slice(24)};Sampled=0`
}

const AMAZON = /^Root=1-[0-9a-f]{8}-[0-9a-f]{24}(?:;[A-Za-z]{1,20}=[\w:.-]{0,100}){0,8}$/
const W3C = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})/
