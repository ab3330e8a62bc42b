import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { ApiError } from './api-error.ts'
import type { Call } from './call.ts'

export interface ListPage<T> {
  readonly items: readonly T[]
  /** Where the next page begins; absent at the end. */
  readonly next?: string
}

/**
 * The page that `Marker` and `MaxItems` ask for. A marker is the key of the last item before it, so what is made or
 * removed between two pages shifts nothing. Throws `ValidationException`.
 */
export function listPage<T>(call: Call, items: readonly T[], keyOf: (item: T) => string): ListPage<T> {
  const { searchParams } = call.url
  const asked = searchParams.get('MaxItems')
  const count = asked === null || asked === '' ? LAMBDA_API_LIMITS.itemsPerPageMax : Number(asked)
  if (!Number.isInteger(count) || count < 1 || count > 10_000) {
    throw new ApiError(
      'ValidationException',
      `1 validation error detected: Value '${asked?.slice(0, 40)}' at 'maxItems' failed to satisfy constraint: Member must be a whole number from 1 to 10000`,
    )
  }
  const marker = searchParams.get('Marker')
  const after = marker ? Buffer.from(marker, 'base64url').toString('utf8') : undefined
  const sorted = items.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
  const rest = after === undefined ? sorted : sorted.filter((item) => keyOf(item) > after)
  const page = rest.slice(0, Math.min(count, LAMBDA_API_LIMITS.itemsPerPageMax))
  const last = page.at(-1)
  if (last === undefined || page.length === rest.length) return { items: page }
  return { items: page, next: Buffer.from(keyOf(last)).toString('base64url') }
}

/** Sorts numbers as numbers, and `$LATEST` before them. */
export function versionKey(number: number | undefined): string {
  return number === undefined ? '' : String(number).padStart(10, '0')
}
