import { IsolaError } from '../../sdk/model/errors.ts'
import { REGISTRY_LIMITS } from '../../sdk/model/limits.ts'

const CHARACTERS = /^[A-Za-z0-9._/-]+$/

/**
 * Every driver takes exactly these keys, so that what one machine's disk accepts, S3 accepts too. Segments that a
 * file system would read as "here" or "up" are refused. Throws `invalid_argument`.
 */
export function checkObjectKey(key: string): void {
  const problem = keyProblem(key)
  if (problem === undefined) return
  throw new IsolaError(
    'invalid_argument',
    `object key ${JSON.stringify(key.slice(0, 80))} ${problem}: use 1 to ${REGISTRY_LIMITS.keyBytesMax} of a-z A-Z 0-9 . _ - in segments divided by "/"`,
  )
}

/** A prefix may be empty and may end inside a segment or after a "/". Throws `invalid_argument`. */
export function checkKeyPrefix(prefix: string): void {
  if (prefix !== '') checkObjectKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix)
}

/** Throws `invalid_argument` for a body no bucket has to take. */
export function checkObjectSize(key: string, body: Uint8Array): void {
  if (body.byteLength <= REGISTRY_LIMITS.objectBytesMax) return
  throw new IsolaError(
    'invalid_argument',
    `object "${key}" has ${body.byteLength} bytes, more than the ${REGISTRY_LIMITS.objectBytesMax} an object may have: divide it`,
  )
}

function keyProblem(key: string): string | undefined {
  if (key === '') return 'is empty'
  if (key.length > REGISTRY_LIMITS.keyBytesMax) return `has ${key.length} bytes`
  if (!CHARACTERS.test(key)) return 'has other characters than it may'
  for (const segment of key.split('/')) {
    if (segment === '' || segment === '.' || segment === '..') return `has the segment "${segment}"`
  }
  return undefined
}
