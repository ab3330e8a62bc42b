/** What a function returned, as the response of a Function URL (payload format 2.0). */
import { validateHeaderName, validateHeaderValue } from 'node:http'
import { LAMBDA_LIMITS } from '../../sdk/model/limits.ts'

export interface UrlResponse extends UrlResponseHead {
  readonly body: Buffer
}

export interface UrlResponseHead {
  readonly status: number
  /** Names and values in turn. */
  readonly headers: readonly string[]
}

/** Returns what is wrong with it as a string. A result without `statusCode` is the body itself, as JSON. */
export function functionUrlResponse(result: Buffer): UrlResponse | string {
  // Runtimes made of a shell script answer so where they have nothing to say.
  if (result.length === 0) return { status: 200, headers: JSON_TYPE, body: result }
  let value: unknown
  try {
    value = JSON.parse(result.toString('utf8'))
  } catch (error) {
    return `it is not JSON: ${(error as Error).message}`
  }
  if (!isRecord(value) || value.statusCode === undefined) {
    return { status: 200, headers: JSON_TYPE, body: result }
  }
  const head = readHead(value, 'application/json')
  if (typeof head === 'string') return head
  const body = readBody(value)
  return typeof body === 'string' ? body : { ...head, body }
}

const JSON_TYPE = ['content-type', 'application/json']

/** Of a streamed response. Returns what is wrong with it as a string. */
export function readPrelude(prelude: Buffer): UrlResponseHead | string {
  let value: unknown
  try {
    value = JSON.parse(prelude.toString('utf8'))
  } catch (error) {
    return `its prelude is not JSON: ${(error as Error).message}`
  }
  if (!isRecord(value)) return 'its prelude is no object'
  return readHead({ statusCode: 200, ...value }, 'application/octet-stream')
}

/** What stands between prelude and body. */
export const PRELUDE_END = Buffer.alloc(8)
export const NO_PRELUDE = `its prelude does not end within ${LAMBDA_LIMITS.preludeBytesMax} bytes`

/** A streamed response that was collected. Returns what is wrong with it as a string. */
export function splitPrelude(whole: Buffer): UrlResponse | string {
  const end = whole.subarray(0, LAMBDA_LIMITS.preludeBytesMax + PRELUDE_END.length).indexOf(PRELUDE_END)
  if (end === -1) return NO_PRELUDE
  const head = readPrelude(whole.subarray(0, end))
  return typeof head === 'string' ? head : { ...head, body: whole.subarray(end + PRELUDE_END.length) }
}

type Fields = Readonly<Record<string, unknown>>

function readHead(fields: Fields, defaultType: string): UrlResponseHead | string {
  const status = Number(fields.statusCode)
  const isNumber = typeof fields.statusCode === 'number' || typeof fields.statusCode === 'string'
  if (!isNumber || !Number.isInteger(status) || status < 200 || status > 599) {
    return `statusCode is ${shown(fields.statusCode)}: give a number from 200 to 599`
  }
  const headers: string[] = []
  const given = fields.headers ?? {}
  if (!isRecord(given)) return `headers is ${shown(given)}: give an object of names and values`
  let hasType = false
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined) continue
    if (typeof value === 'object') return `header ${shown(name)} is ${shown(value)}: give a string`
    const lower = name.toLowerCase()
    if (lower === 'content-type') hasType = true
    const problem = add(headers, name, `${value as string | number | boolean}`)
    if (problem !== undefined) return problem
  }
  const cookies = fields.cookies ?? []
  if (!Array.isArray(cookies)) return `cookies is ${shown(cookies)}: give an array of strings`
  for (const cookie of cookies as unknown[]) {
    if (typeof cookie !== 'string') return `a cookie is ${shown(cookie)}: give a string`
    const problem = add(headers, 'set-cookie', cookie)
    if (problem !== undefined) return problem
  }
  if (!hasType && status !== 204 && status !== 304) {
    headers.push('content-type', defaultType)
  }
  return { status, headers }
}

/** Framing is the door's own, and `isola-` headers speak to the router. */
const NOT_TAKEN = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

function add(headers: string[], name: string, value: string): string | undefined {
  try {
    validateHeaderName(name)
    validateHeaderValue(name, value)
  } catch {
    return `header ${shown(name)} has characters that no header may have`
  }
  const lower = name.toLowerCase()
  if (!NOT_TAKEN.has(lower) && !lower.startsWith('isola-')) headers.push(lower, value)
  return undefined
}

/** Returns what is wrong with it as a string. */
function readBody({ body, isBase64Encoded }: Fields): Buffer | string {
  if (isBase64Encoded !== undefined && isBase64Encoded !== null && typeof isBase64Encoded !== 'boolean') {
    return `isBase64Encoded is ${shown(isBase64Encoded)}: give true or false`
  }
  if (body === undefined || body === null) return Buffer.alloc(0)
  if (typeof body === 'object') return `body is ${shown(body)}: give a string, e.g. of JSON.stringify`
  const text = `${body as string | number | boolean}`
  if (isBase64Encoded !== true) return Buffer.from(text)
  if (!BASE64.test(text)) return 'body is not base64, and isBase64Encoded says it is'
  return Buffer.from(text, 'base64')
}

const BASE64 = /^[A-Za-z0-9+/\-_\s]*={0,2}\s*$/

function isRecord(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 100 ? `${text.slice(0, 100)}…` : text
}
