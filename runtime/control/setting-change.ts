/**
 * What every change of a policy, of limits and of the ceiling is: a patch over what is set, recorded with who and when in
 * the same swap that makes it. What changes nothing is recorded nowhere.
 */
import { isDeepStrictEqual } from 'node:util'
import { IsolaError } from '../../sdk/model/errors.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import type { SettingChange } from '../../sdk/model/settings.ts'

/** A patch as a client sent it, not yet parsed, and who sent it. */
export interface ChangeRequest {
  readonly patch: Readonly<Record<string, unknown>>
  readonly by: string
}

interface Patch<T> {
  readonly set: T
  readonly unset: readonly (keyof T)[]
}

/** What is set after a patch, with the change to record; `undefined` where it changes nothing. */
export function applyPatch<T extends object>(
  current: T,
  patch: Patch<T>,
  author: Pick<SettingChange, 'at' | 'by' | 'what'>,
): { readonly next: T; readonly change: SettingChange } | undefined {
  const next = { ...current }
  const before: Record<string, unknown> = {}
  const after: Record<string, unknown> = {}
  const note = (field: keyof T & string): void => {
    before[field] = current[field] ?? null
    after[field] = next[field] ?? null
  }
  for (const field of Object.keys(patch.set) as (keyof T & string)[]) {
    if (isDeepStrictEqual(current[field], patch.set[field])) continue
    next[field] = patch.set[field]
    note(field)
  }
  for (const field of patch.unset as readonly (keyof T & string)[]) {
    if (!Object.hasOwn(current, field)) continue
    delete next[field]
    note(field)
  }
  if (Object.keys(after).length === 0) return undefined
  return { next, change: { ...author, before, after } }
}

/** Newest first, bounded. */
export function withChanges(
  earlier: readonly SettingChange[] | undefined,
  ...changes: readonly SettingChange[]
): SettingChange[] {
  return [...changes, ...(earlier ?? [])].slice(0, CONTROL_LIMITS.settingChangesMax)
}

/** Who changes something, as the header `isola-actor` says it. Throws `invalid_argument`. */
export function readActor(header: string | undefined): string {
  if (header === undefined) return 'token'
  if (/^[\x20-\x7e]+$/.test(header) && header.length <= CONTROL_LIMITS.actorCharsMax) return header
  throw new IsolaError(
    'invalid_argument',
    `the header isola-actor is ${JSON.stringify(header.slice(0, 60))} (${header.length} characters): say who you are in 1 to ${CONTROL_LIMITS.actorCharsMax} printable ASCII characters, or leave it out`,
  )
}
