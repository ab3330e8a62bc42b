/**
 * A policy, and limits, on the command line: one flag a field, `--unset` for what shall come from the layer below again,
 * a table that says where each value is from, and the history. Each kind of setting describes its fields; the rest is
 * here.
 */
import type { SettingChange } from '../model/settings.ts'
import { suggest } from '../config/suggestion.ts'
import type { Flag } from './command.ts'
import { formatTable } from './output.ts'
import { usageError, type FlagValues } from './parse-arguments.ts'

/** One field, as flag and as text. */
export interface SettingField<Value> {
  /** Without `--`; also its name in tables. */
  readonly flag: string
  readonly value: string
  readonly help: string
  /** It may be given more than once. */
  readonly repeatable?: true
  /** `undefined` where it was not given. Throws `usage`. */
  read(flags: FlagValues, flag: string): Value | undefined
  format(value: Value): string
}

export type SettingFields<Values> = { readonly [Field in keyof Values]: SettingField<Values[Field]> }

/** Any of them, once a field's own type no longer matters. */
type AnyFields = Readonly<Record<string, SettingField<unknown>>>

export function settingFlags(fields: AnyFields): Record<string, Flag> {
  const flags: Record<string, Flag> = {}
  for (const { flag, value, help, repeatable } of Object.values(fields)) {
    flags[flag] = { type: repeatable === true ? 'texts' : 'text', value, help }
  }
  return {
    ...flags,
    unset: {
      type: 'texts',
      value: 'FIELD[,FIELD…]',
      help: 'take these from the layer below again: their names are those of the flags',
    },
    history: { type: 'boolean', help: 'list the changes: when, who, what' },
  }
}

/** What the flags change; `null` unsets. Throws `usage`, also for a field that is both set and unset. */
export function readChange(fields: AnyFields, flags: FlagValues): Record<string, unknown> {
  const change: Record<string, unknown> = {}
  for (const [field, { flag, read }] of Object.entries(fields)) {
    const value = read(flags, flag)
    if (value !== undefined) change[field] = value
  }
  for (const name of flags.texts('unset').flatMap((text) => text.split(','))) {
    const field = findField(fields, name.trim())
    if (change[field] !== undefined && change[field] !== null) {
      throw usageError(`--${fields[field]?.flag} is set and unset: choose one`)
    }
    change[field] = null
  }
  if (flags.has('history') && Object.keys(change).length > 0) {
    throw usageError('--history lists changes and makes none: leave it out, or the others')
  }
  return change
}

function findField(fields: AnyFields, name: string): string {
  const found = Object.entries(fields).find(([field, { flag }]) => name === flag || name === field)
  if (found !== undefined) return found[0]
  const flags = Object.values(fields).map(({ flag }) => flag)
  const hint = suggest(name, flags)
  throw usageError(
    `--unset has no field ${JSON.stringify(name)}: ${hint === undefined ? '' : `did you mean ${hint}? `}they are ${flags.join(', ')}`,
  )
}

/** One row a field: name, value, and the first layer that sets it. */
export function settingRows<Values extends object>(
  fields: SettingFields<Values>,
  values: Values,
  layers: readonly (readonly [name: string, layer: Partial<Values>])[],
): string[][] {
  return Object.entries<SettingField<unknown>>(fields as AnyFields).map(([name, { flag, format }]) => {
    const field = name as keyof Values
    const from = layers.find(([, layer]) => layer[field] !== undefined)?.[0] ?? 'default'
    return [flag, format(values[field]), from]
  })
}

/** Newest first: `2026-11-21 14:05:00Z  anna@laptop  min unset → 1`. */
export function formatHistory(fields: AnyFields, changes: readonly SettingChange[]): string {
  if (changes.length === 0) return 'nothing was ever changed'
  const rows = changes.map((change) => [
    `${change.at.slice(0, 19).replace('T', ' ')}Z`,
    change.by,
    Object.keys(change.after)
      .map((field) => formatStep(fields, field, change))
      .join(', '),
  ])
  return formatTable(['WHEN', 'WHO', 'CHANGE'], rows)
}

function formatStep(fields: AnyFields, field: string, { before, after }: SettingChange): string {
  const known = Object.hasOwn(fields, field) ? fields[field] : undefined
  const shown = (value: unknown): string => {
    if (value === null || value === undefined) return 'unset'
    return known === undefined ? JSON.stringify(value) : known.format(value)
  }
  return `${known?.flag ?? field} ${shown(before[field])} → ${shown(after[field])}`
}
