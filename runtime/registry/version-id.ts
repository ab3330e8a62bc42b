import { createHash } from 'node:crypto'
import type { VersionContent } from '../../sdk/model/function.ts'

/**
 * The id of a version: first 32 hex digits of the SHA-256 of the canonical JSON of function name and content. The
 * name is part of it, so that no two functions share a version and deleting one cannot take from the other.
 */
export function versionId(functionName: string, content: VersionContent): string {
  return createHash('sha256').update(canonicalJson({ functionName, content })).digest('hex').slice(0, 32)
}

/** JSON with the keys of every object in code-unit order and no spaces: equal values give equal text. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item ?? null)).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`)
  return `{${members.join(',')}}`
}
