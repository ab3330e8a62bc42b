import { ASSET_LIMITS } from '../../../sdk/model/limits.ts'

/** The lines of `_headers` and `_redirects` that say something, without blanks around them. */
export function ruleLines(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#') && line.length <= ASSET_LIMITS.ruleLineCharsMax)
}

/** A path, or `https://host/path`, as the URL parser spells it; `undefined` for anything else. */
export function ruleUrl(
  text: string,
  options: { readonly withSearch: boolean },
): { readonly text: string; readonly isAbsolute: boolean } | undefined {
  const [, host, rest = ''] = /^https:\/\/+([^/]+)\/?(.*)/.exec(text) ?? []
  if (host === undefined && !text.startsWith('/')) return undefined
  const path = host === undefined ? text : `/${rest}`
  if (!URL.canParse(`http://host${path}`)) return undefined
  const { pathname, search, hash } = new URL(`http://host${path}`)
  const end = options.withSearch ? search + hash : ''
  return {
    text: `${host === undefined ? '' : `https://${host}`}${pathname}${end}`,
    isAbsolute: host !== undefined,
  }
}
