import { SERVICE_HEADERS } from '../../runtime/pool/inner-door.ts'
import type { Conditions } from './rules/conditions.ts'

/** What of a request's headers static files look at. */
export interface FileRequest extends Conditions {
  readonly isNavigation: boolean
  /** It carries credentials. */
  readonly isAuthorized: boolean
  /** A function calls a named entrypoint of this one: that is code. Only to be believed of the inner door. */
  readonly namesEntrypoint: boolean
}

/** One pass; names are lower-cased where their length is one of those that matter. */
export function readFileRequest(raw: readonly string[]): FileRequest {
  let ifNoneMatch: string | undefined
  let ifRange: string | undefined
  let range: string | undefined
  let isNavigation = false
  let isAuthorized = false
  let namesEntrypoint = false
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index]!
    const { length } = name
    if (length !== 5 && length !== 8 && length !== 13 && length !== 14 && length !== 16) continue
    const value = raw[index + 1]!
    switch (name.toLowerCase()) {
      case 'range':
        // Twice: no range that could be told.
        range = range === undefined ? value : ''
        break
      case 'if-range':
        ifRange = ifRange === undefined ? value : ''
        break
      case 'if-none-match':
        ifNoneMatch = ifNoneMatch === undefined ? value : `${ifNoneMatch}, ${value}`
        break
      case 'sec-fetch-mode':
        isNavigation = value === 'navigate'
        break
      case 'authorization':
        isAuthorized = true
        break
      case SERVICE_HEADERS.entrypoint:
        namesEntrypoint = true
        break
      default:
    }
  }
  return { ifNoneMatch, ifRange, range, isNavigation, isAuthorized, namesEntrypoint }
}
