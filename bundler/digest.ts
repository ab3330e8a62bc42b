import { createHash } from 'node:crypto'
import type { Module } from '../sdk/model/bundle.ts'

/**
 * Lower-case hex SHA-256 of the JSON of `[name, kind, sha256 of the body]` for each module, in the order of names.
 * The order of `modules` does not matter.
 */
export function digestModules(modules: readonly Module[]): string {
  const manifest = sortModules(modules).map(({ name, kind, body }) => [name, kind, sha256(body)])
  return sha256(JSON.stringify(manifest))
}

/** By name, in the order of code units: the same in every locale. */
export function sortModules(modules: readonly Module[]): Module[] {
  return modules.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
}

function sha256(body: Uint8Array | string): string {
  return createHash('sha256').update(body).digest('hex')
}
