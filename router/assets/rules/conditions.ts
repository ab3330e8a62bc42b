/**
 * What of a file a request gets, by its conditions (RFC 9110 §13, §14): all of it, nothing because the client has it, or
 * one range. Of several ranges all is given, which a server may always do.
 */
export interface Conditions {
  readonly ifNoneMatch: string | undefined
  readonly ifRange: string | undefined
  readonly range: string | undefined
}

export type Portion =
  | { readonly type: 'whole' }
  | { readonly type: 'not-modified' }
  /** `end` is not part of it. */
  | { readonly type: 'range'; readonly start: number; readonly end: number }
  | { readonly type: 'unsatisfiable' }

const WHOLE: Portion = { type: 'whole' }

/** `etag` strong, with its quotes. */
export function portionOf(
  file: { readonly etag: string; readonly sizeBytes: number },
  { ifNoneMatch, ifRange, range }: Conditions,
  options: { readonly isHead: boolean },
): Portion {
  if (ifNoneMatch !== undefined && hasTag(ifNoneMatch, file.etag)) return { type: 'not-modified' }
  // A date is never the validator that this file was given with.
  if (range === undefined || options.isHead || (ifRange !== undefined && ifRange !== file.etag)) return WHOLE
  return readRange(range, file.sizeBytes)
}

/** Weak comparison: `W/` in front changes nothing. */
function hasTag(list: string, etag: string): boolean {
  if (list === etag || list === '*') return true
  let from = list.indexOf(etag)
  while (from !== -1) {
    const before = list.charAt(from - 1)
    const after = list.charAt(from + etag.length)
    if (['', ' ', ',', '/', '\t'].includes(before) && ['', ' ', ',', '\t'].includes(after)) return true
    from = list.indexOf(etag, from + etag.length)
  }
  return false
}

const RANGE = /^bytes=[ \t]*(\d{0,15})-(\d{0,15})[ \t]*$/i

function readRange(text: string, sizeBytes: number): Portion {
  const found = RANGE.exec(text)
  if (found === null) return WHOLE
  const [, first = '', last = ''] = found
  if (first === '' && last === '') return WHOLE
  if (first === '') {
    const length = Math.min(Number(last), sizeBytes)
    return length === 0
      ? { type: 'unsatisfiable' }
      : { type: 'range', start: sizeBytes - length, end: sizeBytes }
  }
  const start = Number(first)
  if (last !== '' && Number(last) < start) return WHOLE
  if (start >= sizeBytes) return { type: 'unsatisfiable' }
  return { type: 'range', start, end: last === '' ? sizeBytes : Math.min(Number(last) + 1, sizeBytes) }
}
