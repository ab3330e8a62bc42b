import { readFileSync } from 'node:fs'

let version: string | undefined

/** Of the package this runs from. */
export function isolaVersion(): string {
  version ??= (
    JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  ).version
  return version
}
