import { parse as parseTolerantly, printParseErrorCode, type ParseError } from 'jsonc-parser'
import type { z } from 'zod'
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'

/** The body, refused as soon as it is known to be too long: never held. Throws `body_too_large`, `bad_request`. */
export async function readBody(request: Request, bytesMax: number): Promise<Uint8Array> {
  const declaredBytes = Number(request.headers.get('content-length') ?? '0')
  if (declaredBytes > bytesMax) throw tooLarge(`${declaredBytes} bytes`, bytesMax)
  const chunks: Uint8Array[] = []
  let totalBytes = 0
  try {
    for await (const chunk of (request.body ?? []) as AsyncIterable<Uint8Array>) {
      totalBytes += chunk.byteLength
      if (totalBytes > bytesMax) throw tooLarge('more bytes', bytesMax)
      chunks.push(chunk)
    }
  } catch (error) {
    if (isIsolaError(error)) throw error
    throw new IsolaError('bad_request', 'the request body ended early: send it again', { cause: error })
  }
  return Buffer.concat(chunks, totalBytes)
}

/** The body as the schema has it; an empty one is `{}`. Throws `invalid_argument` that says where it is wrong. */
export async function readJson<T>(request: Request, schema: z.ZodType<T>): Promise<T> {
  const body = await readBody(request, CONTROL_LIMITS.jsonBytesMax)
  const result = schema.safeParse(parseJson(body))
  if (result.success) return result.data
  throw new IsolaError('invalid_argument', `the request body is not right: ${describeIssues(result.error)}`, {
    details: { issues: result.error.issues.map(({ path, message }) => ({ path: path.join('.'), message })) },
  })
}

function tooLarge(size: string, bytesMax: number): IsolaError {
  return new IsolaError(
    'body_too_large',
    `the request body has ${size}, and ${bytesMax} is the most: send less`,
  )
}

/** Throws `invalid_argument` that says where it is wrong, or that it is nested too deep. Nothing is `{}`. */
export function parseJson(body: Uint8Array): unknown {
  if (body.byteLength === 0) return {}
  checkDepth(body)
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body)) as unknown
  } catch (error) {
    throw new IsolaError('invalid_argument', `the request body is not JSON: ${jsonProblem(body, error)}`, {
      cause: error,
    })
  }
}

/** Before anything recursive sees it: what checks, spells or stores a value would end the call stack. */
function checkDepth(body: Uint8Array): void {
  let depth = 0
  let inString = false
  for (let index = 0; index < body.length; index++) {
    const byte = body[index]
    if (inString) {
      if (byte === BACKSLASH) index++
      else if (byte === QUOTE) inString = false
    } else if (byte === QUOTE) inString = true
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth--
    if (depth > CONTROL_LIMITS.jsonDepthMax) {
      throw new IsolaError(
        'invalid_argument',
        `the request body is nested deeper than ${CONTROL_LIMITS.jsonDepthMax} levels: write it flatter`,
      )
    }
  }
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** V8 tells the position only of some errors in some texts; the tolerant parser tells it of all. */
function jsonProblem(body: Uint8Array, error: unknown): string {
  const text = Buffer.from(body).toString('utf8')
  const found: ParseError[] = []
  parseTolerantly(text, found, { disallowComments: true })
  const [first] = found
  if (first === undefined) return (error as Error).message
  const before = text.slice(0, first.offset).split('\n')
  const column = (before.at(-1)?.length ?? 0) + 1
  return `${printParseErrorCode(first.error)} at line ${before.length}, column ${column}`
}

function describeIssues(error: z.ZodError): string {
  const issuesMax = 5
  const lines = error.issues.slice(0, issuesMax).map(({ path, message }) => {
    return path.length === 0 ? message : `${path.join('.')}: ${message}`
  })
  const more = error.issues.length - lines.length
  return lines.join('; ') + (more > 0 ? `; and ${more} more` : '')
}
