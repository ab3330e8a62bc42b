import { CloudflareError } from './api-error.ts'

/** A version's id as wrangler wants it: its 32 hex digits with the hyphens of a UUID. */
export function versionUuid(id: string): string {
  return id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** The id of a version that a client names in either form. Throws `versionNotFound` for what cannot be one. */
export function parseVersionUuid(text: string): string {
  const id = text.toLowerCase().replaceAll('-', '')
  if (/^[0-9a-f]{32}$/.test(id)) return id
  throw new CloudflareError(
    'versionNotFound',
    `${JSON.stringify(text.slice(0, 64))} is no version id: give it as "wrangler versions list" prints it`,
  )
}
